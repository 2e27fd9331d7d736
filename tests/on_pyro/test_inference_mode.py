"""A law of parameters that is looked at in inference mode, in which nothing is differentiated: it
answers there, and elsewhere as before."""

import pytest
import torch

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedNormal,
    ConstrainedPoisson,
    GroupSum,
)
from tests.on_pyro.concrete import FACTOR, LAWS, LOC, A, K, close

TABLE, COUNTS = torch.tensor([[1.0, 1, 1, 0], [0, 1, 0, 1]]), torch.tensor([2, 1])
GROUPS = GroupSum([0, 0, 1, 1], 2)
MADE = {name: lambda p, make=make: make(LOC * p, p) for name, make in LAWS.items()} | {
    "sparse": lambda p: ConstrainedNormal(LOC * p, p, A.to_sparse(), K),
    "sparse low rank": lambda p: ConstrainedLowRankMultivariateNormal(
        LOC, FACTOR, p, A.to_sparse(), K
    ),
    "field": lambda p: ConstrainedGMRF(
        LOC, torch.eye(4, dtype=p.dtype).to_sparse() * p.sum(), torch.ones(4), 1.0
    ),
    "poisson": lambda p: ConstrainedPoisson(p, torch.ones(4), 3),
    "trellis": lambda p: ConstrainedPoisson(p, TABLE, COUNTS),
    "exactly k": lambda p: ConstrainedBernoulli(p / 3, torch.ones(4), 2),
    "groups of bits": lambda p: ConstrainedBernoulli(p / 3, GROUPS, torch.ones(2)),
    "bits": lambda p: ConstrainedBernoulli(logits=p, A=TABLE, k=COUNTS),
    "categorical": lambda p: ConstrainedCategorical(
        logits=p[:, None] * torch.arange(3.0), A=torch.ones(4), k=3
    ),
}

FIGURES = {
    "log_prob": lambda law, x: law.log_prob(x),
    "mean": lambda law, x: law.mean,
    "variance": lambda law, x: law.variance,
    "entropy": lambda law, x: law.entropy(),
    "constraint_log_prob": lambda law, x: law.constraint_log_prob(),
}


def parameter():
    return torch.tensor([1.0, 0.5, 2.0, 1.5], dtype=torch.float64, requires_grad=True)


def with_gradient(figure, law, x, p):
    value = figure(law, x)
    if not value.requires_grad:
        return value, None
    return value, torch.autograd.grad(value.sum(), p, allow_unused=True)[0]


@pytest.mark.parametrize("first", FIGURES)
@pytest.mark.parametrize("name", MADE)
def test_gradients_are_whole_after_inference_mode(name, first):
    """What was made there had been kept: gradients lacked what goes through it, or raised."""
    p = parameter()
    make, x = MADE[name], MADE[name](p.detach()).sample()
    expected = {other: with_gradient(figure, make(p), x, p) for other, figure in FIGURES.items()}
    for other, figure in FIGURES.items():
        law = make(p)
        with torch.inference_mode():
            close(FIGURES[first](law, x), expected[first][0].detach())
        value, gradient = with_gradient(figure, law, x, p)
        close(value, expected[other][0])
        assert (gradient is None) == (expected[other][1] is None)
        if gradient is not None:
            close(gradient, expected[other][1])


@pytest.mark.parametrize("is_made_inside", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_covariances_in_inference_mode(name, is_made_inside):
    p = parameter()
    covariance = MADE[name](p).covariance
    expected = (covariance() if callable(covariance) else covariance).detach()
    law = None if is_made_inside else MADE[name](p)
    with torch.inference_mode():
        found = (law or MADE[name](p)).covariance
        close(found() if callable(found) else found, expected)
