"""Differences of gamma functions that keep their digits where the functions are large."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, gammaln

from numpyro_constrained.kernels.arrays.eager import as_one

__all__ = ["digamma_step", "log_gamma_excess", "log_student"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""


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


@jax.custom_jvp
def log_student(a: Array, step: float, spread: Array, log_scale: Array, distance: Array) -> Array:
    """``log Gamma(a + step) - log Gamma(a) + a log spread - (a + step) log(spread + distance)
    - step log pi``, what a Student-t law makes of a squared distance.

    ``log_scale`` is ``log(pi spread / a)``. Derivatives keep their digits too, where autodiff
    leaves a difference of two terms of ``step / a``.
    """
    normaliser = log_gamma_excess(a, step) - step * log_scale
    return normaliser - (a + step) * jnp.log1p(distance / spread)


@log_student.defjvp
def _log_student_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    a, step, spread, _, distance = primals
    da, _, d_spread, _, d_distance = tangents
    total = spread + distance
    change = (digamma_step(a, step) - jnp.log1p(distance / spread)) * da
    change = change + (a / spread * distance - step) / total * d_spread
    return log_student(*primals), change - (a + step) / total * d_distance
