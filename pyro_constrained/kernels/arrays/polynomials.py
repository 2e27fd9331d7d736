"""Products of polynomials with nonnegative coefficients, or of their logarithms, and the fast
backward pass of each.

Coefficients are along the first dimension, so that every step is one operation on long rows. All
terms are sums of positive numbers: each coefficient is right to a few roundings, small ones too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.functions import described
from pyro_constrained.kernels.arrays.inspection import is_backward_mapped, is_forward_twice
from pyro_constrained.kernels.arrays.log_space import log_sum_exp

__all__ = ["convolve", "correlate", "log_convolve", "log_correlate"]


class _Product(torch.autograd.Function):
    """Of two tensors, in each of their columns alone."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.size = inputs[2]
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        parts = _more_columns(info.batch_size, in_dims[:2], arguments[:2])
        return cls.apply(*parts, arguments[2]), 1


class _Convolve(_Product):
    @staticmethod
    @described
    def forward(one: Tensor, other: Tensor, size: int) -> Tensor:
        total = one.new_zeros((size,) + one.shape[1:])
        for j in range(min(len(one), size)):
            part = other[: size - j]
            total[j : j + len(part)].addcmul_(one[j], part)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other = ctx.saved_tensors
        (gradient,) = gradients
        return (
            correlate(gradient, other, len(one)) if ctx.needs_input_grad[0] else None,
            correlate(gradient, one, len(other)) if ctx.needs_input_grad[1] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, to_one: Tensor, to_other: Tensor, _: None) -> Tensor:
        one, other = ctx.saved_tensors
        return convolve(to_one, other, ctx.size) + convolve(one, to_other, ctx.size)


class _Correlate(_Product):
    @staticmethod
    @described
    def forward(one: Tensor, other: Tensor, size: int) -> Tensor:
        total = one.new_zeros((size,) + one.shape[1:])
        for j in range(min(len(other), len(one))):
            part = one[j : j + size]
            total[: len(part)].addcmul_(other[j], part)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other = ctx.saved_tensors
        (gradient,) = gradients
        return (
            convolve(gradient, other, len(one)) if ctx.needs_input_grad[0] else None,
            correlate(one, gradient, len(other)) if ctx.needs_input_grad[1] else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, to_one: Tensor, to_other: Tensor, _: None) -> Tensor:
        one, other = ctx.saved_tensors
        return correlate(to_one, other, ctx.size) + correlate(one, to_other, ctx.size)


class _LogConvolve(_Product):
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
        ctx.size = inputs[2]
        ctx.save_for_backward(*inputs[:2], output)
        ctx.save_for_forward(*inputs[:2], output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        one, other, found = ctx.saved_tensors
        (gradient,) = gradients
        # Of terms that are -inf the exponential is 0, whatever is subtracted.
        found = found.masked_fill(found == -torch.inf, 0.0)
        to_one, to_other = [], None
        for j in range(len(one)):
            term = one[j] + other[: max(len(found) - j, 0)]
            part = slice(j, j + len(term))
            share = (term - found[part]).exp() * gradient[part]
            to_one.append(share.sum(0))
            if to_other is None:  # made of what may be mapped, where ``other`` is not
                to_other = _placed(share, 0, len(other))
            else:
                to_other[: len(term)] += share
        return torch.stack(to_one), to_other, None

    @staticmethod
    def jvp(ctx: Any, to_one: Tensor, to_other: Tensor, _: None) -> Tensor:
        one, other, found = ctx.saved_tensors
        shift = found.masked_fill(found == -torch.inf, 0.0)
        moved = []
        for j in range(min(len(one), ctx.size)):
            term = one[j] + other[: ctx.size - j]
            share = (term - shift[j : j + len(term)]).exp()
            change = share * (to_one[j] + to_other[: len(term)])
            moved.append(_placed(change, j, ctx.size))
        return sum(moved[1:], moved[0])


def _more_columns(size: int, in_dims: tuple, parts: tuple[Tensor, ...]) -> list[Tensor]:
    """What ``vmap`` maps over as one more dimension of columns."""
    return [
        part.unsqueeze(1).expand(len(part), size, *part.shape[1:])
        if dim is None
        else part.movedim(dim, 1)
        for part, dim in zip(parts, in_dims, strict=True)
    ]


def _placed(part: Tensor, start: int, size: int, rest: float = 0.0) -> Tensor:
    """``(size, ...)`` of one value but for a part."""
    ends = (0, 0) * (part.ndim - 1) + (start, size - start - len(part))
    return pad(part, ends, value=rest)


def _terms(
    one: Tensor, other: Tensor, size: int, pair: Callable[..., Tensor], rest: float
) -> list[Tensor]:
    """``(size, ...)`` what every coefficient of ``one`` contributes, differentiated by PyTorch."""
    return [
        _placed(pair(one[j], other[: size - j]), j, size, rest) for j in range(min(len(one), size))
    ]


def convolve(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``(a, ...)`` and ``(b, ...)`` to ``(size, ...)``: the lowest coefficients of the product."""
    if is_forward_twice() or is_backward_mapped():
        return torch.stack(_terms(one, other, size, torch.mul, 0.0)).sum(0)
    return _Convolve.apply(one, other, size)


def correlate(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``out[i] = sum_j one[i + j] other[j]`` for i below ``size``: the adjoint of a product."""
    if is_backward_mapped():
        parts = ((one[j : j + size], other[j]) for j in range(min(len(other), len(one))))
        return torch.stack([_placed(part * by, 0, size) for part, by in parts]).sum(0)
    return _Correlate.apply(one, other, size)


def log_convolve(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``convolve`` of the logarithms of coefficients, which may be as small as they like."""
    if is_forward_twice():
        return log_sum_exp(torch.stack(_terms(one, other, size, torch.add, -torch.inf)), 0)
    return _LogConvolve.apply(one, other, size)


def log_correlate(one: Tensor, other: Tensor, size: int) -> Tensor:
    """``correlate`` of logarithms."""
    return log_convolve(other.flip(0), one, len(other) - 1 + size)[len(other) - 1 :]
