"""Ways to make forecasts add up: each gives a mean and a covariance of all nodes."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import random
from scipy import stats
from scipy.special import beta

from experiments.hierarchy.tourism import Hierarchy
from numpyro_constrained import (
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
)


class Forecast(NamedTuple):
    """A normal or Student-t law of all nodes, perhaps singular.

    Attributes:
        mean: ``(n,)``.
        covariance: ``(n, n)``.
        df: degrees of freedom, more than 2; infinite for the normal law.
    """

    mean: np.ndarray
    covariance: np.ndarray
    df: float = np.inf

    @property
    def stddev(self) -> np.ndarray:
        """``(n,)`` of each node."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def shape(self) -> np.ndarray:
        """``(n, n)`` scale matrix: the covariance of the normal law."""
        return self.covariance * (1 - 2 / self.df)

    @property
    def scale(self) -> np.ndarray:
        """``(n,)`` of each node."""
        return np.sqrt(np.diagonal(self.shape))

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """``(n,)`` continuous ranked probability score of each node (Jordan et al. 2019)."""
        unit, df = (truth - self.mean) / self.scale, self.df
        if np.isinf(df):
            peak, expected = stats.norm.pdf(unit), np.pi**-0.5
            return self.scale * (unit * (2 * stats.norm.cdf(unit) - 1) + 2 * peak - expected)
        peak = stats.t.pdf(unit, df) * (df + unit**2) / (df - 1)
        ratio = beta(0.5, df - 0.5) / beta(0.5, df / 2) ** 2
        expected = 2 * np.sqrt(df) / (df - 1) * ratio
        return self.scale * (unit * (2 * stats.t.cdf(unit, df) - 1) + 2 * peak - expected)

    def is_inside(self, truth: np.ndarray, level: float) -> np.ndarray:
        """``(n,)`` whether each node is in its central interval."""
        return np.abs(truth - self.mean) <= stats.t.ppf((1 + level) / 2, self.df) * self.scale

    def log_score(self, truth: np.ndarray, regions: slice) -> float:
        """Log density of all regions together; they tell all else."""
        block = self.mean[regions], self.shape[regions, regions]
        if np.isinf(self.df):
            return float(stats.multivariate_normal(*block).logpdf(truth[regions]))
        return float(stats.multivariate_t(*block, self.df).logpdf(truth[regions]))


class Base(NamedTuple):
    """Forecasts of every node on its own.

    Attributes:
        mean: ``(n,)``.
        covariance: ``(n, n)`` of their errors.
        df: degrees of freedom of a Student-t law of the errors; only one method asks for it.
        split: ``(n, n)`` the covariance with less between what adds up and what does not; only
            one method asks for it.
    """

    mean: np.ndarray
    covariance: np.ndarray
    df: float
    split: np.ndarray


Method = Callable[[Hierarchy, Base], Forecast]
"""From base forecasts to forecasts of all nodes."""


def unchanged(hierarchy: Hierarchy, base: Base) -> Forecast:
    """As they are: they do not add up."""
    return Forecast(base.mean, base.covariance)


def bottom_up(hierarchy: Hierarchy, base: Base) -> Forecast:
    """Sums of the forecasts of the regions; all others are thrown away."""
    regions, summing = hierarchy.levels["regions"], hierarchy.summing
    block = base.covariance[regions, regions]
    return Forecast(summing @ base.mean[regions], summing @ block @ summing.T)


def projection(hierarchy: Hierarchy, base: Base) -> Forecast:
    """The nearest point of the subspace in Euclidean distance (OLS), draw by draw."""
    rows = hierarchy.coherence
    onto = np.eye(rows.shape[1]) - np.linalg.pinv(rows) @ rows
    return Forecast(onto @ base.mean, onto @ base.covariance @ onto.T)


def ours(hierarchy: Hierarchy, base: Base) -> ConstrainedMultivariateNormal:
    """The law of the nodes given that they add up."""
    rows = hierarchy.coherence
    arrays = jnp.asarray(base.mean), jnp.asarray(base.covariance)
    return ConstrainedMultivariateNormal(*arrays, A=rows, k=np.zeros(len(rows)))


def conditional(hierarchy: Hierarchy, base: Base) -> Forecast:
    """Ours, its mean and covariance."""
    law = ours(hierarchy, base)
    return Forecast(np.asarray(law.mean), np.asarray(law.covariance))


def conditional_split(hierarchy: Hierarchy, base: Base) -> Forecast:
    """Ours, with errors whose part that adds up depends little on the part that does not."""
    return conditional(hierarchy, base._replace(covariance=base.split))


def conditional_without_correlation(hierarchy: Hierarchy, base: Base) -> Forecast:
    """Ours, with errors that are taken to be independent."""
    scale, rows = np.sqrt(np.diagonal(base.covariance)), hierarchy.coherence
    law = ConstrainedNormal(jnp.asarray(base.mean), jnp.asarray(scale), rows, np.zeros(len(rows)))
    return Forecast(np.asarray(law.mean), np.asarray(law.covariance))


def conditional_student(hierarchy: Hierarchy, base: Base) -> Forecast:
    """Ours, with a Student-t law of the errors: given the sums, it has one more degree of freedom
    for each, and is the wider the less the base forecasts add up."""
    rows, scale_tril = hierarchy.coherence, np.linalg.cholesky(base.covariance)
    law = ConstrainedMultivariateStudentT(
        base.df,
        jnp.asarray(base.mean),
        jnp.asarray(scale_tril * np.sqrt(1 - 2 / base.df)),
        rows,
        np.zeros(len(rows)),
    )
    return Forecast(np.asarray(law.mean), np.asarray(law.covariance), base.df + law.rank)


def minimum_trace(hierarchy: Hierarchy, base: Base) -> Forecast:
    """MinT as published (Wickramasuriya, Athanasopoulos and Hyndman 2019): S (S' W^-1 S)^-1 S'
    W^-1 times the base forecasts, and S (S' W^-1 S)^-1 S', the covariance that goes with it."""
    summing = hierarchy.summing
    weighted = np.linalg.solve(base.covariance, summing)
    inverse = np.linalg.inv(summing.T @ weighted)
    return Forecast(summing @ inverse @ (weighted.T @ base.mean), summing @ inverse @ summing.T)


def mean_only(hierarchy: Hierarchy, base: Base) -> Forecast:
    """The mean of MinT with the covariance of the base forecasts: reconciled points, and errors
    that do not know of it."""
    return Forecast(minimum_trace(hierarchy, base).mean, base.covariance)


METHODS: dict[str, Method] = {
    "base forecasts": unchanged,
    "bottom-up": bottom_up,
    "OLS projection": projection,
    "MinT mean, base covariance": mean_only,
    "ours, independent errors": conditional_without_correlation,
    "ours, full covariance": conditional,
    "ours, split covariance": conditional_split,
    "ours, Student-t": conditional_student,
}


def incoherence(hierarchy: Hierarchy, forecast: Forecast) -> float:
    """Root mean square of C x over draws with these moments, in closed form."""
    variances, directions = np.linalg.eigh(forecast.covariance)
    is_rounding = variances < 1e-13 * variances[-1]
    gaps = hierarchy.coherence @ directions * np.sqrt(np.where(is_rounding, 0.0, variances))
    mean_gap = hierarchy.coherence @ forecast.mean
    return float(np.sqrt((np.square(gaps).sum(-1) + np.square(mean_gap)).mean()))


def largest_residual(law: ConstrainedMultivariateNormal, num_draws: int) -> float:
    """Largest |C x| of draws of the law itself."""
    draws = law.sample(random.key(0), (num_draws,))
    return float(np.abs(law.residual(draws)).max())
