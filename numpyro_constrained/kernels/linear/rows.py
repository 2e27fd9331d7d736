"""Row spaces: the r x n matrix of a constraint, in the form that its structure allows.

Each form multiplies vectors by itself and by its adjoint, scales its columns, and factors its
Gram matrix. Vectors are ``(*sample, *batch, n)`` or ``(*sample, *batch, r)``.
"""

from abc import ABC, abstractmethod
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from constrained_core.linear.plan import GroupPlan
from numpyro_constrained.kernels.arrays.groups import Groups
from numpyro_constrained.kernels.arrays.held import LARGE, held, held_matvec, is_large, long_matvec
from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import lift, matmul, matvec
from numpyro_constrained.kernels.arrays.plans import plan_tensor
from numpyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram
from numpyro_constrained.kernels.linear.null_space import GroupNullSpace, NullSpace, SingleNullSpace
from numpyro_constrained.kernels.linear.weighted_gram import weighted_gram

__all__ = [
    "DenseRows",
    "DisjointRows",
    "GroupRows",
    "Rows",
    "ScaledRows",
    "SingleRow",
    "UnscaledRows",
]

SOME = 2**12
"""Columns that stand for the size of all."""


class Rows(ABC):
    """An r x n matrix B of independent rows."""

    size: int
    num_variables: int

    @property
    def is_large(self) -> bool:
        """Whether the rows are a constant, and a pass over it takes long."""
        return False

    @abstractmethod
    def apply(self, vector: Array) -> Array:
        """``B vector``."""

    def sums(self, vector: Array) -> Array:
        """``B vector``, with few rounding errors however long the rows are."""
        return self.apply(vector)

    @abstractmethod
    def adjoint(self, vector: Array) -> Array:
        """``B' vector``."""

    @abstractmethod
    def scaled(self, scale: Array) -> "Rows":
        """``B diag(scale)``."""

    @abstractmethod
    def absolute(self) -> "Rows":
        """``|B|`` elementwise."""

    def magnitude(self, vector: Array) -> Array:
        """``|B| vector`` for a vector without negative entries: the size of the terms of a sum."""
        return folded(self.absolute)().apply(vector)

    def some_terms(self, vector: Array) -> Array:
        """At most ``magnitude``, of a few terms only: of none, where rows are not large."""
        return jnp.zeros(self.size, vector.dtype)

    @abstractmethod
    def dense(self) -> Array:
        """``(*batch, r, n)`` B as a matrix."""

    def transform(self, matrix: Array) -> "Rows":
        """``B matrix`` for matrix ``(*batch, n, p)``."""
        return DenseRows(jnp.moveaxis(self.apply(jnp.moveaxis(matrix, -1, 0)), 0, -1))


class DisjointRows(Rows):
    """Rows that share no variable, so that their Gram matrix is diagonal."""

    weights: Any

    @abstractmethod
    def scaled(self, scale: Array) -> "DisjointRows":
        """``B diag(scale)``."""

    @abstractmethod
    def totals(self, vector: Array) -> Array:
        """Sums over the variables of each row, unweighted."""

    @abstractmethod
    def members(self, totals: Array) -> Array:
        """To every variable the figure of its row."""

    def share(self) -> Array:
        """``diag(B' (B B')^-1 B)``, the share of a white variance that the rows take."""
        squares = jnp.square(self.weights)
        total = self.members(self.totals(squares))
        return squares / jnp.where(total > 0, total, 1.0)

    def squared_lengths(self) -> Array:
        """The diagonal of ``B B'``."""
        return self.totals(jnp.square(self.weights))

    def gram(self) -> DiagonalGram:
        """Factor of ``B B'``."""
        return DiagonalGram(self.squared_lengths())

    @abstractmethod
    def null_space(self) -> NullSpace:
        """An orthonormal basis of ``{v : B v = 0}``, continuous in weights that keep their sign."""


class SingleRow(DisjointRows):
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

    def transform(self, matrix: Array) -> "SingleRow":
        if self.plain:
            return SingleRow(matrix.sum(-2))
        weights = lift(self.weights, matrix.ndim - 1)
        return SingleRow(matmul(weights[..., None, :], matrix)[..., 0, :])

    def totals(self, vector: Array) -> Array:
        return vector.sum(-1, keepdims=True)

    def members(self, totals: Array) -> Array:
        return jnp.broadcast_to(totals, totals.shape[:-1] + (self.num_variables,))

    def absolute(self) -> "SingleRow":
        return self if self.plain else SingleRow(abs(self.weights))

    def dense(self) -> Array:
        return jnp.asarray(self.weights)[..., None, :]

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(DisjointRows):
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

    @property
    def is_large(self) -> bool:
        return self.num_variables >= LARGE

    def apply(self, vector: Array) -> Array:
        return self.groups.totals(self._terms(vector))

    def sums(self, vector: Array) -> Array:
        return self.groups.long_totals(self._terms(vector))

    def _terms(self, vector: Array) -> Array:
        return vector if self.plain else vector * lift(self.weights, vector.ndim)

    def adjoint(self, vector: Array) -> Array:
        members = self.groups.members(vector)
        return members if self.plain else members * lift(self.weights, members.ndim)

    def scaled(self, scale: Array) -> "GroupRows":
        weights = scale if self.plain else lift(self.weights, scale.ndim) * scale
        return GroupRows(self.groups, weights, plan=self.plan)

    def totals(self, vector: Array) -> Array:
        return self.groups.totals(vector)

    def members(self, totals: Array) -> Array:
        return self.groups.members(totals)

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.groups, abs(self.weights))

    def some_terms(self, vector: Array) -> Array:
        entries, exists = self.groups.some_members
        terms = vector[..., entries]
        if not self.plain:
            terms = terms * lift(abs(self.weights[..., entries]), terms.ndim)
        # Entry by entry: a reduction over so few takes four times as long.
        largest = reduce(jnp.maximum, (terms[..., some, :] for some in range(len(entries))))
        return jnp.where(exists, largest, 0.0)

    def dense(self) -> Array:
        is_member = np.arange(self.size)[:, None] == self.groups.index
        weights = jnp.asarray(self.weights)[..., None, :]
        return weights * lift(is_member.astype(weights.dtype), weights.ndim)

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, np.int32)
        free = plan_tensor(self.plan, "free", self.weights, np.int32)
        return GroupNullSpace(self.groups, pivots, free, self.weights)


class DenseRows(Rows):
    """Any rows, as a matrix ``(*batch, r, n)``.

    ``products`` is, where it is small, ``(n, r^2)``: ``B diag(v) B' = v @ products``.
    """

    def __init__(self, matrix: Any, products: Any = None) -> None:
        self.matrix, self.products = matrix, products
        self.size, self.num_variables = matrix.shape[-2:]
        self._absolute: DenseRows | None = None

    @property
    def is_large(self) -> bool:
        return is_large(self.matrix)

    def apply(self, vector: Array) -> Array:
        return held_matvec(self.matrix, vector)

    def sums(self, vector: Array) -> Array:
        return long_matvec(self.matrix, vector)

    def adjoint(self, vector: Array) -> Array:
        return held_matvec(self.matrix, vector, transposed=True)

    def scaled(self, scale: Array) -> "ScaledRows":
        return ScaledRows(self.matrix, scale, self.products if scale.ndim > 1 else None)

    def gram_matrix(self) -> Array:
        """``B B'``."""
        return matmul(self.matrix, self.matrix.mT)

    def gram(self) -> DenseGram:
        """Factor of ``B B'``."""
        return DenseGram.of(self.gram_matrix())

    def absolute(self) -> "DenseRows":
        if not isinstance(self.matrix, np.ndarray):
            return DenseRows(abs(self.matrix))
        if self._absolute is None:  # one copy, as each is a constant of programs
            self._absolute = DenseRows(abs(self.matrix))
        return self._absolute

    def magnitude(self, vector: Array) -> Array:
        if not (self.is_large and isinstance(vector, Tracer)):
            return super().magnitude(vector)
        # |B| would be another constant of the size of B.
        matrix = lift(held(self.matrix, vector), vector.ndim + 1)
        return jnp.abs(matrix * vector[..., None, :]).sum(-1)

    def some_terms(self, vector: Array) -> Array:
        every = max(1, self.num_variables // SOME)
        return matvec(abs(self.matrix[..., ::every]), vector[..., ::every])

    def dense(self) -> Array:
        return jnp.asarray(self.matrix)

    def transform(self, matrix: Array) -> "DenseRows":
        ndim = max(matrix.ndim, self.matrix.ndim)
        return DenseRows(matmul(lift(self.matrix, ndim), lift(matrix, ndim)))


class UnscaledRows(Rows):
    """``diag(scale)^-1 B`` for scales that are powers of two: what the B was made of, to the last
    bit, without a copy of its own."""

    def __init__(self, rows: Rows, scale: np.ndarray) -> None:
        self._rows, self._scale = rows, scale
        self.size, self.num_variables = rows.size, rows.num_variables

    @property
    def is_large(self) -> bool:
        return self._rows.is_large

    def apply(self, vector: Array) -> Array:
        return self._divided(self._rows.apply(vector))

    def sums(self, vector: Array) -> Array:
        return self._divided(self._rows.sums(vector))

    def adjoint(self, vector: Array) -> Array:
        return self._rows.adjoint(self._divided(vector))

    def scaled(self, scale: Array) -> "UnscaledRows":
        return UnscaledRows(self._rows.scaled(scale), self._scale)

    def absolute(self) -> "UnscaledRows":
        return UnscaledRows(self._rows.absolute(), self._scale)

    def magnitude(self, vector: Array) -> Array:
        return self._divided(self._rows.magnitude(vector))

    def some_terms(self, vector: Array) -> Array:
        return self._divided(self._rows.some_terms(vector))

    def dense(self) -> Array:
        return self._rows.dense() / self._scale[:, None]

    def _divided(self, vector: Array) -> Array:
        return vector / lift(self._scale, vector.ndim)


class ScaledRows(DenseRows):
    """``B diag(scale)`` that is never made: a batch of scales shares the matrix B."""

    def __init__(self, matrix: Any, scale: Array, products: Any = None) -> None:
        super().__init__(matrix, products)
        self.scale = scale

    def apply(self, vector: Array) -> Array:
        return super().apply(lift(self.scale, vector.ndim) * vector)

    def sums(self, vector: Array) -> Array:
        return super().sums(lift(self.scale, vector.ndim) * vector)

    def adjoint(self, vector: Array) -> Array:
        moved = super().adjoint(vector)
        return lift(self.scale, moved.ndim) * moved

    def gram_matrix(self) -> Array:
        squares = jnp.square(self.scale)
        if self.products is None:
            return weighted_gram(self.matrix, squares)
        return matmul(squares, self.products).reshape(*squares.shape[:-1], self.size, self.size)

    def dense(self) -> Array:
        ndim = max(self.scale.ndim + 1, self.matrix.ndim)
        return lift(self.matrix, ndim) * lift(self.scale, ndim - 1)[..., None, :]
