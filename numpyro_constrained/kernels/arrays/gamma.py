"""Differences of gamma functions that keep their digits where the functions are large."""

import math

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, gammaln

from numpyro_constrained.kernels.arrays.eager import as_one

__all__ = ["digamma_step", "log_gamma_excess", "log_student"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""
SHORT = 200.0
"""Steps up to which the derivatives of an excess keep their digits."""
FEW = 16.0
"""And the quotient of a step and its argument."""
LOG_PI = math.log(math.pi)
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@as_one
def log_gamma_excess(a: Array, step: float) -> Array:
    """``log Gamma(a + step) - log Gamma(a) - step log a`` for a > 0, step >= 0 (Stirling)."""
    large = jnp.where(a < LARGE, LARGE, a)
    total = large + step
    series = _stirling(total) - _stirling(large)
    series = series + (total - 0.5) * jnp.log1p(step / large) - step
    direct = gammaln(a + step) - gammaln(a) - step * jnp.log(a)
    return jnp.where(a < LARGE, direct, series)


def _stirling(z: Array) -> Array:
    inverse = 1 / z
    square = jnp.square(inverse)
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


@as_one
def digamma_step(a: Array, step: float) -> Array:
    """``digamma(a + step) - digamma(a)`` for a > 0, step >= 0."""
    large = jnp.where(a < LARGE, LARGE, a)
    series = jnp.log1p(step / large) + _digamma_rest(large) - _digamma_rest(large + step)
    return jnp.where(a < LARGE, digamma(a + step) - digamma(a), series)


def _digamma_rest(z: Array) -> Array:
    """``log z - digamma(z)``."""
    inverse = 1 / z
    square = jnp.square(inverse)
    return 0.5 * inverse + square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240))
    )


def log_student(
    a: Array, step: float | Array, spread: Array, log_scale: Array, distance: Array
) -> Array:
    """``log Gamma(a + step) - log Gamma(a) + a log spread - (a + step) log(spread + distance)
    - step log pi``, what a Student-t law makes of a squared distance.

    ``log_scale`` is ``log(pi spread / a)``. Where ``step / a`` is large, the derivatives of an
    excess are a difference of two terms of that size; term by term, with Stirling's formula for
    ``Gamma(a + step)`` only, they keep their digits.
    """
    excess = log_gamma_excess(a, step) - step * log_scale
    excess = excess - (a + step) * jnp.log1p(distance / spread)
    if isinstance(step, float) and step <= SHORT:
        return excess
    is_long = (step > SHORT) & (step > a * FEW)
    total = jnp.where(is_long, a + step, SHORT)
    by_term = total * jnp.log(total / (spread + distance)) - 0.5 * jnp.log(total)
    by_term = by_term + _stirling(total) - gammaln(a) + a * jnp.log(spread) - total
    return jnp.where(is_long, by_term - step * LOG_PI + HALF_LOG_TWO_PI, excess)
