"""Hypergeometric draws and probabilities: what of a total falls where both margins are given."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.inspection import unwrapped
from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.poisson_pmf import log_poisson

__all__ = ["hypergeometric_draw", "log_hypergeometric", "table_draw"]

TAIL = 20.0
"""A window leaves out 2 exp(-2 TAIL) = 8e-18 of a law (Hoeffding 1963)."""

PIECE = 2**22
"""Weights that are looked at in one step."""


def table_draw(rows: Tensor, columns: Tensor) -> Tensor:
    """Tables with given margins, with probabilities prod rows! columns! / (total! prod cells!).

    Half of the rows are drawn at a time, and half of the columns of these: log2 R log2 C steps.

    Args:
        rows: ``(*shape, R)`` row sums.
        columns: ``(*shape, C)`` column sums, of the same total.

    Returns:
        ``(*shape, R, C)``.
    """
    dtype = rows.dtype
    rows, tables = rows.double(), columns.double()[..., None, :]  # sums of counts are exact
    for level in reversed(_halves(rows)[:-1]):
        half = level.shape[-1] // 2
        upper = _split_columns(tables[..., :half, :], level[..., :half])
        tables = torch.cat([upper, tables[..., :half, :] - upper], -2)
    return tables[..., : rows.shape[-1], :].to(dtype)


def _split_columns(columns: Tensor, draws: Tensor) -> Tensor:
    """How ``draws (...)`` without replacement fall on ``columns (..., C)``."""
    drawn = draws[..., None]
    for level in reversed(_halves(columns)[:-1]):
        left, right = level.chunk(2, -1)
        taken = hypergeometric_draw(left, right, drawn[..., : left.shape[-1]])
        drawn = torch.cat([taken, drawn[..., : left.shape[-1]] - taken], -1)
    return drawn[..., : columns.shape[-1]]


def _halves(sizes: Tensor) -> list[Tensor]:
    """Sums of pairs of the first and the second half, from the sizes themselves to one sum."""
    levels = [sizes]
    while levels[-1].shape[-1] > 1:
        levels[-1] = pad(levels[-1], (0, levels[-1].shape[-1] % 2))
        levels.append(torch.add(*levels[-1].chunk(2, -1)))
    return levels


def hypergeometric_draw(good: Tensor, bad: Tensor, draws: Tensor) -> Tensor:
    """How many of ``draws`` without replacement are good, all of one shape; by inversion."""
    low, high = (draws - bad).clamp(min=0), torch.minimum(draws, good)
    if low.numel() == 0:
        return low
    least = torch.minimum(torch.minimum(draws, good + bad - draws), torch.minimum(good, bad))
    reach = 2 * math.ceil(math.sqrt(TAIL * float(unwrapped(least).max()))) + 2
    width = min(int(unwrapped(high - low).max()) + 1, reach)
    mode = ((draws + 1) * (good + 1) / (good + bad + 2)).floor()
    start = torch.minimum(mode - width // 2, high - width + 1).maximum(low)
    flat = [part.reshape(-1) for part in (good, bad, draws, start, high)]
    pieces = zip(*(part.split(max(1, PIECE // width)) for part in flat), strict=True)
    return torch.cat([_inverted(width, *piece) for piece in pieces]).reshape(low.shape)


def _inverted(
    width: int, good: Tensor, bad: Tensor, draws: Tensor, start: Tensor, high: Tensor
) -> Tensor:
    """A draw from ``start..start + width - 1``, all of them ``(L,)``."""
    value = start + torch.arange(1, width, device=good.device)[:, None]
    # Ratios of successive probabilities: their errors are those of a few roundings.
    gained = (good - value + 1).clamp(min=0) * (draws - value + 1).clamp(min=0)
    ratio = gained / (value * (bad - draws + value)).clamp(min=1)
    log_weight = pad(ratio.log().cumsum(0), (0, 0, 1, 0))
    weight = (log_weight - log_weight.amax(0)).exp()
    return torch.minimum(start + choose(weight), high)


def log_hypergeometric(value: Tensor, draws: Tensor, good: Tensor, total: Tensor) -> Tensor:
    """Log probability that ``value`` of ``draws`` from ``total`` are good; -inf where it cannot be.

    As binomials given their sum, of terms that are as small as the answer.
    """
    bad, others = total - good, total - draws
    scale = total.clamp(min=1)
    cells = (
        (value, draws * good / scale),
        (draws - value, draws * bad / scale),
        (good - value, others * good / scale),
        (others - good + value, others * bad / scale),
    )
    log_prob = sum((_log_poisson(*cell) for cell in cells), torch.zeros_like(value + total))
    margins = (_log_poisson(size, size) for size in (draws, others, good, bad))
    log_prob = log_prob - sum(margins, -_log_poisson(total, total))
    inside = (value <= draws) & (value <= good) & (others - good + value >= 0)
    return log_prob.masked_fill(~inside, -torch.inf)


def _log_poisson(count: Tensor, mean: Tensor) -> Tensor:
    return log_poisson(count.clamp(min=0), mean)
