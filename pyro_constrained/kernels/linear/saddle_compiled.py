"""Functions of saddle-point matrices as operations that ``torch.compile`` keeps whole.

A compiled step takes no derivatives of our own, and no host code; here both are operators of the
framework, opaque to it. Patterns are constants of the step, found by number.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from constrained_core.linear import saddle
from constrained_core.linear.saddle import SaddlePattern
from pyro_constrained.kernels.arrays.compiled import constant_of_a_graph
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.linear.saddle_host import (
    host,
    host_solve,
    no_root,
    on_a,
    on_q,
    symmetric,
)

__all__ = ["compiled_inverse", "compiled_log_det", "compiled_noise", "compiled_solve"]

_PATTERNS: list[SaddlePattern] = []


@constant_of_a_graph
def _number_of(pattern: SaddlePattern) -> int:
    if pattern not in _PATTERNS:
        _PATTERNS.append(pattern)
    return _PATTERNS.index(pattern)


def compiled_solve(pattern: SaddlePattern, q: Tensor, a: Tensor, right: Tensor) -> Tensor:
    """``K^-1 right``."""
    return _solve(_number_of(pattern), q, a, right)


def compiled_log_det(pattern: SaddlePattern, q: Tensor, a: Tensor) -> Tensor:
    """log |det K|."""
    return _log_det(_number_of(pattern), q, a)


def compiled_inverse(pattern: SaddlePattern, q: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """K^-1 where Q and A have entries."""
    return _inverse(_number_of(pattern), q, a)


def compiled_noise(
    pattern: SaddlePattern, fixed: bool, q: Tensor, a: Tensor, noise: Tensor
) -> Tensor:
    """w of white noise, of covariance Q but for what K^-1 takes away; no derivatives."""
    return _noise(_number_of(pattern), fixed, q, a, noise)


def _batch(*values: Tensor) -> torch.Size:
    return broadcast_shapes(*(one.shape[:-1] for one in values))


@torch.library.custom_op("pyro_constrained::saddle_solve", mutates_args=())
def _solve(pattern: int, q: Tensor, a: Tensor, right: Tensor) -> Tensor:
    function = partial(saddle.saddle_solve, strict=False)
    return host_solve(function, _PATTERNS[pattern], q, a, right).contiguous()


@_solve.register_fake
def _(pattern: int, q: Tensor, a: Tensor, right: Tensor) -> Tensor:
    return right.new_empty(_batch(q, a, right) + right.shape[-1:])


@torch.library.custom_op("pyro_constrained::saddle_solve_backward", mutates_args=())
def _solve_backward(
    pattern: int, q: Tensor, a: Tensor, solution: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    adjoint = _solve(pattern, q, a, gradient)
    places = _PATTERNS[pattern]
    to_q = -on_q(places, adjoint, solution).sum_to_size(q.shape)
    return to_q, -on_a(places, adjoint, solution).sum_to_size(a.shape), adjoint


@_solve_backward.register_fake
def _(
    pattern: int, q: Tensor, a: Tensor, solution: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(a), torch.empty_like(gradient)


@torch.library.custom_op("pyro_constrained::saddle_log_det", mutates_args=())
def _log_det(pattern: int, q: Tensor, a: Tensor) -> Tensor:
    return host(saddle.saddle_log_det, _PATTERNS[pattern], q, a, False)


@_log_det.register_fake
def _(pattern: int, q: Tensor, a: Tensor) -> Tensor:
    return q.new_empty(_batch(q, a))


@torch.library.custom_op("pyro_constrained::saddle_noise", mutates_args=())
def _noise(pattern: int, fixed: bool, q: Tensor, a: Tensor, noise: Tensor) -> Tensor:
    function = partial(saddle.precision_noise, strict=False, fixed=fixed)
    return host_solve(function, _PATTERNS[pattern], q, a, noise).contiguous()


@_noise.register_fake
def _(pattern: int, fixed: bool, q: Tensor, a: Tensor, noise: Tensor) -> Tensor:
    return noise.new_empty(_batch(q, a, noise) + (_PATTERNS[pattern].num_variables,))


@torch.library.custom_op("pyro_constrained::saddle_inverse", mutates_args=())
def _inverse(pattern: int, q: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    return host(saddle.saddle_inverse, _PATTERNS[pattern], q, a, False)


@_inverse.register_fake
def _(pattern: int, q: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    batch = _batch(q, a)
    return q.new_empty(batch + q.shape[-1:]), a.new_empty(batch + a.shape[-1:])


@torch.library.custom_op("pyro_constrained::saddle_inverse_backward", mutates_args=())
def _inverse_backward(
    pattern: int, q: Tensor, a: Tensor, dq: Tensor, da: Tensor
) -> tuple[Tensor, Tensor]:
    places = _PATTERNS[pattern]
    both = symmetric(places, dq)
    function = saddle.saddle_inverse_tangent
    to_q, to_a = host(function, places, q, a, both, 0.5 * da, False)
    return to_q.sum_to_size(q.shape).clone(), (2 * to_a).sum_to_size(a.shape).clone()


@_inverse_backward.register_fake
def _(pattern: int, q: Tensor, a: Tensor, dq: Tensor, da: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(a)


def _keep_solution(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.pattern, q, a, right = inputs
    ctx.right_shape = right.shape
    ctx.save_for_backward(q, a, output)


def _differentiate_solve(ctx: Any, gradient: Tensor) -> tuple:
    to_q, to_a, adjoint = _solve_backward(ctx.pattern, *ctx.saved_tensors, gradient)
    return None, to_q, to_a, adjoint.sum_to_size(ctx.right_shape)


def _keep_values(ctx: Any, inputs: tuple, output: Any) -> None:
    ctx.pattern, q, a = inputs
    ctx.save_for_backward(q, a)


def _differentiate_log_det(ctx: Any, gradient: Tensor) -> tuple:
    q, a = ctx.saved_tensors
    on_q, on_a = _inverse(ctx.pattern, q, a)
    weight = gradient.unsqueeze(-1)
    to_q = (weight * on_q).sum_to_size(q.shape)
    return None, to_q, (2 * weight * on_a).sum_to_size(a.shape)


def _differentiate_inverse(ctx: Any, dq: Tensor, da: Tensor) -> tuple:
    return None, *_inverse_backward(ctx.pattern, *ctx.saved_tensors, dq, da)


def _refuse_derivatives(ctx: Any, gradient: Tensor) -> tuple:
    raise no_root()


_noise.register_autograd(_refuse_derivatives)
_solve.register_autograd(_differentiate_solve, setup_context=_keep_solution)
_log_det.register_autograd(_differentiate_log_det, setup_context=_keep_values)
_inverse.register_autograd(_differentiate_inverse, setup_context=_keep_values)
