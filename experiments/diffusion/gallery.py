"""Images kept for the pictures, so that these can be drawn anew without the networks."""

import re
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.diffusion.problem import from_scaled

NUM_IMAGES = 8
NUM_STATES = 9


class Gallery:
    """States of the first few images, one file for each line of the table.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, data: str, method: str, sampler: str, states: list[Tensor]) -> None:
        """Write some of the states, evenly spaced, of the first images."""
        path = self._path(data, method, sampler)
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = np.linspace(0, len(states) - 1, NUM_STATES).round().astype(int)
        np.save(path, np.stack([from_scaled(states[i][:NUM_IMAGES]) for i in chosen]))

    def states(self, data: str, method: str, sampler: str) -> np.ndarray | None:
        """``(states, images, n)`` pixels, the images last; None if there is no file."""
        path = self._path(data, method, sampler)
        return np.load(path) if path.exists() else None

    def _path(self, data: str, method: str, sampler: str) -> Path:
        words = re.findall(r"\w+", f"{data} {method} {sampler}")
        return self.folder / f"{'_'.join(words)}.npy"
