"""Tables over the values 0..U-1 of single variables: ``(..., U)``, their means and variances."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.log_space import strictly_inside, without_nan

__all__ = [
    "exact_zeros",
    "mean_of",
    "padded",
    "values_of",
    "variance_of",
]


def values_of(num_values: int, like: Tensor) -> Tensor:
    """0..U-1 in the dtype and on the device of ``like``."""
    return torch.arange(num_values, device=like.device).to(like.dtype)


def exact_zeros(probability: Tensor, possible: Tensor) -> Tensor:
    """``(..., U)`` positive exactly where a value is possible, below 1 where another is too; NaN
    stays."""
    is_open = possible & (possible.sum(-1, keepdim=True) > 1)
    is_zero = ~possible & ~probability.isnan()
    zero = probability - probability.detach()
    return torch.where(is_zero, zero, strictly_inside(probability, is_open))


def mean_of(probability: Tensor) -> Tensor:
    """``(...)`` mean of tables of probabilities, at most the largest value."""
    if probability.shape[-1] == 2:
        return probability[..., 1]
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
