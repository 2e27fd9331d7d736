"""Draws by inversion of a distribution function."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained.kernels.arrays.loops import scan

__all__ = ["below", "choose"]


def below(uniform: Array, total: Array) -> Array:
    """``uniform * total``, below the total even where the product is rounded: inversion then never
    takes an index of weight zero."""
    return jnp.minimum(uniform * total, jnp.nextafter(total, jnp.zeros_like(total)))


def choose(key: Array, weights: Array) -> Array:
    """An index of the first dimension, drawn with probability proportional to its weight.

    Weights are added up one by one: an index of weight zero is never taken, whatever the rounding.
    """
    zero = jnp.zeros(weights.shape[1:], weights.dtype)
    total, _ = scan(lambda total, weight: (total + weight, None), zero, weights)
    threshold = below(jax.random.uniform(key, zero.shape, zero.dtype), total)

    def count(state: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], None]:
        total, index = state
        total = total + weight
        return (total, index + (total <= threshold).astype(index.dtype)), None

    (_, index), _ = scan(count, (zero, jnp.zeros(zero.shape, np.int32)), weights)
    return jnp.minimum(index, len(weights) - 1)
