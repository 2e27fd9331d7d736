"""Exact expected losses of normal marginals, per coordinate, also where the variance is zero."""

import math

import torch
from torch import Tensor

__all__ = ["normal_crps", "normal_expected_l1", "normal_expected_l2"]


def _standardised(mean: Tensor, variance: Tensor, target: Tensor):
    """Error, its ratio to the standard deviation, the standard deviation, and where it is zero."""
    # Of a determined variable the limit is |error|; a quotient by 0 would spoil its gradient.
    certain = variance <= 0
    scale = torch.where(certain, 1.0, variance).sqrt()
    error = mean - target
    return error, error / scale, scale, certain


def _mean_absolute(error: Tensor, ratio: Tensor, scale: Tensor) -> Tensor:
    density = torch.exp(-0.5 * ratio.square()) * math.sqrt(2 / math.pi)
    return scale * density + error * torch.erf(ratio * math.sqrt(0.5))


def normal_expected_l1(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """E|x - t| for x ~ N(mean, variance)."""
    error, ratio, scale, certain = _standardised(mean, variance, target)
    return torch.where(certain, error.abs(), _mean_absolute(error, ratio, scale))


def normal_expected_l2(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """E (x - t)^2 for x of this mean and variance."""
    return variance + (mean - target).square()


def normal_crps(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """E|x - t| - E|x - x'| / 2 for independent x, x' ~ N(mean, variance)."""
    error, ratio, scale, certain = _standardised(mean, variance, target)
    spread = _mean_absolute(error, ratio, scale) - scale / math.sqrt(math.pi)
    return torch.where(certain, error.abs(), spread)
