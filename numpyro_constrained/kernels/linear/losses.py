"""Exact expected losses of normal marginals, per coordinate, also where the variance is zero."""

import math

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf

__all__ = ["normal_crps", "normal_expected_l1", "normal_expected_l2"]


def _standardised(mean: Array, variance: Array, target: Array):
    """Error, its ratio to the standard deviation, the standard deviation, and where it is zero."""
    # Of a determined variable the limit is |error|; a quotient by 0 would spoil its gradient.
    certain = variance <= 0
    scale = jnp.sqrt(jnp.where(certain, 1.0, variance))
    error = mean - target
    return error, error / scale, scale, certain


def _mean_absolute(error: Array, ratio: Array, scale: Array) -> Array:
    density = jnp.exp(-0.5 * jnp.square(ratio)) * math.sqrt(2 / math.pi)
    return scale * density + error * erf(ratio * math.sqrt(0.5))


def normal_expected_l1(mean: Array, variance: Array, target: Array) -> Array:
    """E|x - t| for x ~ N(mean, variance)."""
    error, ratio, scale, certain = _standardised(mean, variance, target)
    return jnp.where(certain, jnp.abs(error), _mean_absolute(error, ratio, scale))


def normal_expected_l2(mean: Array, variance: Array, target: Array) -> Array:
    """E (x - t)^2 for x of this mean and variance."""
    return variance + jnp.square(mean - target)


def normal_crps(mean: Array, variance: Array, target: Array) -> Array:
    """E|x - t| - E|x - x'| / 2 for independent x, x' ~ N(mean, variance)."""
    error, ratio, scale, certain = _standardised(mean, variance, target)
    spread = _mean_absolute(error, ratio, scale) - scale / math.sqrt(math.pi)
    return jnp.where(certain, jnp.abs(error), spread)
