"""Products of polynomials with nonnegative coefficients, or their logarithms.

Coefficients are along the first dimension, so that every step is one operation on long rows. All
terms are sums of positive numbers: each coefficient is right to a few roundings, small ones too.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.loops import scan

__all__ = ["convolve", "correlate", "log_convolve", "log_correlate"]


def convolve(one: Array, other: Array, size: int) -> Array:
    """``(a, ...)`` and ``(b, ...)`` to ``(size, ...)``: the lowest coefficients of the product."""
    total = jnp.zeros((len(one) + len(other) - 1,) + one.shape[1:], one.dtype)

    def add(total: Array, term: tuple[Array, Array]) -> tuple[Array, None]:
        coefficient, j = term
        part = jax.lax.dynamic_slice_in_dim(total, j, len(other)) + coefficient[None] * other
        return jax.lax.dynamic_update_slice_in_dim(total, part, j, 0), None

    return scan(add, total, (one, jnp.arange(len(one))))[0][:size]


def correlate(one: Array, other: Array, size: int) -> Array:
    """``out[i] = sum_j one[i + j] other[j]`` for i below ``size``: the adjoint of a product."""
    missing = max(0, len(other) + size - 1 - len(one))
    padded = jnp.concatenate([one, jnp.zeros((missing,) + one.shape[1:], one.dtype)])

    def add(total: Array, term: tuple[Array, Array]) -> tuple[Array, None]:
        coefficient, j = term
        part = jax.lax.dynamic_slice_in_dim(padded, j, size)
        return total + coefficient[None] * part, None

    total = jnp.zeros((size,) + one.shape[1:], one.dtype)
    return scan(add, total, (other, jnp.arange(len(other))))[0]


def log_convolve(one: Array, other: Array, size: int) -> Array:
    """``convolve`` of the logarithms of coefficients, which may be as small as they like."""
    missing = jnp.full((len(one) - 1,) + other.shape[1:], -jnp.inf, other.dtype)
    padded = jnp.concatenate([missing, other, missing])
    width = len(one) + len(other) - 1

    def term(coefficient: Array, j: Array) -> Array:
        return coefficient[None] + jax.lax.dynamic_slice_in_dim(padded, len(one) - 1 - j, width)

    def greatest(largest: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        return jnp.maximum(largest, term(*step)), None

    steps = one, jnp.arange(len(one))
    nothing = jnp.full((width,) + one.shape[1:], -jnp.inf, one.dtype)
    largest = stop_gradient(scan(greatest, nothing, steps)[0])
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)

    @jax.checkpoint  # or differentiation keeps all terms
    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        return total + jnp.exp(term(*step) - largest), None

    total = scan(add, jnp.zeros_like(nothing), steps)[0]
    is_zero = total == 0
    logarithm = jnp.log(jnp.where(is_zero, 1.0, total)) + largest
    return jnp.where(is_zero, -jnp.inf, logarithm)[:size]


def log_correlate(one: Array, other: Array, size: int) -> Array:
    """``correlate`` of logarithms."""
    found = log_convolve(other[::-1], one, len(other) - 1 + min(size, len(one)))[len(other) - 1 :]
    missing = jnp.full((size - len(found),) + found.shape[1:], -jnp.inf, found.dtype)
    return jnp.concatenate([found, missing])
