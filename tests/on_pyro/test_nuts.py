"""NUTS on a constrained latent: the posterior, and the prior where there are no data."""

import numpy as np
import pyro
import pytest

from pyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal, GroupSum
from tests import oracles
from tests.chance import assert_likely, of_moments
from tests.on_pyro.models import (
    CORRELATED,
    assert_no_divergence,
    assert_obeys,
    run_nuts,
    tensor,
)


def assert_posterior(chain) -> None:
    assert_no_divergence(chain)
    draws = chain.get_samples()["x"].numpy()
    assert_obeys(CORRELATED.prior, draws)
    posterior = CORRELATED.posterior
    moments = oracles.mean(posterior), oracles.covariance(posterior)
    assert_likely(of_moments(draws, *moments, is_chain=True))


def test_posterior():
    assert_posterior(run_nuts(CORRELATED.model, draws=200, jit=False))


@pytest.mark.slow
def test_posterior_long():
    assert_posterior(run_nuts(CORRELATED.model, draws=10_000))


WEIGHTED_GROUPS = GroupSum([0, 0, 1, 1, 1], num_groups=2, weights=[1.0, 1.0, 1.0, 2.0, -1.0])
GROUP_PARAMETERS = (
    tensor([0.0, 1.0, 0.0, -1.0, 0.5]),
    tensor([1.0, 2.0, 0.5, 1.0, 1.5]),
    WEIGHTED_GROUPS,
    tensor([1.0, -1.0]),
)
STUDENT_PARAMETERS = {
    "df": tensor(8.0),
    "loc": tensor([0.0, 1.0, 0.5]),
    "scale": tensor([1.0, 0.7, 1.2]),
    "A": tensor([1.0, 2.0, 1.0]),
    "k": tensor(1.0),
}


def group_model():
    """Two ragged groups, one of them weighted."""
    law = ConstrainedNormal(*GROUP_PARAMETERS)
    pyro.sample("x", law)
    return law


def student_model():
    law = ConstrainedMultivariateStudentT(**STUDENT_PARAMETERS)
    pyro.sample("x", law)
    return law


def assert_prior(model, draws: int) -> None:
    law, chain = model(), run_nuts(model, draws)
    assert_no_divergence(chain)
    found = chain.get_samples()["x"]
    assert law.support.check(found).all()
    df = float(law.df) + law.rank if model is student_model else np.inf
    moments = law.mean.numpy(), law.covariance.numpy()
    assert_likely(of_moments(found.numpy(), *moments, df=df, is_chain=True))


def test_without_data_the_draws_are_those_of_the_prior():
    assert_prior(group_model, draws=300)


@pytest.mark.slow
@pytest.mark.parametrize("model", [group_model, student_model])
def test_without_data_the_draws_are_those_of_the_prior_long(model):
    assert_prior(model, draws=10_000)


def test_same_seed_same_chain():
    """As a compiled potential, so that the compiled one is also compared with the other."""
    chains = []
    for jit in (False, True):
        pyro.set_rng_seed(3)
        chain = run_nuts(CORRELATED.model, draws=4, warmup=4, jit=jit)
        chains.append(chain.get_samples()["x"].numpy())
    np.testing.assert_allclose(chains[0], chains[1], rtol=1e-8)
