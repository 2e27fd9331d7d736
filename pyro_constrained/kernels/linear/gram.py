"""Symmetric positive definite r x r matrices F = S S', factored."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor

from constrained_core.checks.entries import INDEPENDENT_ROWS, beyond_range, no_factor
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.functions import described
from pyro_constrained.kernels.arrays.inspection import are_known, is_forward_twice
from pyro_constrained.kernels.arrays.linalg import WIDE_ANGLE, diagonal, inverse_of_factored, matvec

__all__ = ["DenseGram", "DiagonalGram", "Gram", "Products", "within_range"]


def within_range(variances: Tensor) -> Tensor:
    """The variances; where one is beyond the range of its dtype an error, or NaN where values are
    not known."""
    info, fixed = torch.finfo(variances.dtype), variances.detach()
    least = info.tiny / info.eps  # below, squares that are added have no digits; nor has 1 / least
    if not are_known(fixed):
        return torch.where((fixed < least) | (fixed > 1 / least), torch.nan, variances)
    if fixed.numel():
        low, high = fixed.aminmax()
        if float(low) < least or float(high) > 1 / least:
            raise TensorParameterError(beyond_range(variances.dtype))
    return variances


class Products(Protocol):
    """What is asked of the rows S."""

    def apply(self, vector: Tensor) -> Tensor:
        """``S vector``."""

    def adjoint(self, vector: Tensor) -> Tensor:
        """``S' vector``."""

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        """``vector + S' multipliers``."""


class Gram(ABC):
    """F, factored."""

    half_log_det: Tensor

    @abstractmethod
    def solve(self, vector: Tensor) -> Tensor:
        """``F^-1 vector``."""

    def closing(self, rows: Products, gap: Tensor) -> Tensor:
        """``S' F^-1 gap``, the shortest step that closes a gap of the rows S."""
        return rows.adjoint(self.solve(gap))

    def projected(self, rows: Products, noise: Tensor) -> Tensor:
        """The noise, less what the rows determine of it."""
        return rows.add_adjoint(noise, self.solve(-rows.apply(noise)))

    def kriged(self, rows: Products, noise: Tensor, gap: Tensor) -> Tensor:
        """The noise, moved the shortest way to where ``S noise`` is the gap."""
        return rows.add_adjoint(noise, self.solve(gap - rows.apply(noise)))


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
        """Factor F; an error if it is not positive definite, or NaN where values are not known."""
        factor, info = torch.linalg.cholesky_ex(matrix.detach())
        if not are_known(info):
            factor = torch.where((info != 0)[..., None, None], torch.nan, factor)
        elif bool(info.any()):
            raise TensorParameterError(no_factor(INDEPENDENT_ROWS, matrix.shape, matrix.dtype))
        return cls._from_factor(matrix, factor)

    @classmethod
    def _from_factor(cls, matrix: Tensor, factor: Tensor) -> "DenseGram":
        if torch.compiler.is_compiling() or is_forward_twice():  # take no derivatives of our own
            factor = torch.where(factor.isnan(), torch.nan, torch.linalg.cholesky_ex(matrix)[0])
            return cls(diagonal(factor).log().sum(-1), inverse_of_factored(factor))
        return cls(*_HalfLogDetAndInverse.apply(matrix, factor))

    @classmethod
    def if_safe(cls, matrix: Tensor) -> "DenseGram | None":
        """Factor F = S S', unless a row of S is at a narrow angle to the others or values are not
        known."""
        factor, info = torch.linalg.cholesky_ex(matrix.detach())
        if not are_known(info) or bool(info.any()):
            return None
        gram = cls._from_factor(matrix, factor)
        squared_cosecants = diagonal(gram.inverse.detach()) * diagonal(matrix.detach())
        is_safe = squared_cosecants.numel() == 0 or float(squared_cosecants.amax()) < WIDE_ANGLE
        return gram if is_safe else None

    def solve(self, vector: Tensor) -> Tensor:
        return matvec(self.inverse, vector)


class _HalfLogDetAndInverse(torch.autograd.Function):
    """``1/2 log det F`` and ``F^-1``; derivatives take the inverse, not the factorisation."""

    generate_vmap_rule = True

    @staticmethod
    @described
    def forward(matrix: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        return diagonal(factor).log().sum(-1), torch.cholesky_inverse(factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        (inverse,) = ctx.saved_tensors
        to_log_det, to_inverse = gradients
        total = None if to_log_det is None else 0.5 * to_log_det[..., None, None] * inverse
        if to_inverse is not None:
            through = inverse @ to_inverse @ inverse
            total = -through if total is None else total - through
        return total, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, _: None) -> tuple[Tensor, Tensor]:
        (inverse,) = ctx.saved_tensors
        if tangent is None:
            tangent = torch.zeros_like(inverse)
        return 0.5 * (inverse * tangent).sum((-2, -1)), -(inverse @ tangent @ inverse)
