"""A normal law of two variables, a line, and four ways from the one to the other."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from pyro_constrained import ConstrainedMultivariateNormal
from rivals.layers_torch import complete, projected

__all__ = ["METHODS", "Plane", "Shadow", "distance"]


@dataclass(frozen=True)
class Plane:
    """x ~ N(mean, covariance) in two dimensions, and the line a'x = k."""

    mean: tuple[float, float] = (1.6, 1.2)
    deviations: tuple[float, float] = (1.1, 0.4)
    correlation: float = 0.6
    normal: tuple[float, float] = (1.0, 1.0)
    k: float = 2.0

    @cached_property
    def loc(self) -> Tensor:
        return torch.tensor(self.mean, dtype=torch.float64)

    @cached_property
    def covariance(self) -> Tensor:
        scale = torch.tensor(self.deviations, dtype=torch.float64)
        together = torch.tensor([[1.0, self.correlation], [self.correlation, 1.0]])
        return scale[:, None] * together.to(scale) * scale

    @cached_property
    def A(self) -> Tensor:
        """``(1, 2)``."""
        return torch.tensor([self.normal], dtype=torch.float64)

    @property
    def level(self) -> Tensor:
        """``(1,)`` k."""
        return self.loc.new_tensor([self.k])

    @cached_property
    def law(self) -> ConstrainedMultivariateNormal:
        """The conditional law."""
        return ConstrainedMultivariateNormal(self.loc, self.covariance, self.A, self.level)

    @cached_property
    def base(self) -> torch.distributions.MultivariateNormal:
        return torch.distributions.MultivariateNormal(self.loc, self.covariance)

    @property
    def direction(self) -> Tensor:
        """``(2,)`` the unit vector along the line."""
        first, second = self.A[0] / self.A.norm()
        return torch.stack([second, -first])

    @property
    def foot(self) -> Tensor:
        """``(2,)`` the point of the line nearest to the origin, from where t is counted."""
        return self.A[0] * self.k / self.A.square().sum()

    def place(self, x: Tensor) -> np.ndarray:
        """t of points ``(*batch, 2)`` on the line."""
        return ((x - self.foot) @ self.direction).numpy()

    def at(self, t: np.ndarray) -> Tensor:
        """Points of the line."""
        return self.foot + torch.as_tensor(t)[..., None] * self.direction


@dataclass(frozen=True)
class Shadow:
    """A normal law of t."""

    mean: float
    deviation: float

    def density(self, t: np.ndarray) -> np.ndarray:
        return norm.pdf(t, self.mean, self.deviation)


def project(plane: Plane, x: Tensor) -> Tensor:
    """The nearest point of the line."""
    return projected(x, plane.A, plane.level)


def complete_last(plane: Plane, x: Tensor) -> Tensor:
    """Keep x_1, let x_2 follow."""
    return complete(x, plane.A, plane.level, torch.tensor([1]))


def complete_first(plane: Plane, x: Tensor) -> Tensor:
    """Keep x_2, let x_1 follow."""
    return complete(x, plane.A, plane.level, torch.tensor([0]))


METHODS: dict[str, Callable[[Plane, Tensor], Tensor]] = {
    "completion, x2 follows": complete_last,
    "completion, x1 follows": complete_first,
    "Euclidean projection": project,
}
"""What is done to draws of the base law. A completion changes one variable only: of all points of
this line it is as near in L1 as any."""


def shadow(plane: Plane, method: Callable[[Plane, Tensor], Tensor]) -> Shadow:
    """The law of t after an affine map of x onto the line, in closed form."""
    corners = torch.stack([torch.zeros_like(plane.loc), *torch.eye(2).to(plane.loc)])
    origin, *moved = plane.place(method(plane, corners))
    slope = np.array(moved) - origin
    mean = plane.place(method(plane, plane.loc[None]))[0]
    return Shadow(float(mean), float(np.sqrt(slope @ plane.covariance.numpy() @ slope)))


def conditional_shadow(plane: Plane) -> Shadow:
    """The law of t given that x is on the line."""
    along = plane.direction
    variance = along @ plane.law.covariance @ along
    return Shadow(float(plane.place(plane.law.mean)), float(variance.sqrt()))


def distance(one: Shadow, other: Shadow) -> float:
    """Kullback-Leibler divergence KL(one || other), in nats."""
    ratio = one.deviation / other.deviation
    gap = (one.mean - other.mean) / other.deviation
    return float((ratio**2 + gap**2 - 1) / 2 - np.log(ratio))
