"""Differences of gamma functions that keep their digits where the functions are large."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.functions import are_refused, described
from pyro_constrained.kernels.arrays.inspection import are_known

__all__ = ["digamma_step", "log_gamma_excess", "log_student"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""
SHORT = 200.0
"""Steps up to which PyTorch's derivatives, which take less time, keep their digits."""


def log_gamma_excess(a: Tensor, step: float | Tensor) -> Tensor:
    """``log Gamma(a + step) - log Gamma(a) - step log a`` for a > 0, step >= 0 (Stirling)."""

    def direct(small: Tensor) -> Tensor:
        return torch.lgamma(small + step) - torch.lgamma(small) - step * small.log()

    def series(large: Tensor) -> Tensor:
        total = large + step
        stirling = _stirling(total) - _stirling(large)
        return stirling + (total - 0.5) * torch.log1p(step / large) - step

    return _by_size(a, direct, series)


def _stirling(z: Tensor) -> Tensor:
    inverse = 1 / z
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


def digamma_step(a: Tensor, step: float | Tensor) -> Tensor:
    """``digamma(a + step) - digamma(a)`` for a > 0, step >= 0."""

    def direct(small: Tensor) -> Tensor:
        return torch.digamma(small + step) - torch.digamma(small)

    def series(large: Tensor) -> Tensor:
        return torch.log1p(step / large) + _digamma_rest(large) - _digamma_rest(large + step)

    return _by_size(a, direct, series)


def _by_size(
    a: Tensor, direct: Callable[[Tensor], Tensor], series: Callable[[Tensor], Tensor]
) -> Tensor:
    """``direct`` of what is small, ``series`` of what is large; only what is needed is computed."""
    is_small = a < LARGE
    if are_known(is_small):
        if bool(is_small.all()):
            return direct(a)
        if not bool(is_small.any()):
            return series(a)
    return torch.where(is_small, direct(a), series(torch.where(is_small, LARGE, a)))


def _digamma_rest(z: Tensor) -> Tensor:
    """``log z - digamma(z)``."""
    inverse = 1 / z
    square = inverse.square()
    return 0.5 * inverse + square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240))
    )


def log_student(
    a: Tensor, step: float | Tensor, spread: Tensor, log_scale: Tensor, distance: Tensor
) -> Tensor:
    """``log Gamma(a + step) - log Gamma(a) + a log spread - (a + step) log(spread + distance)
    - step log pi``, what a Student-t law makes of a squared distance.

    ``log_scale`` is ``log(pi spread / a)``. Derivatives keep their digits too, where autodiff
    leaves a difference of two terms of ``step / a``.
    """
    is_short = not isinstance(step, Tensor) and step <= SHORT
    if is_short:
        return _log_student(a, step, spread, log_scale, distance)
    if are_refused():
        return torch.where(
            a < step,
            _sum_of_logarithms(a, step, spread, distance),
            _log_student(a, step, spread, log_scale, distance),
        )
    if not isinstance(step, Tensor):
        step = torch.tensor(step, dtype=a.dtype, device=a.device)
    return _LogStudent.apply(a, step, spread, log_scale, distance)


def _log_student(
    a: Tensor, step: float | Tensor, spread: Tensor, log_scale: Tensor, distance: Tensor
) -> Tensor:
    normaliser = log_gamma_excess(a, step) - step * log_scale
    return normaliser - (a + step) * torch.log1p(distance / spread)


def _sum_of_logarithms(a: Tensor, step: float | Tensor, spread: Tensor, distance: Tensor) -> Tensor:
    """``log_student`` as it is written, whose derivatives by PyTorch keep their digits for large
    steps, its values not for large a."""
    large = torch.lgamma(a + step) - (a + step) * (spread + distance).log()
    return large - torch.lgamma(a) + a * spread.log() - step * math.log(math.pi)


class _LogStudent(torch.autograd.Function):
    generate_vmap_rule = True
    forward = staticmethod(described(_log_student))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        a, step, spread, _, distance = inputs
        ctx.save_for_backward(a, step, spread, distance)
        ctx.save_for_forward(a, step, spread, distance)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        a, step, spread, distance = ctx.saved_tensors
        slopes = zip(_slopes(a, step, spread, distance), (a, spread, distance), strict=True)
        to_a, to_spread, to_distance = (
            (gradients[0] * slope).sum_to_size(at.shape) for slope, at in slopes
        )
        return to_a, None, to_spread, None, to_distance

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        a, _, spread, _, distance = tangents
        slopes = _slopes(*ctx.saved_tensors)
        moves = zip(slopes, (a, spread, distance), strict=True)
        return sum((slope * move for slope, move in moves if move is not None), 0 * slopes[2])


def _slopes(a: Tensor, step: Tensor, spread: Tensor, distance: Tensor) -> tuple:
    """Derivatives of ``log_student`` in each."""
    total = spread + distance
    return (
        digamma_step(a, step) - torch.log1p(distance / spread),
        (a / spread * distance - step) / total,
        -(a + step) / total,
    )
