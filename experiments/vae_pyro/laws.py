"""Densities of the laws that the usual cures make of independent normal pixels.

What ``experiments.vae.laws`` says of them, for PyTorch; images are drawn by the laws there.
"""

import numpy as np
import pyro.distributions as dist
from torch import Tensor

from constrained_core import GroupSum
from experiments.vae.laws import LOG_TWO_PI, half_log_volume

__all__ = ["completed_log_prob", "projected_log_prob"]


def projected_log_prob(x: Tensor, loc: Tensor, scale: Tensor, A: GroupSum) -> Tensor:
    """``(*batch,)`` at x of N(loc, scale^2) whose draws are moved to the nearest point."""
    rows = x.new_tensor(A.to_dense())
    precision, gap = scale**-2, x - loc
    total = precision @ rows.T
    common = (precision * gap) @ rows.T / total
    rest = precision * (gap - common @ rows).square() + LOG_TWO_PI
    density = -0.5 * rest.sum(-1) - scale.log().sum(-1)
    lengths = x.new_tensor(A.sizes).log() + LOG_TWO_PI
    return density + 0.5 * (lengths - total.log()).sum(-1)


def completed_log_prob(
    x: Tensor, loc: Tensor, scale: Tensor, A: GroupSum, dependent: np.ndarray
) -> Tensor:
    """``(*batch,)`` at x of N(loc, scale^2) of whose pixels the ``dependent`` ones follow."""
    terms = dist.Normal(loc, scale, validate_args=False).log_prob(x)
    free = x.new_ones(x.shape[-1])
    free[dependent] = 0.0
    return terms @ free - half_log_volume(A)
