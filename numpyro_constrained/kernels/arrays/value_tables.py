"""Tables over the values 0..U-1 of single variables: ``(..., U)``, their means and variances."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.log_space import strictly_inside, without_nan

__all__ = [
    "exact_zeros",
    "mean_of",
    "padded",
    "values_of",
    "variance_of",
]


def values_of(num_values: int, like: Array, ndim: int) -> np.ndarray:
    """0..U-1 along the last of ``ndim`` dimensions, in the dtype of ``like``."""
    return np.arange(num_values).astype(like.dtype).reshape((1,) * (ndim - 1) + (-1,))


@as_one
def exact_zeros(probability: Array, possible: Array) -> Array:
    """``(..., U)`` positive exactly where a value is possible, below 1 where another is too; NaN
    stays."""
    is_open = possible & (possible.sum(-1, keepdims=True) > 1)
    is_zero = ~possible & (probability == probability)
    zero = probability - stop_gradient(probability)
    return jnp.where(is_zero, zero, strictly_inside(probability, is_open))


@as_one
def mean_of(probability: Array) -> Array:
    """``(...)`` mean of tables of probabilities, at most the largest value."""
    if probability.shape[-1] == 2:
        return probability[..., 1]
    found = (probability * values_of(probability.shape[-1], probability, probability.ndim)).sum(-1)
    # Only rounding is cut off: at a tie, a minimum would halve the derivative.
    excess = jnp.maximum(found - (probability.shape[-1] - 1), 0)
    return found - stop_gradient(excess)


@as_one
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
