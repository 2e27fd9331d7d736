"""Differences of gamma functions that keep their digits where the functions are large."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import are_known

__all__ = ["digamma_step", "log_gamma_excess"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""


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
