"""Sparse saddle-point matrices K = [[Q, A'], [A, 0]] with values that are tensors.

They are factored on the host in double precision (``constrained_core.linear.saddle``); here are the
derivatives. Values are ``(*batch, nq)`` of Q and ``(*batch, na)`` of A. Where K is no matrix of a
law, that is an error if values are known, else the results are NaN.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from constrained_core.linear import saddle
from constrained_core.linear.saddle import SaddlePattern
from pyro_constrained.kernels.arrays.errors import on_host, require_forward_once
from pyro_constrained.kernels.arrays.functions import described
from pyro_constrained.kernels.arrays.inspection import are_known, is_differentiated
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.saddle_compiled import (
    compiled_inverse,
    compiled_log_det,
    compiled_noise,
    compiled_solve,
)
from pyro_constrained.kernels.linear.saddle_host import (
    host,
    host_solve,
    no_root,
    on_a,
    on_q,
    places_of,
    symmetric,
)

__all__ = [
    "precision_noise",
    "saddle_inverse",
    "saddle_log_det",
    "saddle_solve",
    "warn_of_lost_digits",
]


def saddle_solve(pattern: SaddlePattern, q: Tensor, a: Tensor, right: Tensor) -> Tensor:
    """``K^-1 right`` for ``(*sample, *batch, n + r)``, in the dtype of ``right``."""
    if torch.compiler.is_compiling():
        return compiled_solve(pattern, _exact(q), _exact(a), _exact(right)).to(right)
    require_forward_once()
    strict = are_known(q, a)
    solution = _Solve.apply(pattern, strict, _exact(q), _exact(a), _exact(right))
    return solution.to(right)


def saddle_log_det(pattern: SaddlePattern, q: Tensor, a: Tensor) -> Tensor:
    """``(*batch,)`` log |det K|, in the dtype of ``q``."""
    if torch.compiler.is_compiling():
        return compiled_log_det(pattern, _exact(q), _exact(a)).to(q)
    require_forward_once()
    return _LogDet.apply(pattern, are_known(q, a), _exact(q), _exact(a)).to(q)


def saddle_inverse(pattern: SaddlePattern, q: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """``(*batch, nq)`` and ``(*batch, na)``: K^-1 where Q and A have entries, in the dtype of
    ``q``; it can be differentiated once."""
    if torch.compiler.is_compiling():
        on_q, on_a = compiled_inverse(pattern, _exact(q), _exact(a))
    else:
        require_forward_once()
        on_q, on_a = _Inverse.apply(pattern, are_known(q, a), _exact(q), _exact(a))
    return on_q.to(q), on_a.to(q)


def precision_noise(pattern: SaddlePattern, q: Tensor, a: Tensor, noise: Tensor) -> Tensor:
    """``(*sample, *batch, n)`` w from white noise ``(..., n + r)``, for ``K^-1 [w; 0]`` of the
    conditional covariance; no derivative reaches ``q``."""
    if torch.compiler.is_compiling():
        values = _exact(q), _exact(a.detach()), _exact(noise)
        return compiled_noise(pattern, not a.requires_grad, *values).to(noise)
    # Of an A that moves, w does not depend on it.
    fixed, values = not is_differentiated(a), (_exact(q), _exact(a.detach()), _exact(noise))
    return _PrecisionNoise.apply(pattern, fixed, *values).to(noise)


@quiet_under_trace
def warn_of_lost_digits(pattern: SaddlePattern, q: Tensor, a: Tensor) -> None:
    """Warn of a Q of whose values in single precision few digits are left on the null space of A,
    where they are known."""
    if are_known(q, a):
        saddle.warn_of_lost_digits(pattern, on_host(q), on_host(a))


def _exact(values: Tensor) -> Tensor:
    """In double precision on the host; by way of it, as not all devices have that."""
    return values.cpu().to(torch.float64)


# Derivatives: dK^-1 = -K^-1 dK K^-1. What is asked of K is symmetric in Q, so that a derivative
# with respect to an entry is half that of its pair.


class _Solve(torch.autograd.Function):
    @staticmethod
    @described
    def forward(
        pattern: SaddlePattern, strict: bool, q: Tensor, a: Tensor, right: Tensor
    ) -> Tensor:
        function = partial(saddle.saddle_solve, strict=strict)
        return host_solve(function, pattern, q, a, right)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.pattern, ctx.strict, q, a, right = inputs
        ctx.right_shape = right.shape
        ctx.save_for_backward(q, a, output)
        ctx.save_for_forward(q, a, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        q, a, solution = ctx.saved_tensors
        adjoint = _Solve.apply(ctx.pattern, ctx.strict, q, a, gradients[0])
        to_q = to_a = None
        if ctx.needs_input_grad[2]:
            to_q = on_q(ctx.pattern, adjoint, solution).mul(-1).sum_to_size(q.shape)
        if ctx.needs_input_grad[3]:
            to_a = on_a(ctx.pattern, adjoint, solution).mul(-1).sum_to_size(a.shape)
        return None, None, to_q, to_a, adjoint.sum_to_size(ctx.right_shape)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, *tangents: Tensor | None) -> Tensor:
        q, a, solution = ctx.saved_tensors
        dq, da, right = tangents
        right = torch.zeros_like(solution) if right is None else right
        right = right.expand(broadcast_shapes(right.shape, solution.shape))
        if dq is not None or da is not None:
            right = right - _times(ctx.pattern, dq, da, solution)
        return _Solve.apply(ctx.pattern, ctx.strict, q, a, right)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        pattern, strict, q, a, right = arguments
        depth = _depth(in_dims[2:4], q, a)
        if in_dims[2] is None and in_dims[3] is None:
            right = _leading(right, in_dims[4], depth)
            return _Solve.apply(pattern, strict, q, a, right), 0
        q, a = _leading(q, in_dims[2], depth), _leading(a, in_dims[3], depth)
        right = _inside(right, in_dims[4], depth)
        solution = _Solve.apply(pattern, strict, q, a, right)
        return solution, solution.ndim - depth - 2


class _LogDet(torch.autograd.Function):
    @staticmethod
    @described
    def forward(pattern: SaddlePattern, strict: bool, q: Tensor, a: Tensor) -> Tensor:
        return host(saddle.saddle_log_det, pattern, q, a, strict)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.pattern, ctx.strict, q, a = inputs
        ctx.save_for_backward(q, a)
        ctx.save_for_forward(q, a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        q, a = ctx.saved_tensors
        on_q, on_a = _Inverse.apply(ctx.pattern, ctx.strict, q, a)
        gradient = gradients[0].unsqueeze(-1)
        to_q = (gradient * on_q).sum_to_size(q.shape)
        return None, None, to_q, (2 * gradient * on_a).sum_to_size(a.shape)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, dq: Tensor | None, da: Tensor | None) -> Tensor:
        q, a = ctx.saved_tensors
        on_q, on_a = _Inverse.apply(ctx.pattern, ctx.strict, q, a)
        total = on_q.new_zeros(on_q.shape[:-1])
        if dq is not None:
            total = total + (on_q * dq).sum(-1)
        return total if da is None else total + 2 * (on_a * da).sum(-1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        return _LogDet.apply(*arguments[:2], *_all_leading(in_dims[2:], arguments[2:])), 0


class _Inverse(torch.autograd.Function):
    @staticmethod
    @described
    def forward(pattern: SaddlePattern, strict: bool, q: Tensor, a: Tensor) -> tuple:
        return host(saddle.saddle_inverse, pattern, q, a, strict)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.pattern, ctx.strict, q, a = inputs
        ctx.save_for_backward(q, a)
        ctx.save_for_forward(q, a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        q, a = ctx.saved_tensors
        dq, da = gradients
        both = symmetric(ctx.pattern, dq)
        to_q, to_a = _InverseTangent.apply(ctx.pattern, ctx.strict, q, a, both, 0.5 * da)
        return None, None, to_q.sum_to_size(q.shape), (2 * to_a).sum_to_size(a.shape)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, dq: Tensor | None, da: Tensor | None) -> tuple:
        q, a = ctx.saved_tensors
        dq = torch.zeros_like(q) if dq is None else symmetric(ctx.pattern, dq)
        da = torch.zeros_like(a) if da is None else da
        return _InverseTangent.apply(ctx.pattern, ctx.strict, q, a, dq, da)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        outputs = _Inverse.apply(*arguments[:2], *_all_leading(in_dims[2:], arguments[2:]))
        return outputs, (0, 0)


class _InverseTangent(torch.autograd.Function):
    @staticmethod
    @described
    def forward(
        pattern: SaddlePattern, strict: bool, q: Tensor, a: Tensor, dq: Tensor, da: Tensor
    ) -> tuple:
        return host(saddle.saddle_inverse_tangent, pattern, q, a, dq, da, strict)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Nothing is differentiated again."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        raise _no_second_derivative()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple:
        raise _no_second_derivative()

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        outputs = _InverseTangent.apply(*arguments[:2], *_all_leading(in_dims[2:], arguments[2:]))
        return outputs, (0, 0)


def _no_second_derivative() -> NotImplementedError:
    return NotImplementedError(
        "a variance of a sparse law, or a second derivative of its log density with respect to "
        "the values of a matrix or a scale, can be differentiated once, and a second derivative "
        "was asked for; give A or the precision as dense."
    )


class _PrecisionNoise(torch.autograd.Function):
    """Linear in the noise; which root of Q it multiplies by, the host chooses."""

    @staticmethod
    @described
    def forward(pattern: SaddlePattern, fixed: bool, q: Tensor, a: Tensor, noise: Tensor) -> Tensor:
        return host_solve(partial(saddle.precision_noise, fixed=fixed), pattern, q, a, noise)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Derivatives are not known."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        raise no_root()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise no_root()

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        pattern, fixed, q, a, noise = arguments
        of_q, of_a, of_noise = in_dims[2:]
        depth = _depth((of_q, of_a), q, a)
        if of_q is None and of_a is None:
            noise = _leading(noise, of_noise, depth)
            return _PrecisionNoise.apply(pattern, fixed, q, a, noise), 0
        q, a = _leading(q, of_q, depth), _leading(a, of_a, depth)
        draw = _PrecisionNoise.apply(pattern, fixed, q, a, _inside(noise, of_noise, depth))
        return draw, draw.ndim - depth - 2


def _times(pattern: SaddlePattern, dq: Tensor | None, da: Tensor | None, vector: Tensor) -> Tensor:
    """The saddle-point matrix of these values times a vector."""
    places, products = places_of(pattern), []
    if dq is not None:
        products.append((places.q_row, dq * vector[..., places.q_column]))
    if da is not None:
        products.append((places.a_row, da * vector[..., places.a_column]))
        products.append((places.a_column, da * vector[..., places.a_row]))
    total = torch.zeros_like(vector)
    for row, product in products:
        part = total.new_zeros(product.shape[:-1] + vector.shape[-1:])
        total = total + part.index_add(-1, row, product)
    return total


# Maps: the mapped dimension comes before those of the batch, which broadcast from the right.


def _depth(dims: tuple, *values: Tensor) -> int:
    """Dimensions of the batch of what is mapped over some."""
    ranks = (one.ndim - (dim is not None) for one, dim in zip(values, dims, strict=True))
    return max(ranks) - 1


def _leading(values: Tensor, dim: int | None, depth: int) -> Tensor:
    """With the mapped dimension first, and ``depth`` dimensions of a batch after it."""
    if dim is None:
        return values
    values = values.movedim(dim, 0)
    missing = max(depth + 2 - values.ndim, 0)
    return values.reshape(values.shape[:1] + (1,) * missing + values.shape[1:])


def _all_leading(dims: tuple, values: tuple) -> list[Tensor]:
    depth = _depth(dims, *values)
    return [_leading(one, dim, depth) for one, dim in zip(values, dims, strict=True)]


def _inside(vector: Tensor, dim: int | None, depth: int) -> Tensor:
    """A vector ``(*sample, *batch, size)`` with the mapped dimension between samples and batch."""
    if dim is None:
        missing = max(depth + 1 - vector.ndim, 0)
        return vector.reshape((1,) * missing + vector.shape).unsqueeze(-depth - 2)
    return _leading(vector, dim, depth).movedim(0, -depth - 2)
