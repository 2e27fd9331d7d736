"""Products of polynomials with nonnegative coefficients, or of their logarithms, and the fast
backward pass of each.

Coefficients are along the first dimension, so that every step is one operation on long rows. All
terms are sums of positive numbers: each coefficient is right to a few roundings, small ones too.
"""

from typing import Any

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.functions import described

__all__ = ["convolve", "correlate", "log_convolve", "log_correlate"]


class _Convolve(torch.autograd.Function):
    @staticmethod
    @described
    def forward(one: Tensor, other: Tensor, size: int) -> Tensor:
        total = one.new_zeros((size,) + one.shape[1:])
        for j in range(min(len(one), size)):
            part = other[: size - j]
            total[j : j + len(part)].addcmul_(one[j], part)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other = ctx.saved_tensors
        (gradient,) = gradients
        return (
            correlate(gradient, other, len(one)) if ctx.needs_input_grad[0] else None,
            correlate(gradient, one, len(other)) if ctx.needs_input_grad[1] else None,
            None,
        )


class _Correlate(torch.autograd.Function):
    @staticmethod
    @described
    def forward(one: Tensor, other: Tensor, size: int) -> Tensor:
        total = one.new_zeros((size,) + one.shape[1:])
        for j in range(min(len(other), len(one))):
            part = one[j : j + size]
            total[: len(part)].addcmul_(other[j], part)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other = ctx.saved_tensors
        (gradient,) = gradients
        return (
            convolve(gradient, other, len(one)) if ctx.needs_input_grad[0] else None,
            correlate(one, gradient, len(other)) if ctx.needs_input_grad[1] else None,
            None,
        )


class _LogConvolve(torch.autograd.Function):
    @staticmethod
    @described
    def forward(one: Tensor, other: Tensor, size: int) -> Tensor:
        shape = (size,) + one.shape[1:]
        largest, total = one.new_full(shape, -torch.inf), one.new_zeros(shape)
        for j in range(min(len(one), size)):
            term = one[j] + other[: size - j]
            part = largest[j : j + len(term)]
            torch.maximum(part, term, out=part)
        shift = largest.masked_fill(largest == -torch.inf, 0.0)
        for j in range(min(len(one), size)):
            term = one[j] + other[: size - j]
            total[j : j + len(term)] += (term - shift[j : j + len(term)]).exp()
        return total.log() + shift

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2], output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other, found = ctx.saved_tensors
        (gradient,) = gradients
        # Of terms that are -inf the exponential is 0, whatever is subtracted.
        found = found.masked_fill(found == -torch.inf, 0.0)
        to_one, to_other = [], torch.zeros_like(other)
        for j in range(len(one)):
            term = one[j] + other[: max(len(found) - j, 0)]
            part = slice(j, j + len(term))
            share = (term - found[part]).exp() * gradient[part]
            to_one.append(share.sum(0))
            to_other[: len(term)] += share
        return torch.stack(to_one), to_other, None


def convolve(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``(a, ...)`` and ``(b, ...)`` to ``(size, ...)``: the lowest coefficients of the product."""
    return _Convolve.apply(one, other, size)


def correlate(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``out[i] = sum_j one[i + j] other[j]`` for i below ``size``: the adjoint of a product."""
    return _Correlate.apply(one, other, size)


def log_convolve(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``convolve`` of the logarithms of coefficients, which may be as small as they like."""
    return _LogConvolve.apply(one, other, size)


def log_correlate(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``correlate`` of logarithms."""
    return log_convolve(other.flip(0), one, len(other) - 1 + size)[len(other) - 1 :]
