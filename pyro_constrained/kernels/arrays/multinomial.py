"""Multinomial draws: one by one where totals are small, by halving the categories otherwise."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.inversion import below
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded

__all__ = ["multinomial_draw"]

FEW = 4096
"""Up to so many units in all are drawn one by one: fewer operations than halving takes."""


def multinomial_draw(
    weights: Tensor, totals: Tensor, num_samples: int, largest: int | None
) -> Tensor:
    """How ``totals`` fall on L categories, drawn ``num_samples`` times.

    Args:
        weights: ``(*batch, L)`` nonnegative, up to a factor of every row.
        totals: ``(*batch,)``.
        largest: a bound of the totals, if there is one.

    Returns:
        ``(num_samples, *batch, L)``.
    """
    batch = broadcast_shapes(weights.shape[:-1], totals.shape).numel() * num_samples
    if largest is not None and largest <= max(2 * weights.shape[-1], FEW // max(batch, 1)):
        return _one_by_one(weights, totals, num_samples, largest)
    return _by_halves(weights, totals, num_samples)


def _one_by_one(weights: Tensor, totals: Tensor, num_samples: int, largest: int) -> Tensor:
    """By inversion of the distribution function."""
    shape, num_categories = broadcast_shapes(weights.shape[:-1], totals.shape), weights.shape[-1]
    cumulative = expanded(weights.cumsum(-1), shape + (num_categories,)).contiguous()
    size = shape + (num_samples * largest,)
    uniform = torch.rand(size, dtype=weights.dtype, device=weights.device)
    threshold = below(uniform, cumulative[..., -1:])
    index = torch.searchsorted(cumulative, threshold, right=True)
    index = index.clamp_max_(num_categories - 1).unflatten(-1, (num_samples, largest))
    is_drawn = torch.arange(largest, device=weights.device) < totals[..., None, None]
    # Of the index, which is mapped wherever the uniform numbers are.
    drawn = index.new_zeros(shape + (num_samples, num_categories), dtype=weights.dtype)
    drawn.scatter_add_(-1, index, is_drawn.to(weights.dtype).expand(index.shape))
    return drawn.movedim(-2, 0)


def _by_halves(weights: Tensor, totals: Tensor, num_samples: int) -> Tensor:
    """By binomial splits, in log2 L steps."""
    shape = broadcast_shapes(weights.shape[:-1], totals.shape)
    levels = [weights]
    while levels[-1].shape[-1] > 1:
        levels[-1] = _even(levels[-1])
        levels.append(torch.add(*levels[-1].chunk(2, -1)))
    drawn = totals.expand((num_samples,) + shape)[..., None]
    for level in reversed(levels[:-1]):
        drawn = _split(drawn[..., : level.shape[-1] // 2], *level.chunk(2, -1))
    return drawn[..., : weights.shape[-1]]


def _even(level: Tensor) -> Tensor:
    return pad(level, (0, level.shape[-1] % 2))


def _split(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Counts of both halves; the smaller one is drawn, whose probability is exact when tiny."""
    small = torch.minimum(left, right)
    share = small / (left + right).masked_fill(small == 0, 1.0)
    drawn = torch.binomial(total, expanded(share, total.shape))
    rest = total - drawn
    is_left = left <= right
    return torch.cat([torch.where(is_left, drawn, rest), torch.where(is_left, rest, drawn)], -1)
