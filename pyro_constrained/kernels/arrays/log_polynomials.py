"""Products of the polynomials of many variables by a balanced tree, upwards and downwards, all in
logarithms: for coefficients that may be smaller than the least number of the dtype.

Nodes are along the second dimension, coefficients along the first.
"""

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.polynomials import log_convolve, log_correlate

__all__ = ["log_terms"]


def log_terms(leaves: Tensor, counts: Tensor, size: int) -> Tensor:
    """``(2, L, N)`` logarithms of what the two coefficients of every leaf contribute to the
    coefficient of the product of all leaves that belongs to a sum.

    Args:
        leaves: ``(2, L, N)`` log weights of 0 and 1.
        counts: ``(N,)`` the sums.
        size: number of coefficients that are needed.
    """
    levels = _products(leaves, size)
    degrees = torch.arange(len(levels[-1]), device=leaves.device)[:, None, None]
    outside = torch.zeros_like(levels[-1]).masked_fill(degrees != counts, -torch.inf)
    for level in reversed(levels[:-1]):
        left, right = level.chunk(2, 1)
        above = outside[:, : left.shape[1]]  # that of both children
        outside = torch.cat([log_correlate(above, part, len(level)) for part in (right, left)], 1)
    return leaves + outside[:, : leaves.shape[1]]


def _products(leaves: Tensor, size: int) -> list[Tensor]:
    """Products of ever more members, ``(degree + 1, nodes, N)``, the last of all of them."""
    levels = [leaves]
    while levels[-1].shape[1] > 1:
        level = levels[-1] = _even(levels[-1])
        left, right = level.chunk(2, 1)
        levels.append(log_convolve(left, right, min(2 * len(level) - 1, size)))
    return levels


def _even(level: Tensor) -> Tensor:
    """With the polynomial 1 as a last node where the number of nodes is odd."""
    if level.shape[1] % 2 == 0:
        return level
    one = torch.full_like(level[:, :1], -torch.inf)
    one[0] = 0.0
    return torch.cat([level, one], 1)
