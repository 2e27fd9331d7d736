"""What one law of a whole batch saves over a loop over its crystals."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from experiments.charges.batches import Batch
from pyro_constrained import ConstrainedNormal

__all__ = ["measure_law"]

REPEATS = 5


def measure_law(batch: Batch, seed: int = 0) -> dict[str, float]:
    """Milliseconds of both forms, least of a few tries, and their ratio.

    Timed are the building of the law, its log density and expected absolute error, and their
    gradients with respect to locations and scales. Both forms give the same gradients, or an
    error is raised.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, len(batch.charge), generator=generator, dtype=torch.float64)
    start = np.concatenate([[0], batch.last.numpy() + 1])
    slices = [slice(*pair) for pair in pairwise(start)]
    zeros = torch.zeros(len(slices), dtype=torch.float64)

    def at_once(loc: Tensor, scale: Tensor) -> Tensor:
        return _loss(loc, scale, batch.neutral, zeros, batch.charge)

    def one_by_one(loc: Tensor, scale: Tensor) -> Tensor:
        losses = [
            _loss(loc[s], scale[s], torch.ones_like(loc[s]), zeros[0], batch.charge[s])
            for s in slices
        ]
        return torch.stack(losses).sum()

    (fast, gradient), (slow, expected) = (_timed(form, noise) for form in (at_once, one_by_one))
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)
    return {"batch_ms": 1e3 * fast, "loop_ms": 1e3 * slow, "ratio": slow / fast}


def _loss(loc: Tensor, scale: Tensor, A, k: Tensor, charge: Tensor) -> Tensor:
    law = ConstrainedNormal(loc, scale, A, k, validate_args=False)
    return law.expected_l1(charge).sum() - law.log_prob(charge)


def _timed(form: Callable[[Tensor, Tensor], Tensor], noise: Tensor) -> tuple[float, Tensor]:
    """Seconds and gradient."""
    seconds = []
    for _ in range(REPEATS):
        loc, scale = noise[0].clone().requires_grad_(), noise[1].exp().requires_grad_()
        began = time.perf_counter()
        form(loc, scale).backward()
        seconds.append(time.perf_counter() - began)
    return min(seconds), torch.stack([loc.grad, scale.grad])
