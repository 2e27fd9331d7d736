"""Arithmetic of long vectors whose derivatives take as few passes over memory as they have to.

PyTorch divides three times for the derivative of a quotient, and adds the derivatives of both
factors of a square. For short vectors all that takes time is to call derivatives of our own; those
of ``torch.func``, of forward mode and of recorded steps are PyTorch's.
"""

from typing import Any

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import is_transformed

__all__ = ["LONG", "standardised", "sum_of_squares"]

LONG = 10_000
"""Length from which derivatives of our own are faster than PyTorch's, and of sums over groups a
sparse product than ``scatter_add``."""


def _are_long(*vectors: Tensor) -> bool:
    """Whether these are vectors of one length, and long, and operations are run as they are
    written, differentiated backwards if at all."""
    if torch._C._get_tracing_state() is not None:  # where a shape is no number
        return False
    shape, dtype = vectors[0].shape, vectors[0].dtype
    if len(shape) != 1 or shape[0] <= LONG or torch.compiler.is_compiling() or is_transformed():
        return False
    return all(other.shape == shape and other.dtype == dtype for other in vectors[1:])


def standardised(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """``(value - loc) / scale``."""
    if _are_long(value, loc, scale):
        return _Standardised.apply(value, loc, scale)
    return (value - loc) / scale


def sum_of_squares(vector: Tensor) -> Tensor:
    """Sum over the last dimension."""
    if vector.ndim != 1:
        return vector.square().sum(-1)
    return _SumOfSquares.apply(vector) if _are_long(vector) else vector.dot(vector)


class _Standardised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        result = torch.sub(value, loc).div_(scale)
        ctx.save_for_backward(scale, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale, result = ctx.saved_tensors
        of_value = gradients[0] / scale
        of_loc = -of_value
        needed = ctx.needs_input_grad
        return (
            of_value if needed[0] else None,
            of_loc if needed[1] else None,
            of_loc * result if needed[2] else None,
        )


class _SumOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: Tensor) -> Tensor:
        ctx.save_for_backward(vector)
        return vector.dot(vector)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (vector,) = ctx.saved_tensors
        return vector * (2 * gradients[0])
