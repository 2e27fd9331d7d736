"""Row spaces: the r x n matrix of a constraint, in the form that its structure allows.

Each form multiplies vectors by itself and by its adjoint, scales its columns, and factors its
Gram matrix. Vectors are ``(*sample, *batch, n)`` or ``(*sample, *batch, r)``.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from constrained_core.plan import GroupPlan
from pyro_constrained.kernels.groups import group_totals, members
from pyro_constrained.kernels.linalg import (
    add_matvec,
    cholesky,
    matvec,
    solve_lower,
    sum_of_squares,
)
from pyro_constrained.kernels.null_space import (
    BlockNullSpace,
    GroupNullSpace,
    NullSpace,
    SingleNullSpace,
)
from pyro_constrained.kernels.plans import plan_tensor

__all__ = ["DenseRows", "Gram", "GroupRows", "Rows", "SingleRow"]


class Gram(ABC):
    """Factor of a symmetric positive definite r x r matrix F = C C'."""

    half_log_det: Tensor

    @abstractmethod
    def whiten(self, vector: Tensor) -> Tensor:
        """``C^-1 vector``."""

    @abstractmethod
    def solve(self, vector: Tensor) -> Tensor:
        """``F^-1 vector``."""


class DiagonalGram(Gram):
    """F is diagonal, held as the vector of its diagonal."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self.half_log_det = 0.5 * diagonal.log().sum(-1)

    def whiten(self, vector: Tensor) -> Tensor:
        return vector / self.diagonal.sqrt()

    def solve(self, vector: Tensor) -> Tensor:
        return vector / self.diagonal


class DenseGram(Gram):
    """F is dense and well conditioned, held as its Cholesky factor and its inverse."""

    def __init__(self, matrix: Tensor) -> None:
        self.factor = cholesky(matrix, "the covariance of A x")
        self.half_log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.inverse = torch.cholesky_inverse(self.factor)

    def whiten(self, vector: Tensor) -> Tensor:
        return solve_lower(self.factor, vector)

    def solve(self, vector: Tensor) -> Tensor:
        return matvec(self.inverse, vector)


class Balanced(NamedTuple):
    """Rows S = T S~: the balanced rows S~, the lower triangular T (None for the identity) and
    log|det T|. T is a constant: nothing that the row space determines depends on it."""

    rows: "Rows"
    triangle: Tensor | None
    log_det: Tensor | float

    def reduce(self, vector: Tensor) -> Tensor:
        """``T^-1 vector``."""
        return vector if self.triangle is None else solve_lower(self.triangle, vector)


class Rows(ABC):
    """An r x n matrix B of independent rows."""

    size: int
    num_variables: int

    @abstractmethod
    def apply(self, vector: Tensor) -> Tensor:
        """``B vector``."""

    @abstractmethod
    def adjoint(self, vector: Tensor) -> Tensor:
        """``B' vector``."""

    def without(self, vector: Tensor, coefficients: Tensor) -> Tensor:
        """``vector - B' coefficients``."""
        return vector - self.adjoint(coefficients)

    def magnitude(self, value: Tensor) -> Tensor:
        """``|B| |value|``, the size of the terms of ``B value``."""
        return self.absolute().apply(value.abs())

    @abstractmethod
    def scaled(self, scale: Tensor) -> "Rows":
        """``B diag(scale)``."""

    @abstractmethod
    def gram(self) -> Gram:
        """Factor of ``B B'``."""

    def balanced(self) -> "Balanced":
        """The same row space in rows of comparable size, where their Gram matrix is safe."""
        return Balanced(self, None, 0.0)

    @abstractmethod
    def leverage(self, gram: Gram) -> Tensor:
        """Diagonal of ``B' F^-1 B``."""

    @abstractmethod
    def absolute(self) -> "Rows":
        """``|B|`` elementwise."""

    @abstractmethod
    def null_space(self) -> NullSpace:
        """An orthonormal basis of ``{v : B v = 0}``."""

    def transform(self, matrix: Tensor) -> "Rows":
        """``B matrix`` for matrix ``(*batch, n, p)``."""
        return DenseRows(self.apply(matrix.mT).mT)


class SingleRow(Rows):
    """One row of weights ``(*batch, n)``; ``plain`` says that they are all one."""

    size = 1

    def __init__(self, weights: Tensor, plain: bool = False) -> None:
        self.weights, self.plain = weights, plain
        self.num_variables = weights.shape[-1]

    def apply(self, vector: Tensor) -> Tensor:
        if self.plain:
            return vector.sum(-1, keepdim=True)
        if self.weights.ndim == 1:
            return (vector @ self.weights)[..., None]
        return (vector * self.weights).sum(-1, keepdim=True)

    def adjoint(self, vector: Tensor) -> Tensor:
        if self.plain:
            return vector.expand(vector.shape[:-1] + (self.num_variables,))
        return vector * self.weights

    def without(self, vector: Tensor, coefficients: Tensor) -> Tensor:
        return torch.addcmul(vector, self.weights, coefficients, value=-1)

    def scaled(self, scale: Tensor) -> "SingleRow":
        return SingleRow(scale if self.plain else self.weights * scale)

    def gram(self) -> Gram:
        return DiagonalGram(sum_of_squares(self.weights)[..., None])

    def transform(self, matrix: Tensor) -> "SingleRow":
        if self.plain:
            return SingleRow(matrix.sum(-2))
        return SingleRow(matvec(matrix.mT, self.weights))

    def leverage(self, gram: Gram) -> Tensor:
        return gram.whiten(self.weights).square()

    def absolute(self) -> "SingleRow":
        return self if self.plain else SingleRow(self.weights.abs())

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(Rows):
    """Disjoint rows: variable i is in row ``index[i]`` with weight ``weights[..., i]``.

    ``plain`` says that all weights are one; ``plan`` tells the pivots of the null space.
    """

    def __init__(
        self,
        index: Tensor,
        size: int,
        weights: Tensor,
        plain: bool = False,
        plan: GroupPlan | None = None,
    ) -> None:
        self.index, self.size, self.weights = index, size, weights
        self.plain, self.plan = plain, plan
        self.num_variables = len(index)

    def _sum(self, vector: Tensor) -> Tensor:
        return group_totals(vector, self.index, self.size)

    def _members(self, vector: Tensor) -> Tensor:
        return members(vector, self.index)

    def apply(self, vector: Tensor) -> Tensor:
        return self._sum(vector if self.plain else vector * self.weights)

    def adjoint(self, vector: Tensor) -> Tensor:
        return self._members(vector) if self.plain else self._members(vector) * self.weights

    def without(self, vector: Tensor, coefficients: Tensor) -> Tensor:
        return torch.addcmul(vector, self.weights, self._members(coefficients), value=-1)

    def scaled(self, scale: Tensor) -> "GroupRows":
        weights = scale if self.plain else self.weights * scale
        return GroupRows(self.index, self.size, weights, plan=self.plan)

    def gram(self) -> Gram:
        return DiagonalGram(self._sum(self.weights * self.weights))

    def leverage(self, gram: Gram) -> Tensor:
        return self.weights.square() * self._members(gram.solve(self.weights.new_ones(self.size)))

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.index, self.size, self.weights.abs())

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, torch.int64)
        free = plan_tensor(self.plan, "free", self.weights, torch.int64)
        return GroupNullSpace(self.index, pivots, free, self.weights)


class DenseRows(Rows):
    """Any rows, as a matrix ``(*batch, r, n)``."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size, self.num_variables = matrix.shape[-2:]

    def apply(self, vector: Tensor) -> Tensor:
        return matvec(self.matrix, vector)

    def adjoint(self, vector: Tensor) -> Tensor:
        return matvec(self.matrix.mT, vector)

    def balanced(self) -> Balanced:
        """Partial pivoting picks variables of large scale: rows of 1e-6 and 1e6 stay apart, where
        the Gram matrix of the rows themselves would lose the small ones to rounding."""
        with torch.no_grad():
            packed, _ = torch.linalg.lu_factor(self.matrix.mT)
            triangle = packed[..., : self.size, :].mT.tril()
            log_det = triangle.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        matrix = torch.linalg.solve_triangular(triangle, self.matrix, upper=False)
        return Balanced(DenseRows(matrix), triangle, log_det)

    def without(self, vector: Tensor, coefficients: Tensor) -> Tensor:
        return add_matvec(vector, self.matrix.mT, -coefficients)

    def magnitude(self, value: Tensor) -> Tensor:
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = value.abs()
        size = size + torch.finfo(value.dtype).eps * size.amax(-1, keepdim=True)
        return self.absolute().apply(size)

    def scaled(self, scale: Tensor) -> "DenseRows":
        return DenseRows(self.matrix * scale[..., None, :])

    def gram(self) -> Gram:
        return DenseGram(self.matrix @ self.matrix.mT)

    def leverage(self, gram: Gram) -> Tensor:
        return gram.whiten(self.matrix.movedim(-1, 0)).square().sum(-1).movedim(0, -1)

    def absolute(self) -> "DenseRows":
        return DenseRows(self.matrix.abs())

    def transform(self, matrix: Tensor) -> "DenseRows":
        return DenseRows(self.matrix @ matrix)

    def null_space(self) -> NullSpace:
        return BlockNullSpace.of(self.matrix)
