"""Draws by inversion of a distribution function."""

import torch
from torch import Tensor

__all__ = ["below", "choose"]


def below(uniform: Tensor, total: Tensor) -> Tensor:
    """``uniform * total``, below the total even where the product is rounded: inversion then never
    takes an index of weight zero."""
    return torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))


def choose(weights: Tensor) -> Tensor:
    """An index of the first dimension, drawn with probability proportional to its weight."""
    cumulative = weights.cumsum(0)
    threshold = below(torch.rand_like(cumulative[-1]), cumulative[-1])
    return (cumulative <= threshold).sum(0).clamp_max_(len(weights) - 1)
