"""Logarithms, sums and products with them, and ratios, where a factor may be zero, or as small as
it likes."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.eager import as_one

__all__ = [
    "expected",
    "log_change",
    "log_ratio",
    "log_sum_exp",
    "power",
    "ratio",
    "safe_log",
    "strictly_inside",
    "times",
    "without_nan",
]


@as_one
def power(count: Any, rate: Array) -> Array:
    """``count log rate``, 0 where count is 0 and -inf where only rate is; gradients are finite."""
    return times(count, safe_log(rate))


@as_one
def times(count: Any, logarithm: Array) -> Array:
    """``count logarithm``, 0 where count is 0."""
    is_zero = logarithm == -jnp.inf
    value = count * jnp.where(is_zero, 0.0, logarithm)
    return jnp.where(is_zero & (count > 0), -jnp.inf, value)


@as_one
def safe_log(value: Array) -> Array:
    """-inf, with a gradient of zero, at zero and below."""
    is_zero = value <= 0
    return jnp.where(is_zero, -jnp.inf, jnp.log(jnp.where(is_zero, 1.0, value)))


@as_one
def expected(probability: Array, log_weight: Array, is_zero: Array | None = None) -> Array:
    """Their product; 0, not NaN, where the probability is zero, and infinite where only a weight
    is."""
    is_zero = probability <= 0 if is_zero is None else is_zero
    known, missing = without_nan(probability)
    product = known * jnp.where(is_zero | (log_weight == -jnp.inf), 0.0, log_weight)
    product = jnp.where(~is_zero & (log_weight == -jnp.inf), -jnp.inf, product)
    return jnp.where(missing, jnp.nan, product)


def log_change(before: Array, after: Array) -> Array:
    """``after - before`` of logarithms; ``after`` where there was nothing before."""
    return after - jnp.where(before == -jnp.inf, 0.0, before)


@as_one
def without_nan(figures: Array) -> tuple[Array, Array]:
    """Zeros for NaN, and where they are: put back last, NaN spoils no derivative of others."""
    missing = jnp.isnan(figures)
    return jnp.where(missing, 0.0, figures), missing


@as_one
def strictly_inside(probability: Array, is_open: Array) -> Array:
    """Where open, from the least positive number of the dtype to the one below 1, so that both
    logarithms are finite; derivatives are those of the probability."""
    info = jnp.finfo(probability.dtype)
    within = jnp.clip(probability, info.tiny, 1 - info.epsneg)
    return probability + stop_gradient(jnp.where(is_open, within - probability, 0.0))


@as_one
def ratio(part: Array, total: Array) -> Array:
    """``part / total``, 0 where both are."""
    return part / jnp.where(total == 0, 1.0, total)


@as_one
def log_ratio(part: Array, total: Array) -> Array:
    """Its logarithm, also where the ratio is below the least number of the dtype."""
    info = jnp.finfo(total.dtype)
    divisor = jnp.where(total == 0, 1.0, total)
    is_tiny = part / divisor < info.tiny
    scale = jnp.ldexp(jnp.ones((), total.dtype), info.maxexp - 2)
    scaled = jnp.where(is_tiny, part * scale, part) / divisor
    return safe_log(scaled) - jnp.where(is_tiny, jnp.log(scale), 0.0)


@partial(as_one, static_argnums=(1,))
def log_sum_exp(terms: Array, axis: int = -1) -> Array:
    """Over one dimension; -inf, with zero gradients, where all terms are."""
    largest = stop_gradient(terms.max(axis, keepdims=True))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.exp(terms - largest).sum(axis)
    is_zero = total == 0
    logarithm = jnp.log(jnp.where(is_zero, 1.0, total)) + jnp.squeeze(largest, axis)
    return jnp.where(is_zero, -jnp.inf, logarithm)
