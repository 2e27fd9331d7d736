"""Logarithms, sums and products with them, and ratios, where a factor may be zero, or as small as
it likes."""

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import host_array, is_wrapped

__all__ = [
    "expected",
    "is_there",
    "log_change",
    "log_ratio",
    "log_sum_exp",
    "power",
    "ratio",
    "safe_log",
    "strictly_inside",
    "times",
    "without_nan",
]


def is_there(mask: Tensor) -> bool:
    """Whether an entry is true, or may be in a later run of what is traced now.

    Of what ``torch.func.vmap`` maps over, an entry of any of the runs: all go the same way.
    """
    if torch.jit.is_tracing():
        return True
    if is_wrapped(mask):
        return bool(host_array(mask).any())
    return bool(mask.any())


def power(count: Tensor, rate: Tensor) -> Tensor:
    """``count log rate``, 0 where count is 0 and -inf where only rate is; gradients are finite."""
    is_zero = rate == 0
    if not is_there(is_zero):
        return count * rate.log()
    value = count * rate.masked_fill(is_zero, 1.0).log()
    return value.masked_fill(is_zero & (count > 0), -torch.inf)


def times(count: Tensor, logarithm: Tensor) -> Tensor:
    """``count logarithm``, 0 where count is 0."""
    is_zero = logarithm == -torch.inf
    if not is_there(is_zero):
        return count * logarithm
    value = count * logarithm.masked_fill(is_zero, 0.0)
    return value.masked_fill(is_zero & (count > 0), -torch.inf)


def safe_log(value: Tensor) -> Tensor:
    """-inf, with a gradient of zero, at zero and below."""
    is_zero = value <= 0
    return value.masked_fill(is_zero, 1.0).log().masked_fill(is_zero, -torch.inf)


def expected(probability: Tensor, log_weight: Tensor, is_zero: Tensor | None = None) -> Tensor:
    """Their product; 0, not NaN, where the probability is zero, and infinite where only a weight
    is."""
    if not is_there((log_weight == -torch.inf) | probability.isnan()):
        return probability * log_weight
    probability, log_weight = torch.broadcast_tensors(probability, log_weight)
    is_forbidden = log_weight == -torch.inf
    is_zero = probability <= 0 if is_zero is None else is_zero
    known, missing = without_nan(probability)
    product = known * log_weight.masked_fill(is_zero | is_forbidden, 0.0)
    product = product.masked_fill(~is_zero & is_forbidden, -torch.inf)
    return product.masked_fill(missing, torch.nan)


def log_change(before: Tensor, after: Tensor) -> Tensor:
    """``after - before`` of logarithms; ``after`` where there was nothing before."""
    return after - before.masked_fill(before == -torch.inf, 0.0)


def without_nan(figures: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros for NaN, and where they are: put back last, NaN spoils no derivative of others."""
    missing = figures.isnan()
    return figures.masked_fill(missing, 0.0), missing


def strictly_inside(probability: Tensor, is_open: Tensor) -> Tensor:
    """Where open, from the least positive number of the dtype to the one below 1, so that both
    logarithms are finite; derivatives are those of the probability."""
    with torch.no_grad():
        info = torch.finfo(probability.dtype)
        within = probability.clamp(info.tiny, 1 - info.eps / 2)
        correction = (within - probability).masked_fill(~is_open, 0.0)
    return probability + correction.detach()


def ratio(part: Tensor, total: Tensor) -> Tensor:
    """``part / total``, 0 where both are."""
    return part / total.masked_fill(total == 0, 1.0)


def log_ratio(part: Tensor, total: Tensor) -> Tensor:
    """Its logarithm, also where the ratio is below the least number of the dtype."""
    plain = ratio(part, total)
    is_tiny = plain < torch.finfo(plain.dtype).tiny
    if not is_there(is_tiny):
        return plain.log()
    few = safe_log(part) - total.masked_fill(total == 0, 1.0).log()
    return torch.where(is_tiny, few, plain.masked_fill(is_tiny, 1.0).log())


def log_sum_exp(terms: Tensor, axis: int = -1) -> Tensor:
    """Over one dimension; -inf, with zero gradients, where all terms are."""
    largest = terms.detach().amax(axis, keepdim=True)
    largest = largest.masked_fill(largest == -torch.inf, 0.0)
    total = (terms - largest).exp().sum(axis)
    is_zero = total == 0
    logarithm = total.masked_fill(is_zero, 1.0).log() + largest.squeeze(axis)
    return logarithm.masked_fill(is_zero, -torch.inf)
