"""Row spaces: the r x n matrix of a constraint, in the form that its structure allows.

Each form multiplies vectors by itself and by its adjoint, scales its columns, and factors its
Gram matrix. Vectors are ``(*sample, *batch, n)`` or ``(*sample, *batch, r)``.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.plan import GroupPlan
from numpyro_constrained.kernels.groups import Groups
from numpyro_constrained.kernels.linalg import (
    cholesky,
    lift,
    matmul,
    matvec,
    solve_lower,
    solve_lower_matrix,
)
from numpyro_constrained.kernels.null_space import (
    BlockNullSpace,
    GroupNullSpace,
    NullSpace,
    SingleNullSpace,
)
from numpyro_constrained.kernels.plans import plan_tensor

__all__ = ["Balanced", "DenseGram", "DenseRows", "Gram", "GroupRows", "Rows", "SingleRow"]


class Gram(ABC):
    """A symmetric positive definite r x r matrix F, factored."""

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
    """F is dense, held as its inverse."""

    def __init__(self, half_log_det: Any, inverse: Any) -> None:
        self.half_log_det, self.inverse = half_log_det, inverse

    @classmethod
    def of(cls, matrix: Array) -> "DenseGram":
        """Of F itself."""
        return cls(*_half_log_det_and_inverse(matrix))

    def solve(self, vector: Array) -> Array:
        return matvec(self.inverse, vector)


@jax.custom_jvp
def _half_log_det_and_inverse(matrix: Array) -> tuple[Array, Array]:
    """``1/2 log det F`` and ``F^-1``; derivatives take the inverse, not the factorisation."""
    factor = cholesky(matrix, "the covariance of A x")
    identity = lift(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.ndim)
    half = solve_lower_matrix(factor, identity)
    return jnp.log(_diagonal(factor)).sum(-1), matmul(half.mT, half)


@_half_log_det_and_inverse.defjvp
def _half_log_det_and_inverse_jvp(primals: tuple, tangents: tuple) -> tuple:
    half_log_det, inverse = _half_log_det_and_inverse(*primals)
    (tangent,) = tangents
    through = matmul(matmul(inverse, tangent), inverse)
    return (half_log_det, inverse), (0.5 * (inverse * tangent).sum((-2, -1)), -through)


def _diagonal(matrix: Array) -> Array:
    return jnp.diagonal(matrix, axis1=-2, axis2=-1)


class Balanced(NamedTuple):
    """Rows S = T S~: the balanced rows S~ and their Gram matrix, the lower triangular T (None for
    the identity) and log|det T|. T is a constant: nothing that the row space determines depends
    on it. Where the rows are ``scale`` S, for a scale ``(*batch, 1)``, that is kept apart."""

    rows: "Rows"
    gram: Gram
    triangle: Array | None = None
    log_det: Array | float = 0.0
    scale: Array | None = None

    def times(self, scale: Array) -> "Balanced":
        """The rows times one number."""
        return self._replace(scale=scale, log_det=self.rows.size * jnp.log(scale)[..., 0])

    def reduce(self, vector: Array) -> Array:
        """``T^-1 vector``, over the scale."""
        if self.scale is not None:
            vector = vector / lift(self.scale, vector.ndim)
        return vector if self.triangle is None else solve_lower(self.triangle, vector)


class Rows(ABC):
    """An r x n matrix B of independent rows."""

    size: int
    num_variables: int

    @abstractmethod
    def apply(self, vector: Array) -> Array:
        """``B vector``."""

    @abstractmethod
    def adjoint(self, vector: Array) -> Array:
        """``B' vector``."""

    @abstractmethod
    def scaled(self, scale: Array) -> "Rows":
        """``B diag(scale)``."""

    @abstractmethod
    def gram(self) -> Gram:
        """Factor of ``B B'``."""

    def balanced(self) -> "Balanced":
        """The same row space in rows whose Gram matrix can be factored safely."""
        return Balanced(self, self.gram())

    @abstractmethod
    def leverage(self, gram: Gram) -> Array:
        """Diagonal of ``B' F^-1 B``."""

    @abstractmethod
    def absolute(self) -> "Rows":
        """``|B|`` elementwise."""

    @abstractmethod
    def null_space(self) -> NullSpace:
        """An orthonormal basis of ``{v : B v = 0}``."""

    def transform(self, matrix: Array) -> "DenseRows":
        """``B matrix`` for matrix ``(*batch, n, p)``."""
        return DenseRows(jnp.moveaxis(self.apply(jnp.moveaxis(matrix, -1, 0)), 0, -1))


class SingleRow(Rows):
    """One row of weights ``(*batch, n)``; ``plain`` says that they are all one."""

    size = 1

    def __init__(self, weights: Any, plain: bool = False) -> None:
        self.weights, self.plain = weights, plain
        self.num_variables = weights.shape[-1]

    def apply(self, vector: Array) -> Array:
        if self.plain:
            return vector.sum(-1, keepdims=True)
        if self.weights.ndim == 1:
            return matmul(vector, self.weights)[..., None]
        return (vector * lift(self.weights, vector.ndim)).sum(-1, keepdims=True)

    def adjoint(self, vector: Array) -> Array:
        if self.plain:
            return jnp.broadcast_to(vector, vector.shape[:-1] + (self.num_variables,))
        return vector * lift(self.weights, vector.ndim)

    def scaled(self, scale: Array) -> "SingleRow":
        return SingleRow(scale if self.plain else lift(self.weights, scale.ndim) * scale)

    def gram(self) -> Gram:
        return DiagonalGram((self.weights * self.weights).sum(-1, keepdims=True))

    def leverage(self, gram: Gram) -> Array:
        return gram.solve(jnp.square(self.weights))

    def absolute(self) -> "SingleRow":
        return self if self.plain else SingleRow(abs(self.weights))

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(Rows):
    """Disjoint rows: every variable is in the row of its group, with weight ``weights[..., i]``.

    ``plain`` says that all weights are one; ``plan`` tells the pivots of the null space.
    """

    def __init__(
        self,
        groups: Groups,
        weights: Any,
        plain: bool = False,
        plan: GroupPlan | None = None,
    ) -> None:
        self.groups, self.weights = groups, weights
        self.plain, self.plan = plain, plan
        self.size, self.num_variables = groups.size, len(groups.index)

    def apply(self, vector: Array) -> Array:
        return self.groups.totals(
            vector if self.plain else vector * lift(self.weights, vector.ndim)
        )

    def adjoint(self, vector: Array) -> Array:
        members = self.groups.members(vector)
        return members if self.plain else members * lift(self.weights, members.ndim)

    def scaled(self, scale: Array) -> "GroupRows":
        weights = scale if self.plain else lift(self.weights, scale.ndim) * scale
        return GroupRows(self.groups, weights, plan=self.plan)

    def gram(self) -> Gram:
        return DiagonalGram(self.groups.totals(self.weights * self.weights))

    def leverage(self, gram: Gram) -> Array:
        inverse = gram.solve(jnp.ones((*self.weights.shape[:-1], self.size), self.weights.dtype))
        return jnp.square(self.weights) * self.groups.members(inverse)

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.groups, abs(self.weights))

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, np.int32)
        free = plan_tensor(self.plan, "free", self.weights, np.int32)
        return GroupNullSpace(self.groups, pivots, free, self.weights)


class DenseRows(Rows):
    """Any rows, as a matrix ``(*batch, r, n)``."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.size, self.num_variables = matrix.shape[-2:]

    def apply(self, vector: Array) -> Array:
        return matvec(self.matrix, vector)

    def adjoint(self, vector: Array) -> Array:
        return matvec(self.matrix.mT, vector)

    def balanced(self) -> Balanced:
        """Partial pivoting picks variables of large scale: rows of 1e-6 and 1e6 stay apart, where
        the Gram matrix of the rows themselves would lose the small ones to rounding."""
        packed, _, _ = jax.lax.linalg.lu(stop_gradient(self.matrix).mT)
        triangle = jnp.triu(packed[..., : self.size, :]).mT
        log_det = jnp.log(jnp.abs(_diagonal(triangle))).sum(-1)
        rows = DenseRows(solve_lower_matrix(triangle, self.matrix))
        return Balanced(rows, rows.gram(), triangle, log_det)

    def scaled(self, scale: Array) -> "DenseRows":
        return DenseRows(lift(self.matrix, scale.ndim + 1) * scale[..., None, :])

    def gram(self) -> Gram:
        return DenseGram.of(matmul(self.matrix, self.matrix.mT))

    def leverage(self, gram: Gram) -> Array:
        solved = gram.solve(jnp.moveaxis(self.matrix, -1, 0))
        return (self.matrix * jnp.moveaxis(solved, 0, -1)).sum(-2)

    def absolute(self) -> "DenseRows":
        return DenseRows(abs(self.matrix))

    def transform(self, matrix: Array) -> "DenseRows":
        return DenseRows(matmul(self.matrix, matrix))

    def null_space(self) -> NullSpace:
        return BlockNullSpace.of(jnp.asarray(self.matrix))
