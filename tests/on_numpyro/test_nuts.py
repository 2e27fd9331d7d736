"""NUTS on a constrained latent: the posterior, and the prior where there are no data."""

import numpy as np
import numpyro
import pytest

from numpyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal, GroupSum
from tests import oracles
from tests.chance import assert_likely, of_moments
from tests.on_numpyro.models import (
    CORRELATED,
    array,
    assert_no_divergence,
    assert_obeys,
    run_nuts,
)

POSTERIOR = oracles.mean(CORRELATED.posterior), oracles.covariance(CORRELATED.posterior)


def assert_posterior(chain) -> None:
    assert_no_divergence(chain)
    draws = np.asarray(chain.get_samples()["x"])
    assert_obeys(CORRELATED.prior, draws)
    assert_likely(of_moments(draws, *POSTERIOR, is_chain=True))


def test_posterior():
    assert_posterior(run_nuts(CORRELATED.model, draws=800))


@pytest.mark.slow
def test_posterior_long():
    assert_posterior(run_nuts(CORRELATED.model, draws=20_000))


def group_law():
    """Two ragged groups, one of them weighted."""
    weights = np.array([1.0, 1.0, 1.0, 2.0, -1.0])
    groups = GroupSum([0, 0, 1, 1, 1], num_groups=2, weights=weights)
    loc, scale = array([0.0, 1.0, 0.0, -1.0, 0.5]), array([1.0, 2.0, 0.5, 1.0, 1.5])
    return ConstrainedNormal(loc, scale, groups, array([1.0, -1.0]))


def student_law():
    loc, scale = array([0.0, 1.0, 0.5]), array([1.0, 0.7, 1.2])
    A, k = array([1.0, 2.0, 1.0]), array(1.0)
    return ConstrainedMultivariateStudentT(array(8.0), loc, A=A, k=k, scale=scale)


def assert_prior(law, draws: int) -> None:
    chain = run_nuts(lambda: numpyro.sample("x", law()), draws)
    assert_no_divergence(chain)
    found = chain.get_samples()["x"]
    assert law().support(found).all()
    df = float(law().df) + law().rank if law is student_law else np.inf
    moments = np.asarray(law().mean), np.asarray(law().covariance)
    assert_likely(of_moments(np.asarray(found), *moments, df=df, is_chain=True))


each_law = pytest.mark.parametrize("law", [group_law, student_law])


@each_law
def test_without_data_the_draws_are_those_of_the_prior(law):
    assert_prior(law, draws=1000)


@pytest.mark.slow
@each_law
def test_without_data_the_draws_are_those_of_the_prior_long(law):
    assert_prior(law, draws=20_000)


def test_chains_side_by_side():
    """Vectorized chains are the chains of ``vmap``."""
    kernel = numpyro.infer.NUTS(CORRELATED.model)
    options = {"num_warmup": 100, "num_samples": 100, "progress_bar": False}
    chains = numpyro.infer.MCMC(kernel, num_chains=3, chain_method="vectorized", **options)
    chains.run(np.asarray([0, 7], np.uint32))
    assert_no_divergence(chains)
    draws = np.asarray(chains.get_samples(group_by_chain=True)["x"])
    assert draws.shape == (3, 100, 4)
    assert_obeys(CORRELATED.prior, draws)
    assert_likely(*(of_moments(chain, *POSTERIOR, is_chain=True) for chain in draws))
