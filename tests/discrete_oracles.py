"""Exact answers for discrete laws under A x = k, by enumeration; no torch, no jax, no core."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special, stats

BOX = 10**4
"""Where the base law is unbounded, the largest value that the linear programme looks for."""


@dataclass(frozen=True, eq=False)
class DiscreteProblem:
    """One unbatched law: independent variables with log pmf `family(params)` given A x = k.

    ``params`` is the rate (n,), the probs or logits (n,), or the probs (n, C), as ``family`` says.
    """

    family: str
    params: np.ndarray
    A: np.ndarray
    k: np.ndarray

    @property
    def n(self) -> int:
        return len(self.params)

    @cached_property
    def upper(self) -> np.ndarray:
        """The largest value of every variable on the fiber, or a bound on it."""
        base = {"poisson": BOX, "bernoulli": 1, "logits": 1}.get(
            self.family, np.shape(self.params)[-1] - 1
        )
        if base < BOX:
            return np.full(self.n, base)
        return np.array([largest_value(self.A, self.k, i) for i in range(self.n)])

    @cached_property
    def points(self) -> np.ndarray:
        """(count, n) all of the fiber in lexicographic order; a free Poisson is cut far out."""
        return fiber(self.A, self.k, self.upper)

    @cached_property
    def log_weights(self) -> np.ndarray:
        """(count,) log probability of the points under the base law."""
        x = self.points
        if self.family == "poisson":
            return stats.poisson.logpmf(x, self.params).sum(-1)
        if self.family == "logits":
            return self.points @ self.params  # up to a constant; of finite log odds
        if self.family == "bernoulli":
            with np.errstate(divide="ignore"):
                return np.where(x == 1, np.log(self.params), np.log1p(-self.params)).sum(-1)
        with np.errstate(divide="ignore"):
            table = np.log(self.params / self.params.sum(-1, keepdims=True))
        return table[np.arange(self.n), x].sum(-1)

    @cached_property
    def log_partition(self) -> float:
        return float(special.logsumexp(self.log_weights))

    @cached_property
    def pmf(self) -> np.ndarray:
        return np.exp(self.log_weights - self.log_partition)

    @cached_property
    def mean(self) -> np.ndarray:
        return self.pmf @ self.points

    @cached_property
    def variance(self) -> np.ndarray:
        return self.pmf @ (self.points - self.mean) ** 2

    @cached_property
    def covariance(self) -> np.ndarray:
        deviation = self.points - self.mean
        return deviation.T @ (self.pmf[:, None] * deviation)

    @cached_property
    def entropy(self) -> float:
        return float(special.entr(self.pmf).sum())

    def divergence(self, other: "DiscreteProblem") -> float:
        """KL to another law on the same fiber; infinite where that forbids what this has."""
        return float(special.rel_entr(self.pmf, other.pmf).sum())

    def marginals(self, num_values: int) -> np.ndarray:
        """(n, U) P(x_i = u | A x = k)."""
        hits = self.points[..., None] == np.arange(num_values)
        return np.einsum("c,cnu->nu", self.pmf, hits)

    def log_marginals(self, num_values: int) -> np.ndarray:
        """Their logarithms, of however small ones."""
        hits = self.points[..., None] == np.arange(num_values)
        terms = np.where(hits, (self.log_weights - self.log_partition)[:, None, None], -np.inf)
        largest = terms.max(0)
        shift = np.where(np.isfinite(largest), largest, 0)
        with np.errstate(divide="ignore"):
            return np.log(np.exp(terms - shift).sum(0)) + shift


def fiber(A: np.ndarray, k: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """All integer x with A x = k, 0 <= x <= upper, column by column."""
    points, rest = np.zeros((1, 0), int), k[None]
    for j, largest in enumerate(upper):
        values = np.arange(largest + 1)
        later = A[:, j + 1 :] * upper[j + 1 :]
        rest = rest[:, None] - values[:, None] * A[:, j]
        low, high = np.minimum(later, 0).sum(-1), np.maximum(later, 0).sum(-1)
        row, value = np.nonzero(((rest >= low) & (rest <= high)).all(-1))
        points, rest = np.column_stack([points[row], value]), rest[row, value]
    return points.astype(int)


def largest_value(A: np.ndarray, k: np.ndarray, i: int) -> int:
    """The largest x_i of real points x >= 0 with A x = k; a few dozens where A has no x_i."""
    if not A[:, i].any():
        return 60
    cost = -np.eye(A.shape[1])[i]
    found = optimize.linprog(cost, A_eq=A, b_eq=k, bounds=(0, BOX))
    return int(np.floor(-found.fun + 1e-7)) if found.success else 0


def has_direction(A: np.ndarray) -> bool:
    """Whether some d >= 0, zero only in columns of zeros, has A d = 0: the fiber is unbounded."""
    used = np.flatnonzero(A.any(axis=0))
    if used.size == 0:
        return False
    found = optimize.linprog(
        -np.ones(used.size), A_eq=A[:, used], b_eq=np.zeros(len(A)), bounds=(0, 1)
    )
    return bool(found.fun < -1e-7)
