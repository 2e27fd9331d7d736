"""Sums over groups and their adjoint, each the fast backward pass of the other.

PyTorch differentiates ``index_select`` by ``index_add`` and ``scatter_add`` by ``gather``; the two
fast ones of these four are ``scatter_add`` and ``index_select``.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["group_totals", "members"]


class _GroupTotals(torch.autograd.Function):
    @staticmethod
    def forward(vector: Tensor, index: Tensor, size: int) -> Tensor:
        totals = vector.new_zeros(vector.shape[:-1] + (size,))
        return totals.scatter_add_(-1, index.expand(vector.shape), vector)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (index,) = ctx.saved_tensors
        return _Members.apply(gradients[0], index), None, None


class _Members(torch.autograd.Function):
    @staticmethod
    def forward(totals: Tensor, index: Tensor) -> Tensor:
        return totals.index_select(-1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        totals, index = inputs
        ctx.save_for_backward(index)
        ctx.size = totals.shape[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (index,) = ctx.saved_tensors
        return _GroupTotals.apply(gradients[0], index, ctx.size), None


def group_totals(vector: Tensor, index: Tensor, size: int) -> Tensor:
    """``(..., n)`` to ``(..., size)``: sums over the entries with the same index."""
    return _GroupTotals.apply(vector, index, size)


def members(totals: Tensor, index: Tensor) -> Tensor:
    """``(..., size)`` to ``(..., n)``: to every entry the figure of its group."""
    return _Members.apply(totals, index)
