"""Differences of gamma functions that keep their digits where the functions are large."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import are_known

__all__ = ["digamma_step", "log_gamma_excess", "log_student"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""
SHORT = 200.0
"""Steps up to which the derivatives of an excess keep their digits."""
FEW = 16.0
"""And the quotient of a step and its argument."""
LOG_PI = math.log(math.pi)
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


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

    ``log_scale`` is ``log(pi spread / a)``. Where ``step / a`` is large, the derivatives of an
    excess are a difference of two terms of that size; term by term, with Stirling's formula for
    ``Gamma(a + step)`` only, they keep their digits.
    """
    excess = log_gamma_excess(a, step) - step * log_scale
    excess = excess - (a + step) * torch.log1p(distance / spread)
    if not isinstance(step, Tensor):
        if step <= SHORT:
            return excess
        step = torch.tensor(step, dtype=a.dtype, device=a.device)
    is_long = (step > SHORT) & (step > a * FEW)
    total = torch.where(is_long, a + step, SHORT)
    by_term = total * (total / (spread + distance)).log() - 0.5 * total.log() + _stirling(total)
    by_term = by_term - torch.lgamma(a) + a * spread.log() - total
    return torch.where(is_long, by_term - step * LOG_PI + HALF_LOG_TWO_PI, excess)
