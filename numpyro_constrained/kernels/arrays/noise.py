"""White noise that a compiled program makes once."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.export import is_symbolic_dim

from numpyro_constrained.kernels.arrays.leaves import is_sharded

__all__ = ["white_noise"]

LARGE = 2**12
"""Entries from which it pays."""


def white_noise(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Independent standard normal draws.

    XLA fuses the inverse error function into every operation that reads the noise, and so
    evaluates it in each of them again. What leaves a branch is not fused with what follows.
    """
    bits = jax.random.key_data(key)
    is_small = any(map(is_symbolic_dim, shape)) or prod(shape) < LARGE
    if is_small or not isinstance(bits, Tracer) or is_sharded():
        return jax.random.normal(key, shape, dtype)
    return jax.lax.cond(
        (bits[..., 0] | 1) != 0,  # always, but XLA does not know
        lambda: jax.random.normal(key, shape, dtype),
        lambda: jnp.zeros(shape, dtype),
    )
