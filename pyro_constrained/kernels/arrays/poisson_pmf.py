"""Poisson probabilities without large terms that cancel.

``x log mean - mean - log x!`` takes terms of size x log x to make a figure of size log x, which
leaves few digits in single precision. Here it is ``-D(x, mean) - delta(x) - log(2 pi x) / 2`` with
the deviance D = x log(x / mean) + mean - x and the error delta of Stirling's formula (Loader 2000,
*Fast and accurate computation of binomial probabilities*), all of which are as small as the answer.

The law given ``A x = k`` is the same for all rates ``rate_i exp(a_i' lambda)``. Those of which the
mean sums are k keep the deviances small.
"""

import math

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.log_space import is_there, power, safe_log, times
from pyro_constrained.kernels.arrays.tracing import constant

__all__ = ["log_poisson", "tilt"]

FEW = 16.0
"""Counts below are scored term by term; Stirling's series is right to 1e-15 from here on."""

TILT_STEPS = 40
LARGEST_STEP = 2.0
"""Of an exponent in one step of Newton's method."""

RIDGE = 1e-5
"""Rows may be redundant."""

FAR = 1e-3
"""Mean over count below which their logarithms do not cancel."""

CLOSE = 1e-3
"""Relative distance of the sums from k at which deviances are small enough."""


def log_poisson(count: Tensor, mean: Tensor, log_mean: Tensor | None = None) -> Tensor:
    """``log(mean^count exp(-mean) / count!)``; -inf where only the mean is zero.

    Args:
        count: whole numbers.
        mean: positive, or zero.
        log_mean: its logarithm, where the mean may be below the least number of the dtype.
    """
    is_few = count < FEW
    few = count.masked_fill(~is_few, 0.0)
    plain = power(few, mean) if log_mean is None else times(few, log_mean)
    plain = plain - mean - torch.lgamma(few + 1)
    many = count.masked_fill(is_few, FEW)
    excess, is_far = many - mean, mean < FAR * many
    if is_there(is_far):
        near = torch.log1p(excess.masked_fill(is_far, 0.0) / mean.masked_fill(is_far, 1.0))
        far = many.log() - (safe_log(mean) if log_mean is None else log_mean)
        logarithm = torch.where(is_far, far, near)
    else:
        logarithm = torch.log1p(excess / mean)
    smooth = excess - many * logarithm - _stirling_error(many) - (2 * math.pi * many).log() / 2
    return torch.where(is_few, plain, smooth)


def _stirling_error(count: Tensor) -> Tensor:
    """``log count! - (count + 1/2) log count + count - log(2 pi) / 2`` from 16 on."""
    square = count.square()
    series = 1 / 1260 - (1 / 1680 - 1 / (1188 * square)) / square
    return (1 / 12 - (1 / 360 - series / square) / square) / count


@constant
def tilt(rate: Tensor, coefficients: Tensor, k: Tensor) -> Tensor:
    """lambda with ``sum_j rate_j exp(a_j' lambda) a_j`` about k, or as near as steps come.

    Damped Newton steps on a convex function. Whatever lambda is, laws and their derivatives are
    exact functions: it is a constant.

    Args:
        rate: ``(*batch, q)``.
        coefficients: ``(q, r)`` a.
        k: ``(*batch, r)``; the mean over dimensions that a batch of rates does not have.

    Returns:
        ``(*batch, r)``.
    """
    k = _mean_of_batch(k, rate.shape[:-1])
    multiplier = torch.zeros_like(k + (rate @ coefficients))
    for _ in range(TILT_STEPS):
        exponent = multiplier @ coefficients.mT
        mean = rate * exponent.exp()
        gap = k - mean @ coefficients
        if not is_there(~(gap.abs() <= CLOSE * (k.abs() + 1))):
            break
        hessian = coefficients.mT @ (mean[..., None] * coefficients)
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        ridge = RIDGE * (1 + diagonal + diagonal.amax(-1, keepdim=True))
        step = torch.linalg.solve(hessian + ridge.diag_embed(), gap[..., None])[..., 0]
        largest = (step @ coefficients.mT).abs().amax(-1, keepdim=True)
        multiplier = multiplier + step * (LARGEST_STEP / largest.clamp(min=LARGEST_STEP))
    return multiplier


def _mean_of_batch(k: Tensor, batch_shape: torch.Size) -> Tensor:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdim=True) if size == 1 else k
    return k
