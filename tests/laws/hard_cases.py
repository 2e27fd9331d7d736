"""Constraints and scales that strain the residual promise; larger than the table of cases."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.cases import PARAMETERS, Case, Groups, incidence


def _uniform(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.ones(n)


def _mixed(rng: np.random.Generator, n: int) -> np.ndarray:
    """A scale of its own for each coordinate, 1e-6 to 1e6."""
    return 10.0 ** rng.uniform(-6, 6, n)


def _two_worlds(rng: np.random.Generator, n: int) -> np.ndarray:
    """The first half of the coordinates small, the second large."""
    return np.where(np.arange(n) < n // 2, 1e-6, 1e6)


def _dense(rng, n):
    return rng.normal(size=(n // 2, n))


def _near_parallel(rng, n):
    first, step = rng.normal(size=(2, n))
    return np.stack([first, first + 1e-4 * step])


def _badly_scaled(rng, n):
    return rng.normal(size=(4, n)) * np.array([[1e-8], [1.0], [1e-4], [1e8]])


def _chain(rng, n):
    """x_i + x_(i+1): each row meets the next in one variable."""
    return (np.eye(n) + np.eye(n, k=1))[:-2]


def _pairs(rng, n):
    """Disjoint pairs."""
    return np.repeat(np.eye(n // 2), 2, axis=1)


def _network(rng, n):
    """Flow balance at every node of a ring with chords: one redundant row, k = 0."""
    nodes = n // 2
    ring = [(i, (i + 1) % nodes) for i in range(nodes)]
    chords = [(i, (i + 2) % nodes) for i in range(n - nodes)]
    return incidence(ring + chords)


def _groups(rng, n):
    return Groups(np.sort(rng.integers(0, n // 3, n)), n // 3)


@dataclass(frozen=True)
class Hard:
    params: str
    constraint: Callable[[np.random.Generator, int], np.ndarray | Groups]
    n: int = 12
    scales: Callable[[np.random.Generator, int], np.ndarray] = _uniform
    scale: float = 1.0
    homogeneous: bool = False

    @property
    def name(self) -> str:
        parts = [self.params, self.constraint.__name__.strip("_"), self.scales.__name__.strip("_")]
        return "-".join([*parts, f"{self.scale:g}", f"{self.n}"])

    def build(self) -> Case:
        rng = np.random.default_rng(self.n)
        scales = self.scale * self.scales(rng, self.n)
        law, rest = PARAMETERS[self.params]
        params = {
            name: _rescaled(name, value, scales)
            for name, value in rest(rng, self.n, (), 1.0).items()
        }
        params["loc"] = scales * rng.normal(size=self.n)
        A = self.constraint(rng, self.n)
        x = params["loc"] + scales * rng.normal(size=self.n)
        dense = A.dense() if isinstance(A, Groups) else A
        return Case(self.name, law, params, A, dense @ x * (not self.homogeneous))


def _rescaled(name: str, value: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The parameter of diag(scales) x."""
    if name == "df":
        return value
    if name == "covariance_matrix":
        return value * scales * scales[:, None]
    if name == "cov_diag":
        return value * scales**2
    return value * (scales if value.ndim == 1 else scales[:, None])


def _ones(rng, n):
    return np.ones(n)


def _full(rng, n):
    return rng.normal(size=(n, n))


FAMILIES = ("covariance", "diagonal", "low_rank", "student_tril")

HARD_CASES = tuple(
    hard.build()
    for hard in (
        *(Hard(params, _dense, scale=s) for params in FAMILIES for s in (1e-6, 1.0, 1e6)),
        *(Hard(params, _near_parallel) for params in FAMILIES),
        *(Hard(params, _badly_scaled) for params in FAMILIES),
        *(Hard(params, _pairs, scales=_mixed) for params in FAMILIES),
        *(Hard(params, _groups, scales=_mixed) for params in FAMILIES),
        *(Hard(params, _chain, scales=_two_worlds) for params in FAMILIES),
        *(Hard(params, _chain, scales=_mixed) for params in ("diagonal", "low_rank")),
        *(Hard(params, _network, homogeneous=True) for params in FAMILIES),
        *(Hard(params, _network, scales=_two_worlds, homogeneous=True) for params in FAMILIES),
        *(Hard(params, _full) for params in FAMILIES),
        Hard("covariance", _ones, n=200),
        Hard("diagonal", _ones, n=2000),
        Hard("low_rank", _ones, n=2000),
        Hard("diagonal", _ones, n=2000, scales=_mixed),
        Hard("covariance", _dense, n=100),
    )
)

# A dense factor of the covariance adds up numbers 12 decades apart, more than the 7 digits of
# float32 hold: rows that overlap in variables of such scales are promised in float64 only.
FLOAT64_CASES = tuple(
    Hard(params, _chain, scales=_mixed).build() for params in ("covariance", "student_tril")
)
