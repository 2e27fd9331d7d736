"""How good the predicted means and spreads are on the test rows."""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from scipy.linalg import null_space
from scipy.stats import multivariate_normal, norm

from experiments.chemical_units.data import Rows
from experiments.chemical_units.fitting import predict
from experiments.chemical_units.methods import Method
from experiments.perceptron import Parameters, outputs

LEVELS = (0.5, 0.9)
"""Of the central intervals whose coverage is counted."""


class Forecast(NamedTuple):
    """Normal forecasts of some rows.

    Attributes:
        mean, scale: ``(rows, n)`` of each output.
        nll: ``(rows,)`` negative log density with respect to Hausdorff measure on the law, if the
            forecast obeys it.
    """

    mean: np.ndarray
    scale: np.ndarray
    nll: np.ndarray | None


def score(forecast: Forecast, rows: Rows, A: np.ndarray) -> dict[str, float]:
    """Figures of merit; errors are of the scaled outputs."""
    error = rows.z - forecast.mean
    figures = {
        "mse": np.square(error).mean(),
        "residual": np.abs(forecast.mean @ A.T - rows.k).max(),
        "crps": crps(forecast, rows.z).mean(),
    }
    for level in LEVELS:
        inside = np.abs(error) <= norm.ppf(0.5 + level / 2) * forecast.scale
        figures[f"coverage {level:.0%}"] = inside.mean()
    if forecast.nll is not None:
        figures["nll"] = forecast.nll.mean()
    return figures


def crps(forecast: Forecast, z: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of each output (Gneiting and Raftery 2007)."""
    ratio = (z - forecast.mean) / forecast.scale
    spread = ratio * (2 * norm.cdf(ratio) - 1) + 2 * norm.pdf(ratio) - np.pi**-0.5
    return forecast.scale * spread


def forecasts(method: Method, parameters: Parameters) -> list[Forecast]:
    """Forecasts of the test rows, one for each seed.

    Either way the validation rows set the spread: the size of one that was learned, else all of
    it, the same for all rows.
    """
    splits = method.unit.rows["validation"], method.unit.rows["test"]
    if method.learns_spread:
        seeds = zip(*(moments(method, parameters, rows) for rows in splits), strict=True)
        return [resized(method, *pair) for pair in seeds]
    means = zip(*(np.asarray(predict(method, parameters, rows)) for rows in splits), strict=True)
    return [with_constant_spread(method, *pair) for pair in means]


class Moments(NamedTuple):
    """What a learned law says of some rows.

    Attributes:
        mean, variance: ``(rows, n)``.
        peak: ``(rows,)`` log density at the mean.
        distance: ``(rows,)`` squared Mahalanobis distance of the truth.
    """

    mean: np.ndarray
    variance: np.ndarray
    peak: np.ndarray
    distance: np.ndarray


def moments(method: Method, parameters: Parameters, rows: Rows) -> list[Moments]:
    """Of the laws that each seed predicts."""

    def one(parameters: Parameters, x: Array, k: Array, z: Array) -> tuple[Array, ...]:
        law = method.law(outputs(parameters, x), x, k)
        peak = 0.5 * free_size(method) - law.entropy()
        return law.mean, law.variance, peak, 2 * (peak - law.log_prob(z))

    over_rows = jax.vmap(one, in_axes=(None, 0, 0, 0))
    stacked = jax.jit(jax.vmap(over_rows, in_axes=(0, None, None, None)))(parameters, *rows)
    return [Moments(*parts) for parts in zip(*map(np.asarray, stacked), strict=True)]


def free_size(method: Method) -> int:
    """Dimension of the predicted law."""
    return method.unit.num_outputs - method.obeys_law * len(method.unit.A)


def resized(method: Method, validation: Moments, test: Moments) -> Forecast:
    """The forecast whose variances are times what is most likely on the validation rows."""
    size = free_size(method)
    factor = validation.distance.mean() / size
    nll = 0.5 * (test.distance / factor + size * np.log(factor)) - test.peak
    return Forecast(test.mean, np.sqrt(factor * test.variance), nll if method.obeys_law else None)


def with_constant_spread(method: Method, validation: np.ndarray, test: np.ndarray) -> Forecast:
    """A prediction with the second moments of its errors on the validation rows.

    Args:
        validation, test: ``(rows, n)`` predictions.
    """
    rows = method.unit.rows
    errors = rows["validation"].z - validation
    if not method.obeys_law:
        scale = np.sqrt(np.square(errors).mean(0))
        return Forecast(test, np.broadcast_to(scale, test.shape), None)
    basis = null_space(method.unit.A)
    reduced = errors @ basis
    covariance = reduced.T @ reduced / len(reduced)
    scale = np.sqrt(np.diag(basis @ covariance @ basis.T))
    law = multivariate_normal(np.zeros(basis.shape[1]), covariance)
    nll = -law.logpdf((rows["test"].z - test) @ basis)
    return Forecast(test, np.broadcast_to(scale, test.shape), nll)
