"""The posterior without sampling, in NumPy: exact given the scales, on a grid of them otherwise.

Nothing here knows the library. With an orthonormal basis N of the null space of A and the shortest
solution x0 of A v = k, velocities are v = x0 + N z, and because x0 is orthogonal to N, a prior
v ~ Normal(0, tau^2 I) is z ~ Normal(0, tau^2 I) and k ~ Normal(0, tau^2 A A').
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from experiments.reconciliation.models import NOISE_SCALE, PRIOR_SCALE, Task

GRID_SIZE = 150


@dataclass(frozen=True)
class Posterior:
    """Moments, ``(times, links)`` in m/s, and means of the scales."""

    mean: np.ndarray
    stddev: np.ndarray
    tau: float
    sigma: float


@dataclass(frozen=True, eq=False)
class Oracle:
    """Posterior of a task given readings ``(times, meters)``."""

    task: Task
    readings: np.ndarray

    @cached_property
    def basis(self) -> np.ndarray:
        """``(links, free)`` N."""
        return linalg.null_space(self.task.A)

    @cached_property
    def shortest(self) -> np.ndarray:
        """``(times, links)`` x0."""
        return (np.linalg.pinv(self.task.A) @ self.task.k.T).T

    @cached_property
    def seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Singular value decomposition U, s, V' of what the meters see of z."""
        return np.linalg.svd(self.basis[self.task.meters])

    @cached_property
    def surprise(self) -> np.ndarray:
        """``(times, meters)`` U' (y - x0 at the meters)."""
        return (self.readings - self.shortest[:, self.task.meters]) @ self.seen[0]

    def posterior(self) -> Posterior:
        """Mean and standard deviation over the scales that are not known."""
        taus = _grid(self.task.tau, PRIOR_SCALE)
        sigmas = _grid(self.task.sigma, NOISE_SCALE)
        tau, sigma = (scale.ravel() for scale in np.meshgrid(taus, sigmas, indexing="ij"))
        weight = _normalised(self.log_density(tau, sigma))
        means, variances = self.moments(tau, sigma)
        mean = np.tensordot(weight, means, 1)
        variance = np.tensordot(weight, variances[:, None] + (means - mean) ** 2, 1)
        return Posterior(mean, np.sqrt(variance), float(weight @ tau), float(weight @ sigma))

    def log_density(self, tau: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """``(grid,)`` log p(tau, sigma, k, y) in log tau and log sigma, but for a constant."""
        half_normal = -0.5 * ((tau / PRIOR_SCALE) ** 2 + (sigma / NOISE_SCALE) ** 2)
        length = np.einsum("ti,ti", self.shortest, self.shortest)  # k' (A A')^-1 k
        demand = -0.5 * length / tau**2 - self.task.k.size * np.log(tau)
        variance = sigma[:, None] ** 2 + (tau[:, None] * self._padded(self.readings.shape[1])) ** 2
        squares = np.square(self.surprise).sum(0)
        log_dets = len(self.readings) * np.log(variance)
        readings = -0.5 * (squares / variance + log_dets).sum(-1)
        return half_normal + demand + readings + np.log(tau) + np.log(sigma)

    def moments(self, tau: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means ``(grid, times, links)`` and variances ``(grid, links)`` given the scales."""
        free, num_meters = self.basis.shape[1], len(self.task.meters)
        shared = min(free, num_meters)
        s, directions = self._padded(free), self.basis @ self.seen[2].T
        precision = 1 / tau[:, None] ** 2 + (s / sigma[:, None]) ** 2
        gain = (s / sigma[:, None] ** 2 / precision)[:, None, :shared]
        centre = gain * self.surprise[:, :shared]
        means = self.shortest + centre @ directions[:, :shared].T
        return means, (1 / precision) @ np.square(directions).T

    def _padded(self, size: int) -> np.ndarray:
        """The singular values and zeros."""
        singular = self.seen[1]
        return np.concatenate([singular, np.zeros(max(0, size - len(singular)))])[:size]


def _grid(known: float | None, prior_scale: float) -> np.ndarray:
    """Equal steps of the logarithm, far beyond where the posterior is."""
    if known is not None:
        return np.array([known])
    return prior_scale * np.geomspace(1e-3, 5.0, GRID_SIZE)


def _normalised(log_weight: np.ndarray) -> np.ndarray:
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()
