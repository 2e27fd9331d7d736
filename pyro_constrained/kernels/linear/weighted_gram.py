"""``A diag(s) A'`` for a wide constant A, read once: what is made on the way stays in the cache."""

from typing import Any

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.functions import described
from pyro_constrained.kernels.arrays.inspection import are_known, is_transformed

__all__ = ["weighted_gram"]

BLOCK = 2**16
"""Entries of A that are multiplied at once."""


def weighted_gram(matrix: Tensor, weights: Tensor) -> Tensor:
    """``(*batch, r, r)`` of a matrix ``(r, n)`` and weights ``(*batch, n)``."""
    if _is_wide(matrix, weights):
        return _Gram.apply(matrix, weights)
    return (matrix * weights[..., None, :]) @ matrix.mT


def _is_wide(matrix: Tensor, weights: Tensor) -> bool:
    """Whether blocks pay, and nothing but reverse derivatives of the weights is asked for."""
    if weights.ndim > 1 or matrix.ndim > 2 or matrix.numel() <= BLOCK or matrix.requires_grad:
        return False
    return are_known(matrix, weights) and not is_transformed()


def _blocks(matrix: Tensor) -> list[slice]:
    num_rows, num_columns = matrix.shape
    if matrix.device.type != "cpu":  # there each block is a launch
        return [slice(0, num_columns)]
    width = max(BLOCK // num_rows, 1)
    return [slice(start, start + width) for start in range(0, num_columns, width)]


# Both functions are linear, and each other's adjoint. Nothing is done in place: ``torch.autograd``
# may map over their gradients.


class _Gram(torch.autograd.Function):
    """``A diag(s) A'``."""

    @staticmethod
    @described
    def forward(matrix: Tensor, weights: Tensor) -> Tensor:
        total = matrix.new_zeros(matrix.shape[:1] * 2)
        for block in _blocks(matrix):
            part = matrix[:, block]
            total = total + (part * weights[block]) @ part.mT
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (matrix,) = ctx.saved_tensors
        return None, _Diagonal.apply(matrix, gradients[0])


class _Diagonal(torch.autograd.Function):
    """``diag(A' G A)``."""

    @staticmethod
    @described
    def forward(matrix: Tensor, inner: Tensor) -> Tensor:
        parts = (matrix[:, block] for block in _blocks(matrix))
        return torch.cat([((inner @ part) * part).sum(0) for part in parts])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (matrix,) = ctx.saved_tensors
        return None, _Gram.apply(matrix, gradients[0])
