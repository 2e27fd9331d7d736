"""Symmetric positive definite r x r matrices F = S S', factored."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.checks.entries import INDEPENDENT_ROWS, beyond_range, no_factor
from constrained_core.errors import ParameterError
from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.linalg import (
    WIDE_ANGLE,
    diagonal,
    identity_like,
    lift,
    matmul,
    matvec,
    solve_lower_matrix,
)

__all__ = ["DenseGram", "DiagonalGram", "Gram", "within_range"]


def within_range(variances: Array) -> Array:
    """The variances; where one is beyond the range of its dtype NaN, or where values are known an
    error."""
    is_beyond = _is_beyond(stop_gradient(variances))
    if isinstance(is_beyond, Tracer):
        return jnp.where(is_beyond, jnp.nan, variances)
    if np.any(is_beyond):
        raise ParameterError(beyond_range(variances.dtype))
    return variances


def _is_beyond(variances: Array) -> Array:
    """Where a variance, its inverse, or the terms that it is the sum of, have no digits left."""
    info = jnp.finfo(variances.dtype)
    least = float(info.tiny) / float(info.eps)
    return (variances < least) | (variances > 1 / least)


class Gram(ABC):
    """F, factored."""

    half_log_det: Array

    @abstractmethod
    def solve(self, vector: Array) -> Array:
        """``F^-1 vector``."""


class DiagonalGram(Gram):
    """F is diagonal, held as the vector of its diagonal."""

    def __init__(self, diagonal: Array) -> None:
        self.diagonal = diagonal
        self.half_log_det = 0.5 * jnp.log(diagonal).sum(-1)

    def solve(self, vector: Array) -> Array:
        return vector / lift(self.diagonal, vector.ndim)


class DenseGram(Gram):
    """F is dense, held as its inverse.

    ``is_safe`` says, ``(*batch,)``, whether no row of S is at a narrow angle to the others.

    Derivatives in F are products with the inverse, whose own derivatives nobody needs but for those
    of second order: a factor is no part of what is differentiated.

    Args:
        half_log_det: 1/2 log det F.
        inverse: F^-1.
        matrix: F, for derivatives; None if it is constant.
    """

    is_safe: Array

    def __init__(self, half_log_det: Any, inverse: Any, matrix: Any = None) -> None:
        self._inverse, self._matrix = inverse, matrix
        if matrix is not None:
            half_log_det = _half_log_det(matrix, inverse, half_log_det)
        self.half_log_det = half_log_det

    @classmethod
    def of(cls, matrix: Array, checked: bool = True) -> "DenseGram":
        """Factor F; if it is not positive definite, NaN, or where values are known an error."""
        half_log_det, inverse, is_safe = _factored(stop_gradient(matrix))
        gram = cls(half_log_det, inverse, matrix)
        gram.is_safe = is_safe
        if checked and not isinstance(inverse, Tracer) and np.isnan(inverse).any():
            raise ParameterError(no_factor(INDEPENDENT_ROWS, matrix.shape, matrix.dtype))
        return gram

    @property
    def inverse(self) -> Array:
        """F^-1."""
        return self._inverse if self._matrix is None else _inverse(self._matrix, self._inverse)

    def solve(self, vector: Array) -> Array:
        if self._matrix is None:
            return matvec(self._inverse, vector)
        return _solve(self._matrix, self._inverse, vector)


@as_one
def _factored(matrix: Array) -> tuple[Array, Array, Array]:
    """1/2 log det F, F^-1, and whether no row is at a narrow angle to the others."""
    is_beyond = _is_beyond(diagonal(matrix)).any(-1)
    factor = jnp.linalg.cholesky(jnp.where(is_beyond[..., None, None], jnp.nan, matrix))
    half = solve_lower_matrix(factor, identity_like(matrix))
    inverse = matmul(half.mT, half)
    squared_cosecants = diagonal(inverse) * diagonal(matrix)
    is_safe = (squared_cosecants < WIDE_ANGLE).all(-1) | is_beyond  # no other rows would help
    return jnp.log(diagonal(factor)).sum(-1), inverse, is_safe


@jax.custom_jvp
def _half_log_det(matrix: Array, inverse: Array, half_log_det: Array) -> Array:
    return half_log_det


@_half_log_det.defjvp
def _half_log_det_jvp(primals: tuple, tangents: tuple) -> tuple:
    change = 0.5 * (_inverse(*primals[:2]) * tangents[0]).sum((-2, -1))
    return _half_log_det(*primals), change


@jax.custom_jvp
def _inverse(matrix: Array, inverse: Array) -> Array:
    return inverse


@_inverse.defjvp
def _inverse_jvp(primals: tuple, tangents: tuple) -> tuple:
    inverse = _inverse(*primals)
    return inverse, -matmul(matmul(inverse, tangents[0]), inverse)


@jax.custom_jvp
def _solve(matrix: Array, inverse: Array, vector: Array) -> Array:
    return matvec(inverse, vector)


@_solve.defjvp
def _solve_jvp(primals: tuple, tangents: tuple) -> tuple:
    solution = _solve(*primals)
    change = lift(tangents[2], solution.ndim) - matvec(tangents[0], solution)
    # Not _solve of the change: what is transposed would no longer know that F^-1 moves with F.
    return solution, matvec(_inverse(*primals[:2]), change)
