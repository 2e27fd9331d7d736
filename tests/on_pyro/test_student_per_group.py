"""A Student-t law for each group where users put it: latent, with a learned scale, compiled."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal

from pyro_constrained import ConstrainedMultivariateStudentT, GroupSum
from tests.chance import assert_likely
from tests.on_pyro.models import fit, run_nuts, tensor
from tests.student_groups import FIELD

GROUPS = GroupSum(FIELD.index, 2)
LOC, SCALE, K, DATA = map(tensor, (FIELD.loc, FIELD.scale, FIELD.k, FIELD.data))
DF, ZERO = tensor(FIELD.df), tensor(0.0)


def law_of(u: torch.Tensor) -> ConstrainedMultivariateStudentT:
    scale = u[..., None].exp() * SCALE
    return ConstrainedMultivariateStudentT(DF, LOC, A=GROUPS, k=K, scale=scale, per_group=True)


def model():
    u = pyro.sample("u", dist.Normal(ZERO, 1.0))
    x = pyro.sample("x", law_of(u))
    pyro.sample("y", dist.Normal(x, FIELD.noise).to_event(1), obs=DATA)


def assert_nuts_finds_the_posterior(draws: int) -> None:
    found = run_nuts(model, draws, warmup=150).get_samples()
    assert_likely(FIELD.p_values(found["u"].numpy(), found["x"].numpy()))


def test_nuts_finds_the_posterior():
    assert_nuts_finds_the_posterior(150)


@pytest.mark.slow
def test_nuts_finds_the_posterior_long():
    assert_nuts_finds_the_posterior(5000)


def test_guide_comes_near_the_evidence():
    """The best normal guide of a skew posterior is some tenths of a nat below it."""
    guide = AutoMultivariateNormal(model)
    fit(model, guide, steps=500, jit=True)
    with torch.no_grad():
        bound = -Trace_ELBO(num_particles=2000, vectorize_particles=True).loss(model, guide)
    assert FIELD.log_evidence - 0.5 < bound < FIELD.log_evidence + 0.05


@pytest.mark.parametrize("make", [
    lambda f, u: torch.jit.trace(f, (u,), check_trace=False),
    lambda f, u: torch.compile(f, fullgraph=True, backend="eager"),
    lambda f, u: torch.func.vmap(f),
], ids=["trace", "compile", "vmap"])  # fmt: skip
def test_compiled_and_mapped(make):
    x = law_of(tensor(0.0)).sample((3,))

    def score(u):
        return law_of(u).log_prob(x[:, None]).sum(0) if u.ndim else law_of(u).log_prob(x).sum()

    at, other = tensor([0.1, -0.4]), tensor([0.3, 0.8])
    found = make(score, at)(other)
    torch.testing.assert_close(found, torch.stack([score(u) for u in other]))


def test_forward_and_backward_derivatives_agree():
    x = law_of(tensor(0.0)).sample((3,))

    def score(u):
        return law_of(u).log_prob(x).sum()

    u = tensor(0.2)
    forward, backward = torch.func.jacfwd(score)(u), torch.func.grad(score)(u)
    torch.testing.assert_close(forward, backward)
    step = tensor(1e-5)
    torch.testing.assert_close(
        backward, (score(u + step) - score(u - step)) / (2 * step), rtol=1e-7, atol=1e-7
    )


def test_large_groups_are_sums(rng):
    """Long vectors are summed in another way."""
    index = rng.integers(0, 40, 20_001)
    groups, x = GroupSum(index, 40), rng.normal(size=20_001)
    k = np.bincount(index, x, minlength=40)
    law = ConstrainedMultivariateStudentT(
        DF, tensor(0.0), A=groups, k=tensor(k), scale=tensor(1.0), per_group=True
    )
    parts = [
        ConstrainedMultivariateStudentT(
            DF, tensor(0.0), A=np.ones((index == g).sum()), k=tensor(k[g]), scale=tensor(1.0)
        ).log_prob(tensor(x[index == g]))
        for g in range(40)
    ]
    torch.testing.assert_close(law.log_prob(tensor(x)), torch.stack(parts).sum())
