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
from numpyro_constrained.kernels.linalg import (
    cholesky,
    lift,
    matmul,
    matvec,
    solve_gram,
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

__all__ = ["DenseRows", "Gram", "GroupRows", "Rows", "SingleRow"]


class Gram(ABC):
    """Factor of a symmetric positive definite r x r matrix F = C C'."""

    half_log_det: Array

    @abstractmethod
    def whiten(self, vector: Array) -> Array:
        """``C^-1 vector``."""

    @abstractmethod
    def solve(self, vector: Array) -> Array:
        """``F^-1 vector``."""


class DiagonalGram(Gram):
    """F is diagonal, held as the vector of its diagonal."""

    def __init__(self, diagonal: Array) -> None:
        self.diagonal = diagonal
        self.half_log_det = 0.5 * jnp.log(diagonal).sum(-1)

    def whiten(self, vector: Array) -> Array:
        return vector / lift(jnp.sqrt(self.diagonal), vector.ndim)

    def solve(self, vector: Array) -> Array:
        return vector / lift(self.diagonal, vector.ndim)


class DenseGram(Gram):
    """F is dense, held as its Cholesky factor."""

    def __init__(self, matrix: Array) -> None:
        self.factor = cholesky(matrix, "the covariance of A x")
        self.half_log_det = jnp.log(jnp.diagonal(self.factor, axis1=-2, axis2=-1)).sum(-1)

    def whiten(self, vector: Array) -> Array:
        return solve_lower(self.factor, vector)

    def solve(self, vector: Array) -> Array:
        return solve_gram(self.factor, vector)


class Balanced(NamedTuple):
    """Rows S = T S~: the balanced rows S~, the lower triangular T (None for the identity)
    and log|det T|. T is a constant: nothing that the row space determines depends on it."""

    rows: "Rows"
    triangle: Array | None
    log_det: Array | float

    def reduce(self, vector: Array) -> Array:
        """``T^-1 vector``."""
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
        """The same row space in rows of comparable size, where their Gram matrix is safe."""
        return Balanced(self, None, 0.0)

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
        return jnp.square(gram.whiten(self.weights))

    def absolute(self) -> "SingleRow":
        return self if self.plain else SingleRow(abs(self.weights))

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(Rows):
    """Disjoint rows: variable i is in row ``index[i]`` with weight ``weights[..., i]``.

    ``plain`` says that all weights are one; ``plan`` tells the pivots of the null space.
    """

    def __init__(
        self,
        index: np.ndarray,
        size: int,
        weights: Any,
        plain: bool = False,
        plan: GroupPlan | None = None,
    ) -> None:
        self.index, self.size, self.weights = index, size, weights
        self.plain, self.plan = plain, plan
        self.num_variables = len(index)

    def _sum(self, vector: Array) -> Array:
        totals = jnp.zeros(vector.shape[:-1] + (self.size,), vector.dtype)
        return totals.at[..., self.index].add(vector)

    def _members(self, vector: Array) -> Array:
        return vector[..., self.index]

    def apply(self, vector: Array) -> Array:
        return self._sum(vector if self.plain else vector * lift(self.weights, vector.ndim))

    def adjoint(self, vector: Array) -> Array:
        members = self._members(vector)
        return members if self.plain else members * lift(self.weights, members.ndim)

    def scaled(self, scale: Array) -> "GroupRows":
        weights = scale if self.plain else lift(self.weights, scale.ndim) * scale
        return GroupRows(self.index, self.size, weights, plan=self.plan)

    def gram(self) -> Gram:
        return DiagonalGram(self._sum(self.weights * self.weights))

    def leverage(self, gram: Gram) -> Array:
        inverse = gram.solve(jnp.ones((*self.weights.shape[:-1], self.size), self.weights.dtype))
        return jnp.square(self.weights) * self._members(inverse)

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.index, self.size, abs(self.weights))

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, np.int32)
        free = plan_tensor(self.plan, "free", self.weights, np.int32)
        return GroupNullSpace(self.index, pivots, free, self.weights)


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
        log_det = jnp.log(jnp.abs(jnp.diagonal(triangle, axis1=-2, axis2=-1))).sum(-1)
        return Balanced(DenseRows(solve_lower_matrix(triangle, self.matrix)), triangle, log_det)

    def scaled(self, scale: Array) -> "DenseRows":
        return DenseRows(lift(self.matrix, scale.ndim + 1) * scale[..., None, :])

    def gram(self) -> Gram:
        return DenseGram(matmul(self.matrix, self.matrix.mT))

    def leverage(self, gram: Gram) -> Array:
        whitened = gram.whiten(jnp.moveaxis(self.matrix, -1, 0))
        return jnp.moveaxis(jnp.square(whitened).sum(-1), 0, -1)

    def absolute(self) -> "DenseRows":
        return DenseRows(abs(self.matrix))

    def transform(self, matrix: Array) -> "DenseRows":
        return DenseRows(matmul(self.matrix, matrix))

    def null_space(self) -> NullSpace:
        return BlockNullSpace.of(jnp.asarray(self.matrix))
