"""PyTorch: subsets and counts given their sum, against a plain recursion and Pyro's own laws."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks import problems
from benchmarks.problems import NUM_ITEMS, SUBSET_SIZE
from benchmarks.timing import Contest, Step
from constrained_core.walk.diagnostics import Diagnostics
from pyro_constrained import ConstrainedBernoulli, ConstrainedPoisson, FiberSampler
from rivals import recursions_torch
from rivals.relaxations_torch import gumbel_top_k

__all__ = ["contests", "cost_step", "fiber_runs"]

Normaliser = Callable[[Tensor], Tensor]
Draw = Callable[[Tensor], Tensor]


def _leaf(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32).requires_grad_()


def _subset(logits: Tensor) -> ConstrainedBernoulli:
    ones = torch.ones(NUM_ITEMS)
    return ConstrainedBernoulli(logits=logits, A=ones, k=SUBSET_SIZE)


def _normaliser(logits: Tensor) -> Tensor:
    return _subset(logits).constraint_log_prob()


def _draw(logits: Tensor) -> Tensor:
    return _subset(logits).sample()


def _recursion(logits: Tensor) -> Tensor:
    return recursions_torch.log_normaliser(logits, SUBSET_SIZE)


def _row_by_row(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A loop over the batch."""
    return lambda logits: torch.stack([function(row) for row in logits])


def _value_step(normaliser: Normaliser) -> Step:
    logits = _leaf(problems.subset_logits()).detach()
    return lambda: normaliser(logits)


def _gradient_step(normaliser: Normaliser) -> Step:
    """The value and its gradient: the marginals, up to those of the base law."""
    logits = _leaf(problems.subset_logits())
    return lambda: torch.autograd.grad(normaliser(logits).sum(), logits)


def _pair(make: Callable[..., Step], ours: Callable, rival: Callable) -> tuple[Step, Step]:
    return make(ours), make(rival)


def _poisson(n: int, total: int) -> tuple[Step, Step]:
    """Draw, score, gradient of the rates, given their sum."""
    rate, ones = _leaf(problems.rates(n)), torch.ones(n)

    def step(law: Callable[[], dist.TorchDistribution]) -> Callable[[], None]:
        def run() -> None:
            conditional = law()
            log_prob = conditional.log_prob(conditional.sample())
            torch.autograd.grad(log_prob, rate)

        return run

    ours = step(lambda: ConstrainedPoisson(rate, ones, total))
    return ours, step(lambda: dist.Multinomial(total, rate))


def cost_step(weights: np.ndarray, k: int) -> Step:
    """Normaliser and gradient of a batch of 8 under one row of weights."""
    logits, A = torch.zeros(8, len(weights)).requires_grad_(), torch.as_tensor(weights)

    def step() -> object:
        law = ConstrainedBernoulli(logits=logits, A=A, k=k)
        return torch.autograd.grad(law.constraint_log_prob().sum(), logits)

    return step


def contests() -> Iterator[Contest]:
    """All lines of the table."""
    size = f"n = {NUM_ITEMS}, k = {SUBSET_SIZE}"
    plain, loop, law = "log-space recursion", "a loop over the batch", "exactly k, "
    recursive_draw = partial(recursions_torch.draw, k=SUBSET_SIZE)
    lines = [
        ("log normaliser", plain, _value_step, _normaliser, _recursion),
        ("gradient", plain, _gradient_step, _normaliser, _recursion),
        ("draw", plain, _value_step, _draw, recursive_draw),
        ("draw", "Gumbel top-k", _value_step, _draw, partial(gumbel_top_k, k=SUBSET_SIZE)),
        ("gradient", loop, _gradient_step, _normaliser, _row_by_row(_normaliser)),
        ("draw", loop, _value_step, _draw, _row_by_row(_draw)),
    ]
    for what, rival, make, ours, theirs in lines:
        pair = partial(_pair, make, ours, theirs)
        yield Contest(law + what, size, rival, pair, limit_ms=30.0)
    for n, total in problems.POISSON_SIZES:
        make = partial(_poisson, n, total)
        yield Contest("Poisson", f"n = {n}, sum = {total}", "Multinomial", make, 1.3)


def fiber_runs(
    rate: np.ndarray, A: np.ndarray, k: np.ndarray, num_draws: int, num_chains: int
) -> tuple[Step, Callable[[], Diagnostics]]:
    """Chains on the fiber of Poisson variables, and what is to be thought of the last of them."""
    sampler = FiberSampler(dist.Poisson(torch.as_tensor(rate)).to_event(1), A, k)
    return partial(sampler.run, num_draws, num_chains), sampler.diagnostics
