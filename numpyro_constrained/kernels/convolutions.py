"""Products of polynomials with nonnegative coefficients.

Coefficients are along the first dimension, so that every step is one operation on long rows. All
terms are sums of positive numbers: each coefficient is right to a few roundings, small ones too.
"""

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["convolve", "correlate"]


def convolve(one: Array, other: Array, size: int) -> Array:
    """``(a, ...)`` and ``(b, ...)`` to ``(size, ...)``: the lowest coefficients of the product."""
    total = jnp.zeros((len(one) + len(other) - 1,) + one.shape[1:], one.dtype)

    def add(total: Array, term: tuple[Array, Array]) -> tuple[Array, None]:
        coefficient, j = term
        part = jax.lax.dynamic_slice_in_dim(total, j, len(other)) + coefficient[None] * other
        return jax.lax.dynamic_update_slice_in_dim(total, part, j, 0), None

    return jax.lax.scan(add, total, (one, jnp.arange(len(one))))[0][:size]


def correlate(one: Array, other: Array, size: int) -> Array:
    """``out[i] = sum_j one[i + j] other[j]`` for i below ``size``: the adjoint of a product."""
    missing = max(0, len(other) + size - 1 - len(one))
    padded = jnp.concatenate([one, jnp.zeros((missing,) + one.shape[1:], one.dtype)])

    def add(total: Array, term: tuple[Array, Array]) -> tuple[Array, None]:
        coefficient, j = term
        part = jax.lax.dynamic_slice_in_dim(padded, j, size)
        return total + coefficient[None] * part, None

    total = jnp.zeros((size,) + one.shape[1:], one.dtype)
    return jax.lax.scan(add, total, (other, jnp.arange(len(other))))[0]
