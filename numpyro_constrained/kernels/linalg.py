"""Batched matrix-vector products that never copy a matrix over sample dimensions."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from constrained_core.errors import ParameterError

__all__ = [
    "cholesky",
    "lift",
    "matmul",
    "matvec",
    "precision_to_tril",
    "solve_lower",
    "solve_lower_adjoint",
    "solve_lower_matrix",
    "split_exactly",
]


def lift(array: Any, ndim: int) -> Any:
    """``array`` with axes of size 1 in front up to ``ndim``: ranks are never promoted silently."""
    if array.ndim >= ndim:
        return array
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


def matmul(left: Any, right: Any) -> Array:
    """``left @ right`` in the full precision of the dtype, on accelerators as well."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def cholesky(matrix: Array, name: str) -> Array:
    """Cholesky factor, or an error that names the matrix."""
    factor = jnp.linalg.cholesky(matrix)
    if not isinstance(factor, jax.core.Tracer) and np.isnan(np.asarray(factor)).any():
        raise ParameterError(
            f"expected {name} to be positive definite, got a matrix of shape "
            f"{tuple(matrix.shape)} and dtype {matrix.dtype} without a Cholesky factor; check its "
            "eigenvalues, add a small multiple of the identity, or use float64."
        )
    return factor


def precision_to_tril(precision: Array, name: str) -> Array:
    """Lower Cholesky factor of the inverse, by factoring the matrix in reverse order."""
    reverse = jnp.flip(cholesky(jnp.flip(precision, (-2, -1)), name), (-2, -1)).mT
    identity = jnp.eye(precision.shape[-1], dtype=precision.dtype)
    return solve_lower_matrix(reverse, lift(identity, reverse.ndim))


def matvec(matrix: Any, vector: Array) -> Array:
    """``matrix @ vector`` for matrix ``(*batch, a, b)`` and vector ``(*sample, *batch, b)``."""
    if matrix.ndim == 2:
        return matmul(vector, matrix.mT)
    return _over_columns(matmul, matrix, vector)


def solve_lower(factor: Any, vector: Array) -> Array:
    """``L^-1 vector`` for lower triangular L ``(*batch, r, r)``."""
    return _over_columns(solve_lower_matrix, factor, vector)


def solve_lower_adjoint(factor: Any, vector: Array) -> Array:
    """``L^-T vector`` for lower triangular L."""
    return _over_columns(_solve_lower_adjoint, factor, vector)


def solve_lower_matrix(factor: Any, columns: Array, adjoint: bool = False) -> Array:
    """``L^-1 columns``, or ``L^-T columns``, for columns ``(*batch, r, p)``."""
    batch_shape = jnp.broadcast_shapes(factor.shape[:-2], columns.shape[:-2])
    return jax.lax.linalg.triangular_solve(
        jnp.broadcast_to(factor, batch_shape + factor.shape[-2:]),
        jnp.broadcast_to(columns, batch_shape + columns.shape[-2:]),
        left_side=True,
        lower=True,
        transpose_a=adjoint,
    )


def _solve_lower_adjoint(factor: Any, columns: Array) -> Array:
    return solve_lower_matrix(factor, columns, adjoint=True)


def _over_columns(operation: Callable, matrix: Any, vector: Array) -> Array:
    """Apply ``operation(matrix, columns)`` with all sample dimensions gathered as columns."""
    while matrix.ndim > 2 and matrix.shape[0] == 1:  # such a batch shares its matrix
        matrix = matrix[0]
    vector = lift(vector, matrix.ndim - 1)
    num_samples = vector.ndim - (matrix.ndim - 1)
    sample_shape, rest = vector.shape[:num_samples], vector.shape[num_samples:]
    columns = jnp.moveaxis(vector.reshape((prod(sample_shape),) + rest), 0, -1)
    result = jnp.moveaxis(operation(matrix, columns), -1, 0)
    return result.reshape(sample_shape + result.shape[1:])


def split_exactly(value: Array, bits: int) -> tuple[Array, Array]:
    """``value = high + low`` where products of high with rows of ``bits`` bits are exact.

    Where rows depend on each other, the residual of one is the sum of those of others: it is
    small only if theirs are known beyond rounding (error-free splitting, Ozaki et al. 2012).
    """
    mantissa = 1 - int(np.log2(jnp.finfo(value.dtype).eps))
    if bits + 3 > mantissa or value.size == 0:
        return value, jnp.zeros_like(value)
    _, exponent = jnp.frexp(jnp.abs(value).max(-1, keepdims=True))
    unit = jnp.ldexp(jnp.ones_like(value[..., :1]), exponent - (mantissa - bits))
    high = jnp.round(value / unit) * unit
    return high, value - high
