"""Symmetric positive definite r x r matrices F = S S', factored."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.errors import ParameterError
from numpyro_constrained.kernels.linalg import (
    WIDE_ANGLE,
    diagonal,
    identity_like,
    lift,
    matmul,
    matvec,
    solve_lower_matrix,
)

__all__ = ["DenseGram", "DiagonalGram", "Gram"]


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
    """

    is_safe: Array

    def __init__(self, half_log_det: Any, inverse: Any) -> None:
        self.half_log_det, self.inverse = half_log_det, inverse

    @classmethod
    def of(cls, matrix: Array, checked: bool = True) -> "DenseGram":
        """Factor F; if it is not positive definite, NaN, or where values are known an error."""
        gram = cls(*_half_log_det_and_inverse(matrix))
        squared_cosecants = diagonal(gram.inverse) * diagonal(matrix)
        gram.is_safe = stop_gradient((squared_cosecants < WIDE_ANGLE).all(-1))
        if checked and not isinstance(gram.inverse, Tracer) and np.isnan(gram.inverse).any():
            raise ParameterError(
                "expected scales under which the rows of A x are independent in the digits of "
                f"{matrix.dtype}, got a covariance of A x without a Cholesky factor; check for "
                "scales that are zero, infinite or many orders of magnitude apart, or use float64."
            )
        return gram

    def solve(self, vector: Array) -> Array:
        return matvec(self.inverse, vector)


@jax.custom_jvp
def _half_log_det_and_inverse(matrix: Array) -> tuple[Array, Array]:
    """``1/2 log det F`` and ``F^-1``; derivatives take the inverse, not the factorisation."""
    factor = jnp.linalg.cholesky(matrix)
    half = solve_lower_matrix(factor, identity_like(matrix))
    return jnp.log(diagonal(factor)).sum(-1), matmul(half.mT, half)


@_half_log_det_and_inverse.defjvp
def _half_log_det_and_inverse_jvp(primals: tuple, tangents: tuple) -> tuple:
    half_log_det, inverse = _half_log_det_and_inverse(*primals)
    (tangent,) = tangents
    through = matmul(matmul(inverse, tangent), inverse)
    return (half_log_det, inverse), (0.5 * (inverse * tangent).sum((-2, -1)), -through)
