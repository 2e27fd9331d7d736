"""Tables over the values 0..U-1 of single variables: ``(..., U)``, their means and variances."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.log_space import (
    log_ratio,
    power,
    ratio,
    strictly_inside,
    times,
    without_nan,
)
from pyro_constrained.kernels.arrays.poisson_pmf import log_poisson

__all__ = [
    "exact_zeros",
    "log_factorials",
    "mean_of",
    "padded",
    "poisson_edges",
    "poisson_weights",
    "split_table",
    "values_of",
    "variance_of",
]


def values_of(num_values: int, like: Tensor) -> Tensor:
    """0..U-1 in the dtype and on the device of ``like``."""
    return torch.arange(num_values, device=like.device).to(like.dtype)


def log_factorials(num_values: int, like: Tensor) -> Tensor:
    """``(U,)`` log u! of u = 0..U-1."""
    return torch.lgamma(values_of(num_values, like) + 1)


def poisson_weights(rate: Tensor, num_values: int) -> Tensor:
    """``(..., U)`` u log rate - log u! of u = 0..U-1."""
    value = values_of(num_values, rate)
    return power(value, rate[..., None]) - log_factorials(num_values, rate)


def poisson_edges(rate: Tensor, num_values: int, is_delicate: bool) -> Tensor:
    """``(..., U)`` weights of u = 0..U-1 where the rate is zero: zeros, with first and second
    derivatives; those of larger counts have none. Probabilities where that is delicate."""
    value = values_of(num_values, rate)
    edge = rate.masked_fill(rate != 0, 0.0)[..., None]
    weight = torch.where(value == 1, edge, torch.where(value == 2, edge.square() / 2, 0.0))
    return weight * (-edge).exp() if is_delicate else weight


def split_table(
    total: Tensor, rates: tuple[Tensor, Tensor, Tensor], num_values: int, is_delicate: bool
) -> Tensor:
    """``(..., U)`` log probability that u of ``total`` fall on a part: binomial.

    Args:
        total: ``(..., 1)`` the counts.
        rates: ``(..., 1)`` of the part, of all else, and of both.
        num_values: U.
        is_delicate: whether plain terms lose too many digits.
    """
    part, rest, whole = rates
    value = values_of(num_values, part)
    other = (total - value).clamp(min=0)
    log_part, log_rest = log_ratio(part, whole), log_ratio(rest, whole)
    if is_delicate:
        log_total = total.clamp(min=1).log()
        table = log_poisson(value, total * ratio(part, whole), log_total + log_part)
        table = table + log_poisson(other, total * ratio(rest, whole), log_total + log_rest)
        table = table - log_poisson(total, total)
    else:
        ways = torch.lgamma(total + 1) - torch.lgamma(value + 1) - torch.lgamma(other + 1)
        table = ways + times(value, log_part) + times(other, log_rest)
    return table.masked_fill(value > total, -torch.inf)


def exact_zeros(probability: Tensor, possible: Tensor) -> Tensor:
    """``(..., U)`` positive exactly where a value is possible, below 1 where another is too; NaN
    stays."""
    is_open = possible & (possible.sum(-1, keepdim=True) > 1)
    is_zero = ~possible & ~probability.isnan()
    zero = probability - probability.detach()
    return torch.where(is_zero, zero, strictly_inside(probability, is_open))


def mean_of(probability: Tensor) -> Tensor:
    """``(...)`` mean of tables of probabilities, at most the largest value."""
    found = probability @ values_of(probability.shape[-1], probability)
    return found.clamp(max=probability.shape[-1] - 1)


def variance_of(probability: Tensor) -> Tensor:
    """``(...)`` variance of tables of probabilities."""
    known, missing = without_nan(probability)
    if known.shape[-1] == 2:
        variance = known[..., 0] * known[..., 1]
    else:
        deviation = values_of(known.shape[-1], known) - mean_of(known)[..., None]
        variance = (known * deviation.square()).sum(-1)
    return variance.masked_fill(missing.any(-1), torch.nan)


def padded(table: Tensor, num_values: int) -> Tensor:
    """Log probabilities of more values, or fewer: no variable may reach the largest one that its
    base law has."""
    missing = num_values - table.shape[-1]
    table = pad(table, (0, missing), value=-torch.inf)
    return table.masked_fill(table[..., :1].isnan(), torch.nan) if missing > 0 else table
