"""Row spaces: the r x n matrix of a constraint, in the form that its structure allows.

Each form multiplies vectors by itself and by its adjoint, scales its columns, and factors its
Gram matrix. Vectors are ``(*sample, *batch, n)`` or ``(*sample, *batch, r)``.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from constrained_core.plan import GroupPlan
from pyro_constrained.kernels.groups import Groups
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

__all__ = ["Balanced", "DenseGram", "DenseRows", "Gram", "GroupRows", "Rows", "SingleRow"]

WIDE_ANGLE = 100.0
"""Squared cosecant of the angle between a row and the others up to which F is factored directly."""


class Gram(ABC):
    """A symmetric positive definite r x r matrix F, factored."""

    half_log_det: Tensor

    @abstractmethod
    def solve(self, vector: Tensor) -> Tensor:
        """``F^-1 vector``."""


class DiagonalGram(Gram):
    """F is diagonal, held as the vector of its diagonal."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self.half_log_det = 0.5 * diagonal.log().sum(-1)

    def solve(self, vector: Tensor) -> Tensor:
        return vector / self.diagonal


class DenseGram(Gram):
    """F is dense, held as its inverse."""

    def __init__(self, half_log_det: Tensor, inverse: Tensor) -> None:
        self.half_log_det, self.inverse = half_log_det, inverse

    @classmethod
    def of(cls, matrix: Tensor) -> "DenseGram":
        """Factor F; an error if it is not positive definite."""
        factor = cholesky(matrix.detach(), "the covariance of A x")
        return cls(*_HalfLogDetAndInverse.apply(matrix, factor))

    @classmethod
    @ignore_jit_warnings()
    def if_safe(cls, matrix: Tensor) -> "DenseGram | None":
        """Factor F = S S', unless a row of S is at a narrow angle to the others."""
        factor, info = torch.linalg.cholesky_ex(matrix.detach())
        if info.any():
            return None
        gram = cls(*_HalfLogDetAndInverse.apply(matrix, factor))
        squared_cosecants = _diagonal(gram.inverse.detach()) * _diagonal(matrix.detach())
        is_safe = squared_cosecants.numel() == 0 or float(squared_cosecants.amax()) < WIDE_ANGLE
        return gram if is_safe else None

    def solve(self, vector: Tensor) -> Tensor:
        return matvec(self.inverse, vector)


class _HalfLogDetAndInverse(torch.autograd.Function):
    """``1/2 log det F`` and ``F^-1``; derivatives take the inverse, not the factorisation."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        inverse = torch.cholesky_inverse(factor)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inverse)
        return _diagonal(factor).log().sum(-1), inverse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        (inverse,) = ctx.saved_tensors
        to_log_det, to_inverse = gradients
        total = None if to_log_det is None else 0.5 * to_log_det[..., None, None] * inverse
        if to_inverse is not None:
            through = inverse @ to_inverse @ inverse
            total = -through if total is None else total - through
        return total, None


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)


class Balanced(NamedTuple):
    """Rows S = T S~: the balanced rows S~ and their Gram matrix, the lower triangular T (None for
    the identity) and log|det T|. T is a constant: nothing that the row space determines depends
    on it. Where the rows are ``scale`` S, for a scale ``(*batch, 1)``, that is kept apart."""

    rows: "Rows"
    gram: Gram
    triangle: Tensor | None = None
    log_det: Tensor | float = 0.0
    scale: Tensor | None = None

    def times(self, scale: Tensor) -> "Balanced":
        """The rows times one number."""
        return self._replace(scale=scale, log_det=self.rows.size * scale.log()[..., 0])

    def reduce(self, vector: Tensor) -> Tensor:
        """``T^-1 vector``, over the scale."""
        if self.scale is not None:
            vector = vector / self.scale
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
    def gram(self) -> Gram:
        """Factor of ``B B'``."""

    def balanced(self) -> "Balanced":
        """The same row space in rows whose Gram matrix can be factored safely."""
        return Balanced(self, self.gram())

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

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return torch.addcmul(vector, self.weights, multipliers)

    def scaled(self, scale: Tensor) -> "SingleRow":
        return SingleRow(scale if self.plain else self.weights * scale)

    def gram(self) -> Gram:
        return DiagonalGram(sum_of_squares(self.weights)[..., None])

    def transform(self, matrix: Tensor) -> "SingleRow":
        if self.plain:
            return SingleRow(matrix.sum(-2))
        return SingleRow(matvec(matrix.mT, self.weights))

    def leverage(self, gram: Gram) -> Tensor:
        return gram.solve(self.weights.square())

    def absolute(self) -> "SingleRow":
        return self if self.plain else SingleRow(self.weights.abs())

    def magnitude(self, value: Tensor) -> Tensor:
        if self.plain:
            return torch.linalg.vector_norm(value, ord=1, dim=-1, keepdim=True)
        return super().magnitude(value)

    def null_space(self) -> NullSpace:
        return SingleNullSpace(self.weights)


class GroupRows(Rows):
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
        self.size, self.num_variables = groups.size, len(groups.index)

    def apply(self, vector: Tensor) -> Tensor:
        return self.groups.totals(vector if self.plain else vector * self.weights)

    def adjoint(self, vector: Tensor) -> Tensor:
        return (
            self.groups.members(vector)
            if self.plain
            else self.groups.members(vector) * self.weights
        )

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return torch.addcmul(vector, self.weights, self.groups.members(multipliers))

    def scaled(self, scale: Tensor) -> "GroupRows":
        weights = scale if self.plain else self.weights * scale
        return GroupRows(self.groups, weights, plan=self.plan)

    def gram(self) -> Gram:
        return DiagonalGram(self.groups.totals(self.weights * self.weights))

    def leverage(self, gram: Gram) -> Tensor:
        return self.weights.square() * self.groups.members(
            gram.solve(self.weights.new_ones(self.size))
        )

    def absolute(self) -> "GroupRows":
        return self if self.plain else GroupRows(self.groups, self.weights.abs())

    def null_space(self) -> NullSpace:
        if self.plan is None:
            raise TypeError("rows made without a plan have no null space")
        pivots = plan_tensor(self.plan, "pivots", self.weights, torch.int64)
        free = plan_tensor(self.plan, "free", self.weights, torch.int64)
        return GroupNullSpace(self.groups, pivots, free, self.weights)


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
        """Rows at wide angles stay as they are. Elsewhere, partial pivoting picks variables of
        large scale: rows of 1e-6 and 1e6 stay apart, where the Gram matrix of the rows themselves
        would lose the small ones to rounding."""
        gram = DenseGram.if_safe(self.matrix @ self.matrix.mT)
        if gram is not None:
            return Balanced(self, gram)
        with torch.no_grad():
            packed, _ = torch.linalg.lu_factor(self.matrix.mT)
            triangle = packed[..., : self.size, :].mT.tril()
            log_det = _diagonal(triangle).abs().log().sum(-1)
        rows = DenseRows(torch.linalg.solve_triangular(triangle, self.matrix, upper=False))
        return Balanced(rows, rows.gram(), triangle, log_det)

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return add_matvec(vector, self.matrix.mT, multipliers)

    def magnitude(self, value: Tensor) -> Tensor:
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = value.abs()
        size = size + torch.finfo(value.dtype).eps * size.amax(-1, keepdim=True)
        return self.absolute().apply(size)

    def scaled(self, scale: Tensor) -> "DenseRows":
        return DenseRows(self.matrix * scale[..., None, :])

    def gram(self) -> Gram:
        return DenseGram.of(self.matrix @ self.matrix.mT)

    def leverage(self, gram: Gram) -> Tensor:
        return (self.matrix * gram.solve(self.matrix.movedim(-1, 0)).movedim(0, -1)).sum(-2)

    def absolute(self) -> "DenseRows":
        return DenseRows(self.matrix.abs())

    def transform(self, matrix: Tensor) -> "DenseRows":
        return DenseRows(self.matrix @ matrix)

    def null_space(self) -> NullSpace:
        return BlockNullSpace.of(self.matrix)
