"""Images scaled to [-1, 1], and the sums of their blocks."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from constrained_core import GroupSum
from experiments.diffusion.settings import Study
from experiments.images.critic import Critic, trained_critic
from experiments.images.data import Split, load
from experiments.images.laws import block_sums
from experiments.images.quality import largest_violation, score_images

CRITICS = Path("outputs") / "experiments" / "critics"
HALF_RANGE = 0.5
"""A pixel in [0, 1] is .5 + .5 of the scaled one."""


@dataclass(frozen=True)
class Problem:
    """A set of images under a law.

    Attributes:
        real: ``(images, n)`` test images in [0, 1] that give the sums.
        labels: ``(images,)`` their classes.
    """

    split: Split
    A: GroupSum
    critic: Critic
    real: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, study: Study) -> "Problem":
        """The images of a study; the critic is trained if it is not there yet."""
        split = load(study.data)
        critic = trained_critic(split, CRITICS / f"{study.data}.pt")
        chosen = slice(study.num_images)
        A = block_sums(split.side, study.block)
        return cls(split, A, critic, split.test[chosen], split.test_labels[chosen])

    @property
    def k(self) -> np.ndarray:
        """``(images, m)`` sums of the test images."""
        return self.real @ self.A.to_dense().T

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.split.train)

    @property
    def dimensions(self) -> int:
        """n - m, of the subspace."""
        m, n = self.A.shape
        return n - m

    def batch(self, rows: Tensor) -> Tensor:
        """``(rows, n)`` scaled training images with fresh noise within their grey levels."""
        uniform = torch.rand(len(rows), self.A.shape[1]).numpy()
        return scaled(self.split.noised(uniform, rows.numpy()))

    def judge(self, images: Tensor) -> dict[str, float]:
        """Scores of scaled images, one drawn for the sums of each real one."""
        pixels = from_scaled(images)
        scores = score_images(self.critic, self.real, pixels, self.labels)
        return scores | {"violation": largest_violation(pixels, self.A, self.k)}


def scaled(pixels: np.ndarray) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return torch.as_tensor((pixels - 0.5) / HALF_RANGE, dtype=torch.get_default_dtype())


def from_scaled(images: Tensor) -> np.ndarray:
    """From [-1, 1] to [0, 1], in double precision."""
    return 0.5 + HALF_RANGE * images.double().numpy()


def nats_of_pixels(log_density: float, dimensions: int) -> float:
    """From a log density of scaled images to that of pixels in [0, 1]."""
    return log_density - dimensions * math.log(HALF_RANGE)
