"""Small grey images for two cores: 8 x 8 digits as they are, larger sets resampled to 16 x 16.

Pixels are whole grey levels 0 to L - 1; noise uniform on [0, 1) and division by L make reals in
[0, 1) of them, which have a density.
"""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from experiments.images.sources import FOLDER, SOURCES, Images, fetch

__all__ = ["NAMES", "Split", "load", "resampled"]

DIGITS = "digits"
NAMES = (DIGITS, *SOURCES)

DIGIT_LEVELS = 17
"""The pixels of scikit-learn's digits are the integers 0, ..., 16."""

LEVELS = 32
"""The other sets keep five of their eight bits, so that no density hangs on flat backgrounds."""

SIDE = 16


class Split(NamedTuple):
    """Images to train on and others to judge by.

    Attributes:
        train: ``(images, n)`` grey levels, whole numbers.
        test: ``(images, n)`` reals in [0, 1): they got their noise once, the same for all methods.
        train_labels, test_labels: ``(images,)`` classes, 0 to 9.
        levels: L.
        side: of an image; n = side^2.
    """

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    levels: int
    side: int

    def noised(self, uniform: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Reals in [0, 1) of training images, with noise of the same shape."""
        return (self.train[rows] + uniform) / self.levels


def load(name: str, num_train: int = 20_000, num_test: int = 2_000) -> Split:
    """A set by name, a fixed part of it for training and another for testing, classes alike.

    Args:
        name: one of ``NAMES``.
        num_train, num_test: at most so many images of each part; of the digits, whose 1,797 images
            are few, 397 at most are for testing.

    Raises:
        RuntimeError: the set is not there and cannot be fetched.
    """
    images = _digits() if name == DIGITS else _fetched(name)
    levels = DIGIT_LEVELS if name == DIGITS else LEVELS
    side = images.pixels.shape[-1]
    rows = images.pixels.reshape(-1, side * side).astype(float)
    num_test = min(num_test, 397 if name == DIGITS else len(rows) // 5)
    num_train = min(num_train, len(rows) - num_test)
    train, test, train_labels, test_labels = train_test_split(
        rows,
        images.labels.astype(int),
        train_size=num_train,
        test_size=num_test,
        stratify=images.labels,
        random_state=0,
    )
    noise = np.random.default_rng(0).uniform(size=test.shape)
    return Split(train, (test + noise) / levels, train_labels, test_labels, levels, side)


def _digits() -> Images:
    digits = load_digits()
    return Images(digits.images, digits.target)


def _fetched(name: str) -> Images:
    with np.load(fetch(name, FOLDER)) as file:
        pixels, labels = file["pixels"], file["labels"]
    grey = resampled(pixels, SIDE)  # 0 to 255
    return Images(np.floor(grey * (LEVELS / 256)).clip(0, LEVELS - 1), labels)


def resampled(pixels: np.ndarray, side: int) -> np.ndarray:
    """``(images, side, side)`` means over the area that each new pixel covers."""
    weights = _coverage(pixels.shape[-1], side)
    return np.einsum("ij,bjk,lk->bil", weights, pixels, weights, optimize=True)


def _coverage(old: int, new: int) -> np.ndarray:
    """``(new, old)`` shares of old pixels in new ones along one axis."""
    ends = np.arange(new + 1) * (old / new)
    first, last = ends[:-1, None], ends[1:, None]
    cells = np.arange(old)
    overlap = np.minimum(last, cells + 1) - np.maximum(first, cells)
    return overlap.clip(0) * (new / old)
