"""Images as a camera counts them: a number of photons in each pixel, and the sums it tells."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from constrained_core import GroupSum
from experiments.images.data import Split
from experiments.images.laws import block_sums

__all__ = ["BLOCKS", "Detector", "Photons", "expose"]

BLOCKS = {"total": None, "4 x 4 blocks": 4}
"""Law -> width of the blocks whose sums are told; none is the whole image."""


class Detector:
    """What is told of the counts: k = A x, a sum for each group of pixels.

    Args:
        A: the groups.
    """

    def __init__(self, A: GroupSum) -> None:
        self.A, self.index = A, torch.tensor(A.index)

    @classmethod
    def named(cls, law: str, side: int) -> "Detector":
        """By a key of ``BLOCKS``, for images of ``side x side`` pixels."""
        return cls(block_sums(side, BLOCKS[law] or side))

    @cached_property
    def _matrix(self) -> Tensor:
        return torch.as_tensor(self.A.to_dense(), dtype=torch.get_default_dtype())

    def sums(self, x: Tensor) -> Tensor:
        """``(*batch, m)`` A x of ``(*batch, n)`` x; exact for counts."""
        return x @ self._matrix.to(x).T

    def own_sum(self, k: Tensor) -> Tensor:
        """``(*batch, n)`` for each pixel the sum of its group, of ``(*batch, m)`` k."""
        return k[..., self.index]

    def rescaled(self, rate: Tensor, k: Tensor) -> Tensor:
        """``(*batch, n)`` the rates times one factor for each group, so that their sums are k."""
        return rate * self.own_sum(k / self.sums(rate))


class Photons(NamedTuple):
    """Counts x_i ~ Poisson(exposure * brightness_i), independent.

    Attributes:
        train, test: ``(images, n)`` counts.
        train_labels, test_labels: ``(images,)`` classes.
        test_rate: ``(images, n)`` what the counts were drawn with: exposure * brightness.
    """

    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor
    test_rate: Tensor


def expose(split: Split, exposure: float) -> Photons:
    """Every image once, the same for all methods and seeds.

    The brightness of a pixel is its grey level with uniform noise, in (0, 1), as all experiments
    on images have it, so that dark pixels count a photon now and then.
    """
    rng = np.random.default_rng(1)  # another than the one of the noise of the test images
    brightness = split.noised(rng.uniform(size=split.train.shape))
    rates = [exposure * part for part in (brightness, split.test)]
    train, test = (torch.as_tensor(rng.poisson(rate), dtype=torch.float32) for rate in rates)
    labels = [torch.as_tensor(part) for part in (split.train_labels, split.test_labels)]
    return Photons(train, test, *labels, torch.as_tensor(rates[1], dtype=torch.float32))
