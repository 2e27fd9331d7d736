"""Differences of gamma functions that keep their digits where the functions are large."""

import torch
from torch import Tensor

__all__ = ["digamma_step", "log_gamma_excess"]

LARGE = 30.0
"""From here on the asymptotic series are exact to the last digits of float64."""


def log_gamma_excess(a: Tensor, step: float | Tensor) -> Tensor:
    """``log Gamma(a + step) - log Gamma(a) - step log a`` for a > 0, step >= 0 (Stirling)."""
    large = torch.where(a < LARGE, LARGE, a)
    total = large + step
    series = _stirling(total) - _stirling(large)
    series = series + (total - 0.5) * torch.log1p(step / large) - step
    direct = torch.lgamma(a + step) - torch.lgamma(a) - step * a.log()
    return torch.where(a < LARGE, direct, series)


def _stirling(z: Tensor) -> Tensor:
    inverse = 1 / z
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


def digamma_step(a: Tensor, step: float | Tensor) -> Tensor:
    """``digamma(a + step) - digamma(a)`` for a > 0, step >= 0."""
    large = torch.where(a < LARGE, LARGE, a)
    series = torch.log1p(step / large) + _digamma_rest(large) - _digamma_rest(large + step)
    return torch.where(a < LARGE, torch.digamma(a + step) - torch.digamma(a), series)


def _digamma_rest(z: Tensor) -> Tensor:
    """``log z - digamma(z)``."""
    inverse = 1 / z
    square = inverse.square()
    return 0.5 * inverse + square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240))
    )
