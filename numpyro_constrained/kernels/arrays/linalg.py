"""Batched matrix-vector products that never copy a matrix over sample dimensions."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.checks.entries import Requirement, no_factor
from constrained_core.errors import ParameterError
from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.loops import cond

__all__ = [
    "WIDE_ANGLE",
    "cholesky",
    "diagonal",
    "gram_root",
    "identity_like",
    "if_everywhere",
    "lift",
    "matmul",
    "matvec",
    "positive_qr",
    "power_of_two_below",
    "solve_lower",
    "solve_lower_adjoint",
    "solve_lower_matrix",
    "split_exactly",
    "take",
    "with_value",
]

Result = TypeVar("Result")

WIDE_ANGLE = 100.0
"""Squared cosecant of the angle between a vector and the others up to which their Gram matrix is
factored directly."""


def lift(array: Any, ndim: int) -> Any:
    """``array`` with axes of size 1 in front up to ``ndim``: ranks are never promoted silently."""
    if array.ndim >= ndim:
        return array
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


def lifted(array: Array, batch_shape: Sequence[int], event_dim: int) -> Array:
    """A parameter with the batch rank of its law, by axes of size 1."""
    with jax.ensure_compile_time_eval():
        return lift(array, len(batch_shape) + event_dim)


def matmul(left: Any, right: Any) -> Array:
    """``left @ right`` in the full precision of the dtype, on accelerators as well."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def cholesky(
    matrix: Array, expected: str, remedy: str, least_pivot: Array | float | None = None
) -> Array:
    """Cholesky factor, or an error with what was expected and what to do; NaN inside a trace.

    Args:
        matrix: ``(*batch, n, n)`` symmetric.
        expected: what the matrix should be.
        remedy: what to do otherwise.
        least_pivot: ``(*batch, 1)`` the smallest squared pivot, relative to the entry that it is
            left from, that is not taken for a rounding error.
    """
    factor = jnp.linalg.cholesky(matrix)
    if least_pivot is not None:
        pivots = jnp.square(stop_gradient(diagonal(factor)))
        fails = (pivots <= least_pivot * stop_gradient(diagonal(matrix))).any(-1)
        factor = jnp.where(fails[..., None, None], jnp.nan, factor)
    if not isinstance(factor, Tracer) and np.isnan(np.asarray(factor)).any():
        raise ParameterError(no_factor(Requirement(expected, remedy), matrix.shape, matrix.dtype))
    return factor


@as_one
def diagonal(matrix: Any) -> Any:
    """``(*batch, n)`` of ``(*batch, n, n)``."""
    return jnp.diagonal(matrix, axis1=-2, axis2=-1)


@as_one
def identity_like(matrix: Any) -> Array:
    """The identity of the size, dtype and rank of ``(*batch, n, n)``."""
    return lift(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.ndim)


def positive_qr(matrix: Array) -> Array:
    """Q of the factorisation of ``(*batch, n, p)`` whose triangle has a positive diagonal: unlike
    others it is continuous in the matrix."""
    orthonormal, triangle = jnp.linalg.qr(matrix)
    return orthonormal * _signs(triangle)[..., None, :]


def _signs(triangle: Array) -> Array:
    return jnp.where(stop_gradient(diagonal(triangle)) < 0, -1.0, 1.0).astype(triangle.dtype)


@jax.custom_jvp
def gram_root(matrix: Array) -> Array:
    """Lower triangular C with a positive diagonal and ``C C' = M' M``, for M ``(*batch, n, p)``.

    By Cholesky's factorisation where columns of M are at wide angles. Elsewhere by
    orthogonalisation, which needs no squares. C is one function of M, and continuous.
    """
    gram = matmul(matrix.mT, matrix)
    factor = jnp.linalg.cholesky(gram)
    half = solve_lower_matrix(factor, jnp.broadcast_to(identity_like(gram), gram.shape))
    squared_cosecants = jnp.square(half).sum(-2) * diagonal(gram)
    return if_everywhere(
        squared_cosecants < WIDE_ANGLE, lambda: factor, lambda: _root_by_qr(matrix)
    )


def _root_by_qr(matrix: Array) -> Array:
    triangle = jnp.linalg.qr(matrix, mode="r")
    return triangle.mT * _signs(triangle)[..., None, :]


@gram_root.defjvp
def _gram_root_jvp(primals: tuple, tangents: tuple) -> tuple:
    (matrix,), (tangent,) = primals, tangents
    root = gram_root(matrix)
    orthonormal = solve_lower_matrix(root, matrix.mT)
    moved = matmul(orthonormal, solve_lower_matrix(root, tangent.mT).mT)
    symmetric = moved + moved.mT
    half = jnp.tril(symmetric, -1) + 0.5 * identity_like(symmetric) * diagonal(symmetric)[..., None]
    return root, matmul(root, half)


def if_everywhere(
    holds: Array, then: Callable[[], Result], otherwise: Callable[[], Result]
) -> Result:
    """``then()`` if all of ``holds`` does, over the batch of any ``vmap`` as well; else
    ``otherwise()``. Only one of them is computed."""
    if not isinstance(holds, Tracer):
        return then() if np.asarray(holds).all() else otherwise()
    return cond(_all(stop_gradient(holds)), then, jax.checkpoint(otherwise))


@jax.custom_jvp
def with_value(computed: Array, value: Array) -> Array:
    """``value``, with the derivatives of ``computed``."""
    return value


@with_value.defjvp
def _with_value_jvp(primals: tuple, tangents: tuple) -> tuple:
    return with_value(*primals), tangents[0]


@jax.custom_batching.custom_vmap
def _all(holds: Array) -> Array:
    return jnp.all(holds)


@_all.def_vmap
def _all_of_batch(axis_size: int, in_batched: Any, holds: Array) -> tuple[Array, bool]:
    return _all(holds), False


@as_one
def take(vector: Array, index: Any) -> Array:
    """Entries ``index``, ``(*batch, p)``, of the last dimension."""
    if index.ndim == 1:
        return vector[..., index]
    batch_shape = jnp.broadcast_shapes(vector.shape[:-1], index.shape[:-1])
    vector = jnp.broadcast_to(vector, batch_shape + vector.shape[-1:])
    index = jnp.broadcast_to(lift(index, vector.ndim), batch_shape + index.shape[-1:])
    return jnp.take_along_axis(vector, index, -1)


@as_one
def matvec(matrix: Any, vector: Array) -> Array:
    """``matrix @ vector`` for matrix ``(*batch, a, b)`` and vector ``(*sample, *batch, b)``."""
    if matrix.ndim == 2:
        return matmul(vector, matrix.mT)
    return _over_columns(matmul, matrix, vector)


@as_one
def solve_lower(factor: Any, vector: Array) -> Array:
    """``L^-1 vector`` for lower triangular L ``(*batch, r, r)``."""
    return _over_columns(solve_lower_matrix, factor, vector)


@as_one
def solve_lower_adjoint(factor: Any, vector: Array) -> Array:
    """``L^-T vector`` for lower triangular L."""
    return _over_columns(_solve_lower_adjoint, factor, vector)


@partial(as_one, static_argnums=(2,))
def solve_lower_matrix(factor: Any, columns: Array, adjoint: bool = False) -> Array:
    """``L^-1 columns``, or ``L^-T columns``, for columns ``(*batch, r, p)``."""
    batch_shape = jnp.broadcast_shapes(factor.shape[:-2], columns.shape[:-2])
    dtype = jnp.promote_types(factor.dtype, columns.dtype)  # a value may be of its own precision
    factor, columns = factor.astype(dtype), columns.astype(dtype)
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


def power_of_two_below(size: Array) -> Array:
    """The largest power of two of at most each size ``>= 0``; 1 for zero. No gradient."""
    # The number without its mantissa. Not by ``ldexp``, which takes a power: accelerators round it.
    exponents = np.array(np.inf, size.dtype).view(f"i{size.dtype.itemsize}")
    bits = lax.bitcast_convert_type(stop_gradient(size), exponents.dtype) & exponents
    power = lax.bitcast_convert_type(bits, size.dtype)
    return jnp.where(power > 0, power, 1)


def split_exactly(value: Array, bits: int) -> tuple[Array, Array | None]:
    """``value = high + low`` where products of high with rows of ``bits`` bits are exact; low is
    None where these are too many.

    Where rows depend on each other, the residual of one is the sum of those of others: it is
    small only if theirs are known beyond rounding (error-free splitting, Ozaki et al. 2012).
    """
    mantissa = 1 - int(np.log2(jnp.finfo(value.dtype).eps))
    if bits + 3 > mantissa or value.size == 0:
        return value, None
    fixed = stop_gradient(value)
    largest = power_of_two_below(jnp.abs(fixed).max(-1, keepdims=True))
    unit = largest * 2.0 ** (1 + bits - mantissa)
    high = jnp.round(fixed / unit) * unit
    return high, value - high
