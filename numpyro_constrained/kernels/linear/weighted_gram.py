"""``A diag(s) A'`` for a wide A, read once: what is made on the way stays in the cache."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.arrays.held import held
from numpyro_constrained.kernels.arrays.leaves import is_sharded
from numpyro_constrained.kernels.arrays.linalg import lift, matmul

__all__ = ["weighted_gram"]

BLOCK = 2**17
"""Bytes of A that are multiplied at once: of twice as many, products leave the cache."""

WIDE = 2**20
"""Entries of A from which that pays."""
VERY_WIDE = 2**17, 64
"""The same where rows are so many times longer than columns."""


def weighted_gram(matrix: Any, weights: Array) -> Array:
    """``(*batch, r, r)`` of a matrix ``(*batch, r, n)`` and weights ``(*batch, n)``."""
    is_single = matrix.ndim == 2 and weights.ndim == 1
    if is_single and _is_wide(*matrix.shape) and not is_sharded():
        return _by_blocks(matrix, weights)
    matrix = lift(matrix, weights.ndim + 1)
    weights = lift(weights, matrix.ndim - 1)
    return matmul(matrix * weights[..., None, :], matrix.mT)


def _is_wide(num_rows: int, num_columns: int) -> bool:
    if jax.default_backend() != "cpu":  # an accelerator launches each block
        return False
    least, ratio = VERY_WIDE
    size = num_rows * num_columns
    return size > WIDE or (size > least and num_columns > ratio * num_rows)


def _width(num_rows: int, num_columns: int, itemsize: int) -> int:
    """Of a block: one that divides the columns, if there is such, as to put the derivatives of
    others together takes long."""
    width = max(BLOCK // (num_rows * itemsize), 1)
    divisors = (w for w in range(width, width // 2, -1) if num_columns % w == 0)
    return next(divisors, width)


def _by_blocks(matrix: Any, weights: Array) -> Array:
    num_rows, num_columns = matrix.shape
    width = _width(num_rows, num_columns, matrix.dtype.itemsize)
    count = num_columns // width
    matrix = held(matrix, weights)

    @jax.checkpoint  # derivatives read A again; kept products would be another array of its size
    def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        number, part = block
        columns = jax.lax.dynamic_slice_in_dim(matrix, number * width, width, 1)
        return total + matmul(columns * part[None], columns.mT), None

    first, rest = jnp.split(weights, [count * width])
    blocks = jnp.arange(count), first.reshape(count, width)
    total = jnp.zeros((num_rows, num_rows), jnp.result_type(matrix, weights))
    total, _ = jax.lax.scan(add, total, blocks)
    columns = matrix[:, count * width :]
    return total + matmul(columns * rest[None], columns.mT)
