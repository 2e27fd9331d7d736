"""Tables over the values 0..U-1 of single variables: ``(..., U)``, their means and variances."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.scipy.special import gammaln

from numpyro_constrained.kernels.arrays.log_space import (
    log_ratio,
    power,
    ratio,
    strictly_inside,
    times,
    without_nan,
)
from numpyro_constrained.kernels.arrays.poisson_pmf import log_poisson

__all__ = [
    "exact_zeros",
    "log_factorials",
    "mean_of",
    "padded",
    "poisson_edges",
    "poisson_weights",
    "split_table",
    "values_of",
    "variance_of",
]


def values_of(num_values: int, like: Array, ndim: int) -> np.ndarray:
    """0..U-1 along the last of ``ndim`` dimensions, in the dtype of ``like``."""
    return np.arange(num_values).astype(like.dtype).reshape((1,) * (ndim - 1) + (-1,))


def log_factorials(num_values: int, like: Array, ndim: int) -> Array:
    """log u! of u = 0..U-1 along the last of ``ndim`` dimensions."""
    return gammaln(values_of(num_values, like, ndim) + 1)


def poisson_weights(rate: Array, num_values: int) -> Array:
    """``(..., U)`` u log rate - log u! of u = 0..U-1."""
    value = values_of(num_values, rate, rate.ndim + 1)
    return power(value, rate[..., None]) - log_factorials(num_values, rate, value.ndim)


def poisson_edges(rate: Array, num_values: int, is_delicate: bool) -> Array:
    """``(..., U)`` weights of u = 0..U-1 where the rate is zero: zeros, with first and second
    derivatives; those of larger counts have none. Probabilities where that is delicate."""
    value = values_of(num_values, rate, rate.ndim + 1)
    edge = jnp.where(rate == 0, rate, 0.0)[..., None]
    weight = jnp.where(value == 1, edge, jnp.where(value == 2, jnp.square(edge) / 2, 0.0))
    return weight * jnp.exp(-edge) if is_delicate else weight


def split_table(
    total: Any, rates: tuple[Array, Array, Array], num_values: int, is_delicate: bool
) -> Array:
    """``(..., U)`` log probability that u of ``total`` fall on a part: binomial.

    Args:
        total: ``(..., 1)`` the counts.
        rates: ``(..., 1)`` of the part, of all else, and of both.
        num_values: U.
        is_delicate: whether plain terms lose too many digits.
    """
    part, rest, whole = rates
    value = values_of(num_values, part, part.ndim)
    other = jnp.maximum(total - value, 0)
    log_part, log_rest = log_ratio(part, whole), log_ratio(rest, whole)
    if is_delicate:
        log_total = jnp.log(jnp.maximum(total, 1))
        table = log_poisson(value, total * ratio(part, whole), log_total + log_part)
        table = table + log_poisson(other, total * ratio(rest, whole), log_total + log_rest)
        table = table - log_poisson(total, total + jnp.zeros_like(part))
    else:
        ways = gammaln(total + 1) - gammaln(value + 1) - gammaln(other + 1)
        table = ways + times(value, log_part) + times(other, log_rest)
    return jnp.where(value > total, -jnp.inf, table)


def exact_zeros(probability: Array, possible: Array) -> Array:
    """``(..., U)`` positive exactly where a value is possible, below 1 where another is too; NaN
    stays."""
    is_open = possible & (possible.sum(-1, keepdims=True) > 1)
    is_zero = ~possible & (probability == probability)
    zero = probability - stop_gradient(probability)
    return jnp.where(is_zero, zero, strictly_inside(probability, is_open))


def mean_of(probability: Array) -> Array:
    """``(...)`` mean of tables of probabilities, at most the largest value."""
    found = (probability * values_of(probability.shape[-1], probability, probability.ndim)).sum(-1)
    return jnp.minimum(found, probability.shape[-1] - 1)


def variance_of(probability: Array) -> Array:
    """``(...)`` variance of tables of probabilities."""
    known, missing = without_nan(probability)
    if known.shape[-1] == 2:
        variance = known[..., 0] * known[..., 1]
    else:
        value = values_of(known.shape[-1], known, known.ndim)
        variance = (known * jnp.square(value - mean_of(known)[..., None])).sum(-1)
    return jnp.where(missing.any(-1), jnp.nan, variance)


def padded(table: Array, num_values: int) -> Array:
    """Log probabilities of more values, or fewer: no variable may reach the largest one that its
    base law has."""
    table = table[..., :num_values]
    missing = num_values - table.shape[-1]
    if not missing:
        return table
    nothing = jnp.where(jnp.isnan(table[..., :1]), jnp.nan, -jnp.inf)
    nothing = jnp.broadcast_to(nothing, table.shape[:-1] + (missing,))
    return jnp.concatenate([table, nothing], -1)
