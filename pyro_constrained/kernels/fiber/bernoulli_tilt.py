"""The tilt of log odds under which sums of Bernoulli variables are near given ones."""

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.log_space import is_there
from pyro_constrained.kernels.arrays.tracing import constant, quiet_under_trace

__all__ = ["expected_tilt"]

MAX_STEPS = 100
TOLERANCE = 0.1
USUAL = 30.0
"""Log odds up to which a value is more than a formality."""


@constant
@quiet_under_trace
def expected_tilt(logits: Tensor, active: Tensor, counts: Tensor) -> Tensor:
    """lambda with sum sigmoid(logit + lambda) near the count: Newton, kept in a bracket, which
    may be as wide as finite logits are."""
    size = active.sum(-1).clamp(min=1).to(logits.dtype)
    # Where the count is 0 or impossible there is no such lambda; one half will do.
    target = torch.minimum(counts.clamp(min=0.5), size - 0.5)
    centre = torch.log(target / (size - target))
    # As if every member had the largest logit, or the least one: lambda is between.
    low = centre - logits.masked_fill(~active, -torch.inf).amax(-1)
    high = centre - logits.masked_fill(~active, torch.inf).amin(-1)
    any_active = active.any(-1)
    low, high = low.where(any_active, 0.0), high.where(any_active, 0.0)
    usual = logits.clamp(-USUAL, USUAL).masked_fill(~active, 0.0)
    tilt = (centre - usual.sum(-1) / size).clamp(low, high)
    for _ in range(MAX_STEPS):
        probability = torch.sigmoid(logits + tilt[..., None])
        excess = probability.sum(-1) - target
        if not is_there(~(excess.abs() <= TOLERANCE) & any_active):
            break
        low, high = torch.where(excess < 0, tilt, low), torch.where(excess > 0, tilt, high)
        slope = (probability * (1 - probability)).sum(-1)
        step = tilt - excess / slope
        inside = (step > low) & (step < high)
        tilt = torch.where(inside, step, _between(low, high))
    return tilt


def _between(low: Tensor, high: Tensor) -> Tensor:
    """The middle on a scale that is logarithmic far from zero."""
    middle = (low.sign() * low.abs().log1p() + high.sign() * high.abs().log1p()) / 2
    return (middle.sign() * middle.abs().expm1()).clamp(low, high)
