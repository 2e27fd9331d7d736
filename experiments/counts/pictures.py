"""Counts drawn by each method for the same sums, kept on disk and drawn."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from experiments.counts.comparison import METHODS, REAL
from experiments.counts.photons import Detector
from experiments.counts.scoring import Drawn
from experiments.counts.settings import Settings

__all__ = ["Gallery"]

NUM_IMAGES = 6


class Gallery:
    """The first images of each method, in one file that is rewritten after each.

    Args:
        path: an ``.npz`` file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _arrays(self) -> dict[str, np.ndarray]:
        if not self.path.exists():
            return {}
        with np.load(self.path) as file:
            return dict(file)

    def keep(self, key: Mapping[str, str | int], drawn: Drawn) -> None:
        """Add the draws of a run, ``(2, images, n)``."""
        arrays = self._arrays()
        arrays[_place(key["set"], key["law"], key["method"])] = _as_array(drawn)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.path, **arrays)

    def draw(self, path: Path, settings: Settings) -> None:
        """A picture of the first set under the first law: a line for each method."""
        case, arrays = (settings.sets[0], settings.laws[0]), self._arrays()
        lines = {name: arrays.get(_place(*case, name)) for name in (REAL, *METHODS)}
        lines = {name: images for name, images in lines.items() if images is not None}
        figure, axes = plt.subplots(
            len(lines), 2, figsize=(11, 0.3 + 0.8 * len(lines)), squeeze=False
        )
        real = lines[REAL][0]
        side = round(real.shape[-1] ** 0.5)
        A = Detector.named(case[1], side).A.to_dense()
        for row, (name, images) in zip(axes, lines.items(), strict=True):
            missed = np.abs((images - real) @ A.T).max()
            for axis, strip in zip(row, images, strict=True):
                picture = np.hstack(strip.reshape(-1, side, side))
                axis.imshow(picture, cmap="magma", vmin=0, vmax=1.5 * settings.exposure)
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel(
                f"{name}\nmisses by {missed:.0f}", rotation=0, ha="right", va="center", fontsize=8
            )
        axes[0, 0].set_title("codes of the encoder, which sees the image", fontsize=9)
        axes[0, 1].set_title("codes of the prior: the sums are all that is known", fontsize=9)
        figure.tight_layout()
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _place(*names: str | int) -> str:
    return ", ".join(map(str, names))


def _as_array(drawn: Drawn) -> np.ndarray:
    """Small whole numbers."""

    def first(images: Tensor) -> np.ndarray:
        return images[:NUM_IMAGES].numpy().astype(np.int16)

    return np.stack([first(drawn.copies), first(drawn.samples)])
