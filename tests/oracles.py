"""Exact answers for laws under A x = k, in NumPy and SciPy only.

Everything is computed in coordinates z of the subspace, x = x0 + N z with N an orthonormal basis
of the null space from an SVD.  The library conditions by kriging and scores by the co-area
formula, so no step is shared with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import mpmath
import numpy as np
from scipy import integrate, linalg, stats

RANK_TOLERANCE = 1e-9
"""Relative to the largest singular value, after the rows are scaled to unit norm."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One unbatched law: N(loc, cov), or multivariate t with shape matrix cov, given A x = k."""

    loc: np.ndarray
    cov: np.ndarray
    A: np.ndarray
    k: np.ndarray
    df: float = np.inf

    @cached_property
    def _unit_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        norms = np.linalg.norm(self.A, axis=-1)
        kept = norms > 0
        return self.A[kept] / norms[kept, None], self.k[kept] / norms[kept], norms[kept]

    @cached_property
    def _svd(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.linalg.svd(self._unit_rows[0])

    @cached_property
    def rank(self) -> int:
        singular = self._svd[1]
        return int(np.sum(singular > RANK_TOLERANCE * singular.max(initial=0.0)))

    @property
    def row_condition(self) -> float:
        """Of the rows at unit length, redundant directions left out."""
        singular = self._svd[1][: self.rank]
        return float(singular[0] / singular[-1]) if self.rank else 1.0

    @property
    def dimension(self) -> int:
        """Of the subspace: n - r."""
        return self.loc.size - self.rank

    @property
    def row_space(self) -> np.ndarray:
        """Orthonormal columns, (n, r)."""
        return self._svd[2][: self.rank].T

    @property
    def null_space(self) -> np.ndarray:
        """Orthonormal columns, (n, n - r)."""
        return self._svd[2][self.rank :].T

    @cached_property
    def origin(self) -> np.ndarray:
        """The solution of A x = k of least norm."""
        left, singular, _ = self._svd
        solved = left[:, : self.rank].T @ self._unit_rows[1] / singular[: self.rank]
        return self.row_space @ solved

    @cached_property
    def log_volume(self) -> float:
        """Log of the factor by which A stretches its row space, 1/2 log pdet(A A')."""
        unit, _, norms = self._unit_rows
        if self.rank == len(unit):
            return float(np.sum(np.log(self._svd[1])) + np.sum(np.log(norms)))
        singular = np.linalg.svd(self.A, compute_uv=False)
        return float(np.sum(np.log(singular[: self.rank])))

    @cached_property
    def _normal_reduced(self) -> tuple[np.ndarray, np.ndarray]:
        basis = self.null_space
        weighted = linalg.solve(self.cov, basis, assume_a="pos").T
        covariance = np.linalg.inv(weighted @ basis)
        return covariance @ weighted @ (self.loc - self.origin), (covariance + covariance.T) / 2

    @property
    def centre(self) -> np.ndarray:
        """Mean of z, (n - r,)."""
        return self._normal_reduced[0]

    @cached_property
    def surprise(self) -> float:
        """Squared Mahalanobis distance from loc to the subspace."""
        gap = mean(self) - self.loc
        return float(gap @ linalg.solve(self.cov, gap, assume_a="pos"))

    @property
    def conditional_df(self) -> float:
        return self.df + self.rank

    @cached_property
    def shape(self) -> np.ndarray:
        """Shape matrix of z: its covariance for the Gaussian."""
        if np.isinf(self.df):
            return self._normal_reduced[1]
        inflation = (self.df + self.surprise) / self.conditional_df
        return self._normal_reduced[1] * inflation

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        return (x - self.origin) @ self.null_space

    def base(self) -> stats.rv_continuous:
        return _elliptical(self.loc, self.cov, self.df)


def _elliptical(loc, shape, df):
    if np.isinf(df):
        return stats.multivariate_normal(loc, shape)
    return stats.multivariate_t(loc, shape, df)


def condition(covariance: np.ndarray) -> float:
    """Condition number of the correlations: units are no matter of rounding."""
    scale = np.sqrt(np.diagonal(covariance))
    return float(np.linalg.cond(covariance / np.outer(scale, scale)))


def rank(problem: Problem) -> int:
    return problem.rank


def mean(problem: Problem) -> np.ndarray:
    return problem.origin + problem.null_space @ problem.centre


def covariance(problem: Problem) -> np.ndarray:
    factor = 1.0
    if np.isfinite(problem.df):
        factor = problem.conditional_df / (problem.conditional_df - 2)
    return factor * problem.null_space @ problem.shape @ problem.null_space.T


def variance(problem: Problem) -> np.ndarray:
    return np.diagonal(covariance(problem))


def stddev(problem: Problem) -> np.ndarray:
    return np.sqrt(np.clip(variance(problem), 0, None))


def marginal_stddev(problem: Problem) -> np.ndarray:
    """Standard deviations with the exact zero of a determined coordinate kept a zero."""
    found = stddev(problem)
    return np.where(found > 1e-7 * np.sqrt(np.diagonal(problem.cov)), found, 0.0)


def residual(problem: Problem, x: np.ndarray) -> np.ndarray:
    return problem.A @ x - problem.k


def roundings(A: np.ndarray, x: np.ndarray, k: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """``|A x - k|`` in units of eps (|A||x| + |k|), per row ``(*batch, m)``.

    Its own rounding would be of that size, so that the residual is exact but for the last one.
    """
    terms = np.asarray(A, float), np.asarray(x, float)[..., None, :]
    product, error = _two_product(*terms)
    k = np.broadcast_to(np.asarray(k, float), product.shape[:-1])
    summed = np.concatenate([product, error, -k[..., None]], axis=-1)
    rows = summed.reshape(-1, summed.shape[-1])
    residual = np.abs([math.fsum(row) for row in rows]).reshape(k.shape)
    size = np.abs(product).sum(-1) + np.abs(k)
    return residual / np.where(residual == 0, 1, size) / np.finfo(dtype).eps


def _two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and its rounding error, exactly (Dekker 1971)."""

    def halves(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        split = value * (2.0**27 + 1)
        high = split - (split - value)
        return high, value - high

    product, (a_high, a_low), (b_high, b_low) = a * b, halves(a), halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def project(problem: Problem, x: np.ndarray) -> np.ndarray:
    return problem.origin + problem.null_space @ (problem.null_space.T @ (x - problem.origin))


def log_prob(problem: Problem, x: np.ndarray) -> float:
    """Density of z = N'(x - x0)."""
    if problem.dimension == 0:
        return 0.0
    reduced = _elliptical(problem.centre, problem.shape, problem.conditional_df)
    return float(reduced.logpdf(problem.coordinates(x)))


def log_prob_allow_singular(problem: Problem, x: np.ndarray) -> float:
    """SciPy's degenerate Gaussian, in units where its absolute cut-offs make sense."""
    if problem.dimension == 0:
        return 0.0
    unit = np.sqrt(np.max(np.linalg.eigvalsh(covariance(problem))))
    standard = stats.multivariate_normal(
        mean(problem) / unit, covariance(problem) / unit**2, allow_singular=True
    )
    return float(standard.logpdf(x / unit)) - problem.dimension * np.log(unit)


def constraint_log_prob(problem: Problem) -> float:
    """Log density of A x at k under the base, on the range of A."""
    if problem.rank == 0:
        return 0.0
    basis = problem.row_space
    law = _elliptical(basis.T @ problem.loc, basis.T @ problem.cov @ basis, problem.df)
    return float(law.logpdf(basis.T @ problem.origin)) - problem.log_volume


def entropy(problem: Problem) -> float:
    if problem.dimension == 0:
        return 0.0
    return float(_elliptical(problem.centre, problem.shape, problem.conditional_df).entropy())


def kl(p: Problem, q: Problem) -> float:
    """KL(p | q) of two Gaussians on one subspace."""
    gap = q.null_space.T @ (mean(p) - mean(q))
    shape = q.null_space.T @ covariance(p) @ q.null_space
    trace = np.trace(np.linalg.solve(q.shape, shape))
    distance = gap @ np.linalg.solve(q.shape, gap)
    log_ratio = np.linalg.slogdet(q.shape)[1] - np.linalg.slogdet(shape)[1]
    return float(0.5 * (trace + distance - p.dimension + log_ratio))


def expected_l2(problem: Problem, target: np.ndarray) -> np.ndarray:
    return variance(problem) + (mean(problem) - target) ** 2


def expected_l1(problem: Problem, target: np.ndarray) -> np.ndarray:
    """E|x_i - target_i| by quadrature."""
    return _per_coordinate(_standard_l1, problem, target)


def crps(problem: Problem, target: np.ndarray) -> np.ndarray:
    """Integral of (F_i(y) - 1{y >= target_i})^2 over y, by quadrature."""
    return _per_coordinate(_standard_crps, problem, target)


def _per_coordinate(standard: Callable[[float], float], problem: Problem, target: np.ndarray):
    moments = zip(mean(problem), marginal_stddev(problem), target, strict=True)
    return np.array([abs(m - t) if s == 0 else s * standard((t - m) / s) for m, s, t in moments])


def _standard_l1(target: float) -> float:
    def weighted(z: float) -> float:
        return abs(z - target) * stats.norm.pdf(z)

    return _integral(weighted, -14.0, np.clip(target, -14, 14), 14.0)


def _standard_crps(target: float) -> float:
    def below(y: float) -> float:
        return stats.norm.cdf(y) ** 2

    def above(y: float) -> float:
        return stats.norm.sf(y) ** 2

    left = _integral(below, -40.0, *np.clip([-3, 3], -40, target), target)
    return left + _integral(above, target, *np.clip([-3, 3], target, 40), 40.0)


def _integral(function: Callable[[float], float], *points: float) -> float:
    pieces = (
        integrate.quad(function, a, b, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for a, b in pairwise(points)
        if a < b
    )
    return float(sum(pieces))


def log_evidence_by_quadrature(problem: Problem, nodes: int = 400) -> float:
    """Log of the integral of the base density over the subspace of dimension 1 or 2.

    The tangent map sends the heavy tails to a bounded square, where Gauss-Legendre nodes serve.
    """
    centre, width = problem.centre, np.sqrt(np.diagonal(problem.shape))
    angle, weight = np.polynomial.legendre.leggauss(nodes)
    angle, weight = angle * np.pi / 2, weight * np.pi / 2
    angles = _grid(angle, problem.dimension)
    jacobian = np.prod(_grid(weight, problem.dimension) / np.cos(angles) ** 2 * width, axis=-1)
    points = problem.origin + (centre + width * np.tan(angles)) @ problem.null_space.T
    log_joint = problem.base().logpdf(points)
    top = log_joint.max()
    return float(top + np.log(np.sum(jacobian * np.exp(log_joint - top))))


def log_prob_by_quadrature(problem: Problem, x: np.ndarray) -> float:
    """Joint density over its integral along the subspace."""
    on_subspace = project(problem, x)
    return float(problem.base().logpdf(on_subspace)) - log_evidence_by_quadrature(problem)


def entropy_by_quadrature(problem: Problem, nodes: int = 2000) -> float:
    """For a subspace of dimension 1."""
    width = float(np.sqrt(problem.shape[0, 0]))
    angle, weight = np.polynomial.legendre.leggauss(nodes)
    angle, weight = angle * np.pi / 2, weight * np.pi / 2
    z = problem.centre[0] + width * np.tan(angle)
    points = problem.origin + z[:, None] * problem.null_space[:, 0]
    log_density = problem.base().logpdf(points) - log_evidence_by_quadrature(problem)
    jacobian = width / np.cos(angle) ** 2
    return float(-np.sum(weight * jacobian * np.exp(log_density) * log_density))


def _grid(values: np.ndarray, dimension: int) -> np.ndarray:
    mesh = np.meshgrid(*[values] * dimension, indexing="ij")
    return np.stack(mesh, axis=-1).reshape(-1, dimension)


def quadratic_expectation(problem: Problem, matrix: np.ndarray) -> float:
    """E[x' M x]."""
    centre = mean(problem)
    return float(np.sum(matrix * covariance(problem)) + centre @ matrix @ centre)


def directional_derivative(function: Callable[[float], float], step: float = 1e-4) -> float:
    """d/dt function(t) at 0 by central differences of fourth order."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def point(problem: Problem, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """A point of the subspace, about `spread` standard deviations from the mean."""
    if problem.dimension == 0:
        return problem.origin
    step = np.linalg.cholesky(problem.shape) @ rng.normal(size=problem.dimension)
    return mean(problem) + spread * problem.null_space @ step


def exact_variance(cov: np.ndarray, A: np.ndarray) -> np.ndarray:
    """``(n,)`` variances given A x = k, for independent rows, in 50 digits."""
    with mpmath.workdps(50):
        cov, A = mpmath.matrix(cov.tolist()), mpmath.matrix(A.tolist())
        gain = cov * A.T * (A * cov * A.T) ** -1
        left = cov - gain * A * cov
        return np.array([float(left[i, i]) for i in range(left.rows)])
