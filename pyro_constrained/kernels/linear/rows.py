"""Row spaces: the r x n matrix of a constraint, in the form that its structure allows.

Each form multiplies vectors by itself and by its adjoint, scales its columns, and factors its
Gram matrix. Vectors are ``(*sample, *batch, n)`` or ``(*sample, *batch, r)``.

A product and a sum are two operations here: ``torch.addcmul`` is one, but takes twice as many to
differentiate.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from constrained_core.linear.plan import GroupPlan
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.linalg import (
    add_matvec,
    long_matvec,
    matvec,
)
from pyro_constrained.kernels.arrays.long_vectors import sum_of_squares
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram, Gram
from pyro_constrained.kernels.linear.null_space import GroupNullSpace, NullSpace, SingleNullSpace
from pyro_constrained.kernels.linear.weighted_gram import weighted_gram

__all__ = ["DenseRows", "GroupRows", "Rows", "ScaledRows", "SingleRow"]


class Rows(ABC):
    """An r x n matrix B of independent rows."""

    size: int
    num_variables: int

    @abstractmethod
    def apply(self, vector: Tensor) -> Tensor:
        """``B vector``."""

    def sums(self, vector: Tensor) -> Tensor:
        """``B vector``, with few rounding errors however long the rows are."""
        return self.apply(vector)

    @abstractmethod
    def adjoint(self, vector: Tensor) -> Tensor:
        """``B' vector``."""

    @abstractmethod
    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        """``vector + B' multipliers``."""

    def magnitude(self, value: Tensor) -> Tensor:
        """``|B| |value|``, the size of the terms of ``B value``."""
        return self.absolute().apply(value.abs())

    @abstractmethod
    def scaled(self, scale: Tensor) -> "Rows":
        """``B diag(scale)``."""

    @abstractmethod
    def absolute(self) -> "Rows":
        """``|B|`` elementwise."""

    @abstractmethod
    def dense(self) -> Tensor:
        """``(*batch, r, n)`` B as a matrix."""

    def transform(self, matrix: Tensor) -> "Rows":
        """``B matrix`` for matrix ``(*batch, n, p)``."""
        return DenseRows(self.apply(matrix.mT).mT)


class DisjointRows(Rows):
    """Rows that share no variable, so that their Gram matrix is diagonal."""

    weights: Tensor

    @abstractmethod
    def scaled(self, scale: Tensor) -> "DisjointRows":
        """``B diag(scale)``."""

    @abstractmethod
    def totals(self, vector: Tensor) -> Tensor:
        """Sums over the variables of each row, unweighted."""

    @abstractmethod
    def members(self, totals: Tensor) -> Tensor:
        """To every variable the figure of its row."""

    def share(self) -> Tensor:
        """``diag(B' (B B')^-1 B)``, the share of a white variance that the rows take."""
        squares = self.weights.square()
        total = self.members(self.totals(squares))
        return squares / torch.where(total > 0, total, 1.0)

    def squared_lengths(self) -> Tensor:
        """The diagonal of ``B B'``."""
        return self.totals(self.weights.square())

    def gram(self) -> DiagonalGram:
        """Factor of ``B B'``."""
        return DiagonalGram(self.squared_lengths())

    @abstractmethod
    def null_space(self) -> NullSpace:
        """An orthonormal basis of ``{v : B v = 0}``, continuous in weights that keep their sign."""


class SingleRow(DisjointRows):
    """One row of weights ``(*batch, n)``; ``plain`` says that they are all one.

    ``absolute`` is ``|weights|``, if that is known already.
    """

    size = 1

    def __init__(
        self, weights: Tensor, plain: bool = False, absolute: Tensor | None = None
    ) -> None:
        self.weights, self.plain, self._absolute = weights, plain, absolute
        self.num_variables = weights.shape[-1]

    def apply(self, vector: Tensor) -> Tensor:
        if self.plain:
            return vector.sum(-1, keepdim=True)
        if self.weights.ndim == 1:
            return (vector @ self.weights).unsqueeze(-1)
        return (vector * self.weights).sum(-1, keepdim=True)

    def sums(self, vector: Tensor) -> Tensor:
        if self.plain or self.weights.ndim > 1:  # PyTorch's own sums are of parts
            return self.apply(vector)
        return long_matvec(self.weights[None], vector)

    def adjoint(self, vector: Tensor) -> Tensor:
        if self.plain:
            return vector.expand(vector.shape[:-1] + (self.num_variables,))
        return vector * self.weights

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return vector + self.weights * multipliers

    def scaled(self, scale: Tensor) -> "SingleRow":
        return SingleRow(scale if self.plain else self.weights * scale)

    def squared_lengths(self) -> Tensor:
        return sum_of_squares(self.weights).unsqueeze(-1)

    def transform(self, matrix: Tensor) -> "SingleRow":
        if self.plain:
            return SingleRow(matrix.sum(-2))
        return SingleRow(matvec(matrix.mT, self.weights))

    def totals(self, vector: Tensor) -> Tensor:
        return vector.sum(-1, keepdim=True)

    def members(self, totals: Tensor) -> Tensor:
        return totals.expand(totals.shape[:-1] + (self.num_variables,))

    def absolute(self) -> "SingleRow":
        if self.plain:
            return self
        return SingleRow(self.weights.abs() if self._absolute is None else self._absolute)

    def dense(self) -> Tensor:
        return self.weights[..., None, :]

    def magnitude(self, value: Tensor) -> Tensor:
        if self.plain:
            return torch.linalg.vector_norm(value, ord=1, dim=-1, keepdim=True)
        return super().magnitude(value)

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(DisjointRows):
    """Disjoint rows: every variable is in the row of its group, with weight ``weights[..., i]``.

    ``plain`` says that all weights are one; ``plan`` tells the pivots of the null space.
    """

    def __init__(
        self,
        groups: Groups,
        weights: Tensor,
        plain: bool = False,
        plan: GroupPlan | None = None,
    ) -> None:
        self.groups, self.weights = groups, weights
        self.plain, self.plan = plain, plan
        self.size, self.num_variables = groups.size, groups.num_entries

    def apply(self, vector: Tensor) -> Tensor:
        return self.groups.totals(self._terms(vector))

    def sums(self, vector: Tensor) -> Tensor:
        return self.groups.long_totals(self._terms(vector))

    def _terms(self, vector: Tensor) -> Tensor:
        return vector if self.plain else vector * self.weights

    def adjoint(self, vector: Tensor) -> Tensor:
        members = self.groups.members(vector)
        return members if self.plain else members * self.weights

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return vector + self.weights * self.groups.members(multipliers)

    def scaled(self, scale: Tensor) -> "GroupRows":
        weights = scale if self.plain else self.weights * scale
        return GroupRows(self.groups, weights, plan=self.plan)

    def totals(self, vector: Tensor) -> Tensor:
        return self.groups.totals(vector)

    def members(self, totals: Tensor) -> Tensor:
        return self.groups.members(totals)

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.groups, self.weights.abs())

    def dense(self) -> Tensor:
        row = torch.arange(self.size, device=self.weights.device)[:, None]
        return self.weights[..., None, :] * (row == self.groups.index)

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, torch.int64)
        free = plan_tensor(self.plan, "free", self.weights, torch.int64)
        return GroupNullSpace(self.groups, pivots, free, self.weights)


class DenseRows(Rows):
    """Any rows, as a matrix ``(*batch, r, n)``.

    ``products`` is, where it is small, ``(n, r^2)``: ``B diag(v) B' = v @ products``; ``absolute``
    is ``|B|``, if that is known already.
    """

    def __init__(
        self, matrix: Tensor, products: Tensor | None = None, absolute: Tensor | None = None
    ) -> None:
        self.matrix, self.products, self._absolute = matrix, products, absolute
        self.size, self.num_variables = matrix.shape[-2:]

    def apply(self, vector: Tensor) -> Tensor:
        return matvec(self.matrix, vector)

    def sums(self, vector: Tensor) -> Tensor:
        return long_matvec(self.matrix, vector)

    def adjoint(self, vector: Tensor) -> Tensor:
        return matvec(self.matrix.mT, vector)

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return add_matvec(vector, self.matrix.mT, multipliers)

    def magnitude(self, value: Tensor) -> Tensor:
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = value.abs()
        largest = size.amax(-1, keepdim=True)
        return self.absolute().apply(torch.add(size, largest, alpha=torch.finfo(size.dtype).eps))

    def scaled(self, scale: Tensor) -> "ScaledRows":
        return ScaledRows(self.matrix, scale, self.products if scale.ndim > 1 else None)

    def gram_matrix(self) -> Tensor:
        """``B B'``."""
        return self.matrix @ self.matrix.mT

    def gram(self) -> Gram:
        """Factor of ``B B'``."""
        return DenseGram.of(self.gram_matrix())

    def dense(self) -> Tensor:
        return self.matrix

    def absolute(self) -> "DenseRows":
        return DenseRows(self.matrix.abs() if self._absolute is None else self._absolute)

    def transform(self, matrix: Tensor) -> "DenseRows":
        return DenseRows(self.matrix @ matrix)


class ScaledRows(DenseRows):
    """``B diag(scale)`` that is never made: a batch of scales shares the matrix B."""

    def __init__(self, matrix: Tensor, scale: Tensor, products: Tensor | None = None) -> None:
        super().__init__(matrix, products)
        self.scale = scale

    def apply(self, vector: Tensor) -> Tensor:
        return matvec(self.matrix, self.scale * vector)

    def sums(self, vector: Tensor) -> Tensor:
        return super().sums(self.scale * vector)

    def adjoint(self, vector: Tensor) -> Tensor:
        return self.scale * matvec(self.matrix.mT, vector)

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return vector + self.scale * matvec(self.matrix.mT, multipliers)

    def gram_matrix(self) -> Tensor:
        squares = self.scale.square()
        if self.products is None:
            return weighted_gram(self.matrix, squares)
        return (squares @ self.products).unflatten(-1, (self.size, self.size))

    def dense(self) -> Tensor:
        return self.matrix * self.scale[..., None, :]
