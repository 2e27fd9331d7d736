"""A law is where its parameters are, whatever the default device is: here one that holds nothing,
so that a tensor that strays there cannot be used."""

import numpy as np
import pytest
import torch
from pyro.distributions import Poisson
from scipy import sparse
from torch.distributions import biject_to, kl_divergence

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    FiberSampler,
    GroupSum,
    LinearEqualityTransform,
)

N = 6
ROWS = np.array([[1.0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
REDUNDANT = np.concatenate([ROWS, ROWS.sum(0, keepdims=True)])
K = torch.tensor([3.0, 2.0])
GROUPS = GroupSum(np.repeat([0, 1, 2], 2), 3)
MATRICES = {
    "one row": lambda: (np.ones(N), torch.tensor(3.0)),
    "dense": lambda: (ROWS, K),
    "redundant": lambda: (REDUNDANT, torch.tensor([3.0, 2.0, 5.0])),
    "groups": lambda: (GROUPS, torch.tensor([1.0, 2.0, 3.0])),
    "learned": lambda: (torch.tensor(ROWS, requires_grad=True), K),
    "batch": lambda: (torch.tensor(np.stack([ROWS, 2 * ROWS])), K),
    "sparse": lambda: (sparse.csr_array(ROWS), K),
    "sparse, redundant": lambda: (sparse.csr_array(REDUNDANT), torch.tensor([3.0, 2.0, 5.0])),
    "sparse, learned": lambda: (torch.tensor(ROWS).to_sparse().requires_grad_(), K),
}
CONTINUOUS = {
    "normal": lambda p, A, k: ConstrainedNormal(p["loc"], p["scale"], A, k),
    "covariance": lambda p, A, k: ConstrainedMultivariateNormal(p["loc"], p["matrix"], A=A, k=k),
    "precision": lambda p, A, k: ConstrainedMultivariateNormal(
        p["loc"], precision_matrix=p["matrix"], A=A, k=k
    ),
    "low rank": lambda p, A, k: ConstrainedLowRankMultivariateNormal(
        p["loc"], p["factor"], p["scale"], A, k
    ),
    "student": lambda p, A, k: ConstrainedMultivariateStudentT(
        p["df"], p["loc"], A=A, k=k, scale=p["scale"]
    ),
    "field": lambda p, A, k: ConstrainedGMRF(p["loc"], sparse.eye_array(N).tocsr(), A, k),
}
QUESTIONS = {
    "draw": lambda law: law.rsample((3,)),
    "score": lambda law: law.log_prob(law.sample((2,))),
    "mean": lambda law: law.mean,
    "variance": lambda law: law.variance,
    "evidence": lambda law: law.constraint_log_prob(),
    "projection": lambda law: law.project(torch.ones_like(law.loc)),
    "divergence": lambda law: kl_divergence(law, law),
    "isometry": lambda law: biject_to(law.support).inv(law.sample()),
    "elimination": lambda law: LinearEqualityTransform(law.A, law.k, basis="elimination").inv(
        law.sample()
    ),
}
DISCRETE = {
    "poisson": lambda p, A, k: ConstrainedPoisson(p["scale"], A, k),
    "bernoulli": lambda p, A, k: ConstrainedBernoulli(logits=p["loc"], A=A, k=k),
    "categorical": lambda p, A, k: ConstrainedCategorical(logits=p["factor"], A=A, k=k),
    "bounded": lambda p, A, k: ConstrainedPoisson(p["scale"], A, k, k_max=4),
}
DISCRETE_QUESTIONS = {
    "draw": lambda law: law.sample((3,)),
    "score": lambda law: law.log_prob(law.sample((2,))),
    "mean": lambda law: law.mean,
    "covariance": lambda law: law.covariance,
    "entropy": lambda law: law.entropy(),
    "evidence": lambda law: law.constraint_log_prob(),
    "points": lambda law: law.enumerate_support(),
}


def parameters():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(N, N, generator=generator)
    return {
        "loc": torch.randn(N, generator=generator).requires_grad_(),
        "scale": (torch.rand(N, generator=generator) + 0.5).requires_grad_(),
        "matrix": (root @ root.T + torch.eye(N)).requires_grad_(),
        "factor": torch.randn(N, 2, generator=generator).requires_grad_(),
        "df": torch.tensor(4.0),
    }


def answers(make, matrix, question, default):
    """What a law of new parameters says, and the gradient of it."""
    torch.manual_seed(0)
    given, (A, k) = parameters(), matrix()
    with torch.device(default):
        answer = question(make(given, A, k))
    if answer.requires_grad:
        answer.sum().backward()
    return [answer, *(one.grad for one in given.values() if one.grad is not None)]


def compare(make, matrices, questions):
    """Every answer that there is; how many there were."""
    found = 0
    for matrix in matrices:
        for question in questions.values():
            try:
                expected = answers(make, matrix, question, "cpu")
            except (ValueError, NotImplementedError):  # refused everywhere
                continue
            got = answers(make, matrix, question, "meta")
            assert len(got) == len(expected)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one, other)
            found += 1
    return found


@pytest.mark.parametrize("law", CONTINUOUS)
def test_continuous_laws(law):
    assert compare(CONTINUOUS[law], MATRICES.values(), QUESTIONS) >= 55


def test_walks():
    """Its draws are where the parameters of the base law are."""
    rate = torch.ones(N)
    with torch.device("meta"):
        sampler = FiberSampler(Poisson(rate).to_event(1), ROWS.astype(int), K)
        draws = sampler.run(num_chains=2, num_draws=5, warmup=1, thinning=1)
        moved = sampler.move(draws[0, 0])
    assert (draws @ torch.tensor(ROWS).mT.to(draws) == K).all()
    assert (torch.tensor(ROWS).to(moved) @ moved == K).all()


@pytest.mark.parametrize("law", DISCRETE)
def test_discrete_laws(law):
    whole = [MATRICES[name] for name in ("one row", "dense", "redundant", "groups")]
    assert compare(DISCRETE[law], whole, DISCRETE_QUESTIONS) >= 8
