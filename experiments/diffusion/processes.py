"""Where the noise goes: into all directions, or within the subspace of the law."""

from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
import torch
from torch import Tensor

from constrained_core import GroupSum
from experiments.diffusion.schedule import Level, Schedule
from pyro_constrained import ConstrainedNormal
from rivals.layers_torch import projected


@dataclass(frozen=True)
class Process:
    """Forward process in R^n; the law A x = k is known to it, but not used.

    Attributes:
        A: sums over blocks.
    """

    schedule: Schedule
    A: GroupSum

    @cached_property
    def index(self) -> Tensor:
        """``(n,)`` block of each pixel."""
        return torch.tensor(self.A.index)

    @cached_property
    def sizes(self) -> Tensor:
        """``(m,)`` pixels of each block."""
        return torch.bincount(self.index).to(torch.get_default_dtype())

    def sums(self, images: Tensor) -> Tensor:
        """``(*batch, m)`` A x."""
        total = images.new_zeros(images.shape[:-1] + (self.A.num_groups,))
        return total.index_add(-1, self.index, images)

    def spread(self, sums: Tensor) -> Tensor:
        """``(*batch, n)`` each block's sum in equal parts: the point with A x = k nearest to 0."""
        return (sums / self.sizes)[..., self.index]

    def along_law(self, directions: Tensor) -> Tensor:
        """The part of directions that leaves A x as it is."""
        return directions - self.spread(self.sums(directions))

    def onto_law(self, images: Tensor, k: Tensor) -> Tensor:
        """The nearest images with A x = k."""
        return projected(images, self.A, k)

    def centre(self, k: Tensor) -> Tensor:
        """``(images, n)`` or ``(1,)`` c."""
        return k.new_zeros(1)

    def white(self, k: Tensor) -> Tensor:
        """``(images, n)`` e."""
        return torch.randn(len(k), self.A.shape[1], dtype=k.dtype)

    def directed(self, directions: Tensor) -> Tensor:
        """The part of directions that noise can have."""
        return directions

    def settled(self, state: Tensor, k: Tensor) -> Tensor:
        """The state without what rounding has moved it by."""
        return state

    def kernel(self, mean: Tensor, scale: Tensor, k: Tensor) -> dist.TorchDistribution:
        """The law of a state; scale is a number or ``(images, 1)``."""
        return dist.Normal(mean, scale, validate_args=False).to_event(1)

    def noised(self, images: Tensor, noise: Tensor, t: Level, k: Tensor) -> Tensor:
        """``(images, n)`` x_t of images with these e."""
        centre = self.centre(k)
        return centre + self.schedule.signal[t] * (images - centre) + self.schedule.noise[t] * noise


@dataclass(frozen=True)
class OnSubspace(Process):
    """Forward process within {x : A x = k}: every state obeys the law.

    Noise is white along the subspace, in n - m dimensions; the centre is the point of the subspace
    nearest to the origin.
    """

    def centre(self, k: Tensor) -> Tensor:
        return self.spread(k)

    def white(self, k: Tensor) -> Tensor:
        return self.along_law(super().white(k))

    def directed(self, directions: Tensor) -> Tensor:
        return self.along_law(directions)

    def settled(self, state: Tensor, k: Tensor) -> Tensor:
        return self.onto_law(state, k)

    def kernel(self, mean: Tensor, scale: Tensor, k: Tensor) -> ConstrainedNormal:
        return ConstrainedNormal(mean, scale, self.A, k, validate_args=False)
