"""Models whose covariance depends on one number that is learned: posteriors by quadrature.

u ~ prior, each row of the data ~ N(x, noise^2) of an x of its own, x ~ N(0, cov(u)) given A x = k.
Given u everything is Gaussian, so that one-dimensional quadrature over u is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special, stats

from tests import oracles
from tests.chance import of_chain_mean, of_frequency
from tests.oracles import Problem


@dataclass(frozen=True, eq=False)
class Learned:
    """A model of this kind.

    Attributes:
        prior: of u, as SciPy has it.
        given: the law of x for a value of u.
        data: ``(repetitions, n)``.
        threshold: of the event u < threshold, whose probability is asked for.
    """

    prior: Any
    given: Callable[[float], Problem]
    data: np.ndarray
    noise: float
    threshold: float

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of u, on both sides of the threshold, and the logarithms of their prior masses."""
        node, weight = np.polynomial.legendre.leggauss(100)
        low, high = self.prior.ppf([1e-15, 1 - 1e-15])
        at, mass = [], []
        for start, stop in ((low, self.threshold), (self.threshold, high)):
            at.append((start + stop) / 2 + (stop - start) / 2 * node)
            mass.append(np.log(weight * (stop - start) / 2) + self.prior.logpdf(at[-1]))
        return np.concatenate(at), np.concatenate(mass)

    @cached_property
    def _log_joint(self) -> np.ndarray:
        at, log_mass = self._pieces
        return log_mass + np.array([self._log_likelihood(self.given(u)) for u in at])

    def _log_likelihood(self, problem: Problem) -> float:
        cov = oracles.covariance(problem) + self.noise**2 * np.eye(problem.loc.size)
        law = stats.multivariate_normal(oracles.mean(problem), cov)
        return float(np.sum(law.logpdf(self.data)))

    @cached_property
    def log_evidence(self) -> float:
        return float(special.logsumexp(self._log_joint))

    @cached_property
    def _weights(self) -> np.ndarray:
        return np.exp(self._log_joint - self.log_evidence)

    @cached_property
    def mean(self) -> float:
        return float(self._weights @ self._pieces[0])

    @cached_property
    def deviation(self) -> float:
        return float(np.sqrt(self._weights @ (self._pieces[0] - self.mean) ** 2))

    @cached_property
    def probability_below(self) -> float:
        """Posterior P(u < threshold)."""
        return float(self._weights @ (self._pieces[0] < self.threshold))

    @cached_property
    def latent(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation ``(repetitions, n)`` of x."""
        moments = [self._latent_given(self.given(u)) for u in self._pieces[0]]
        means = np.array([mean for mean, _ in moments])
        squares = means**2 + np.array([variance for _, variance in moments])
        mean, square = (np.tensordot(self._weights, part, 1) for part in (means, squares))
        return mean, np.sqrt(square - mean**2)

    def _latent_given(self, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        """Conditioning on data and on A x = k commute."""
        precision = np.linalg.inv(problem.cov)
        cov = np.linalg.inv(precision + np.eye(problem.loc.size) / self.noise**2)
        locs = (precision @ problem.loc + self.data / self.noise**2) @ cov
        found = [replace(problem, loc=loc, cov=(cov + cov.T) / 2) for loc in locs]
        means = np.array([oracles.mean(one) for one in found])
        return means, np.broadcast_to(oracles.variance(found[0]), means.shape)

    def p_values(self, u: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Of a chain of u ``(number,)`` and x ``(number, repetitions, n)``: the mean of u, how
        often it is below the threshold, and the means of x."""
        mean, deviation = (part.ravel() for part in self.latent)
        found = [of_chain_mean(u, self.mean, self.deviation)]
        found.append(of_frequency(u < self.threshold, self.probability_below))
        series = x.reshape(len(x), -1).T
        for one, centre, spread in zip(series, mean, deviation, strict=True):
            found.append(of_chain_mean(one, centre, spread))
        return np.array(found)


ROW, TOTAL = np.array([1.0, 2.5, -1.0]), 0.4


def correlated(r: Any, stack: Callable) -> Any:
    """A covariance with one correlation that is learned, in NumPy or in a framework.

    The first entry of ``ROW`` times its Cholesky factor is 0.7 + 2.5 r.
    """
    one, zero = 1 + 0 * r, 0 * r
    rows = [[one, r, 0.3 * one], [r, one, zero], [0.3 * one, zero, one]]
    return stack([stack(row, -1) for row in rows], -2)


def _correlated(r: float) -> Problem:
    covariance = correlated(np.float64(r), np.stack)
    return Problem(np.zeros(3), covariance, ROW[None], np.array([TOTAL]))


CORRELATION = Learned(
    prior=stats.uniform(-0.9, 1.8),
    given=_correlated,
    data=np.array([[1.1, -0.4, -0.5], [-0.9, 0.6, 0.1], [0.7, 0.2, 1.3]]),
    noise=0.6,
    threshold=-0.28,
)
"""The threshold is where the sign of that entry changes."""

SIZE = 6
_STEPS = np.diff(np.eye(SIZE), axis=0)
LAPLACIAN = _STEPS.T @ _STEPS
"""Of a path of ``SIZE`` places: singular, since it does not see the level."""


def _intrinsic(log_tau: float) -> Problem:
    """Any proper precision that is the same on the null space of the row has the same law."""
    precision = np.exp(log_tau) * LAPLACIAN + np.ones((SIZE, SIZE))
    return Problem(np.zeros(SIZE), np.linalg.inv(precision), np.ones((1, SIZE)), np.zeros(1))


INTRINSIC = Learned(
    prior=stats.norm(0.5, 1.0),
    given=_intrinsic,
    data=np.array([[-0.8, -0.3, -0.4, 0.2, 0.9, 0.5]]),
    noise=0.3,
    threshold=0.5,
)


@dataclass(frozen=True, eq=False)
class Path:
    """Parameters of a law that move smoothly with t in [-1, 1].

    Attributes:
        law: name of the class.
        parameters: for t ``(number,)``, each ``(number, ...)``.
        covariances: the same as matrices ``(number, n, n)``.
    """

    law: str
    parameters: Callable[[np.ndarray], dict[str, np.ndarray]]
    covariances: Callable[[np.ndarray], np.ndarray]
    A: np.ndarray
    k: Any

    def problems(self, t: np.ndarray) -> list[Problem]:
        A, k = np.atleast_2d(self.A), np.atleast_1d(self.k)
        return [Problem(np.zeros(A.shape[1]), cov, A, k) for cov in self.covariances(t)]

    def check(self, maps_of: Callable[[np.ndarray], np.ndarray]) -> None:
        """x = c + M z has the mean and covariance of the law, and M is continuous.

        Args:
            maps_of: for values of t, x of the noise z = 0 and of each unit vector: ``(1 + size,
                number, n)``.
        """
        t = np.linspace(-1, 1, 81)
        maps = maps_of(t)
        centre, directions = maps[0], maps[1:] - maps[0]
        for i, problem in enumerate(self.problems(t)):
            M = directions[:, i].T
            tolerance = 1e-11 * oracles.condition(problem.cov)
            np.testing.assert_allclose(centre[i], oracles.mean(problem), atol=tolerance)
            np.testing.assert_allclose(M @ M.T, oracles.covariance(problem), atol=tolerance)
        steps, halves = (np.abs(np.diff(one, axis=1)).max() for one in (maps[:, ::2], maps))
        assert halves < 0.75 * steps, "a step that does not shrink with its interval is a jump"


def _correlations(t: np.ndarray) -> np.ndarray:
    return correlated(-0.1 + 0.8 * t, np.stack)


def _scales(t: np.ndarray) -> np.ndarray:
    return np.exp(np.multiply.outer(t, [1.0, -2.0, 0.5, 1.5]))


def _factors(t: np.ndarray) -> np.ndarray:
    """Entries change sign at different values of t."""
    one = np.ones_like(t)
    columns = [np.stack([2 * t, one, -t, 0.5 * one], -1), np.stack([one, t, t**2, t - 0.3], -1)]
    return np.stack(columns, -1)


def _low_rank(t: np.ndarray) -> np.ndarray:
    factor = _factors(t)
    return factor @ factor.swapaxes(-1, -2) + np.diag(_DIAGONAL)


_DIAGONAL = np.array([0.5, 1.0, 0.3, 2.0])
_STRUCTURAL_ZEROS = np.array([[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, -1.0, 1.0]])
_PAIR = np.array([1.0, -0.5])
_DENSE = "ConstrainedMultivariateNormal"

PATHS = {
    "covariance": Path(
        _DENSE, lambda t: {"covariance_matrix": _correlations(t)}, _correlations, ROW, TOTAL
    ),
    "precision": Path(
        _DENSE,
        lambda t: {"precision_matrix": _correlations(t)},
        lambda t: np.linalg.inv(_correlations(t)),
        ROW,
        TOTAL,
    ),
    "tril": Path(
        _DENSE,
        lambda t: {"scale_tril": np.linalg.cholesky(_correlations(t))},
        _correlations,
        ROW,
        TOTAL,
    ),
    "scale": Path(
        "ConstrainedNormal",
        lambda t: {"scale": _scales(t)},
        lambda t: _scales(t)[..., None] ** 2 * np.eye(4),
        _STRUCTURAL_ZEROS,
        _PAIR,
    ),
    "factor": Path(
        "ConstrainedLowRankMultivariateNormal",
        lambda t: {"cov_factor": _factors(t), "cov_diag": _DIAGONAL},
        _low_rank,
        _STRUCTURAL_ZEROS,
        _PAIR,
    ),
}
