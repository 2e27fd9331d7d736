"""NUTS on a constrained latent: the posterior, and the prior where there are no data."""

import numpy as np
import numpyro
import pytest

from numpyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal, GroupSum
from tests import oracles
from tests.on_numpyro.models import (
    CORRELATED,
    array,
    assert_moments,
    assert_no_divergence,
    assert_obeys,
    run_nuts,
)


def assert_posterior(chain, error: float) -> None:
    assert_no_divergence(chain)
    draws = np.asarray(chain.get_samples()["x"])
    assert_obeys(CORRELATED.prior, draws)
    posterior = CORRELATED.posterior
    assert_moments(draws, oracles.mean(posterior), oracles.covariance(posterior), error)


def test_posterior():
    """800 draws that are nearly independent: an error of 0.04 standard deviations."""
    assert_posterior(run_nuts(CORRELATED.model, draws=800), error=0.15)


@pytest.mark.slow
def test_posterior_long():
    assert_posterior(run_nuts(CORRELATED.model, draws=20_000), error=0.04)


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


def assert_prior(law, draws: int, error: float) -> None:
    chain = run_nuts(lambda: numpyro.sample("x", law()), draws)
    assert_no_divergence(chain)
    found = chain.get_samples()["x"]
    assert law().support(found).all()
    mean, covariance = np.asarray(law().mean), np.asarray(law().covariance)
    assert_moments(np.asarray(found), mean, covariance, error)


each_law = pytest.mark.parametrize("law", [group_law, student_law])


@each_law
def test_without_data_the_draws_are_those_of_the_prior(law):
    assert_prior(law, draws=1000, error=0.2)


@pytest.mark.slow
@each_law
def test_without_data_the_draws_are_those_of_the_prior_long(law):
    assert_prior(law, draws=20_000, error=0.06)


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
    means, posterior = draws.mean(1), CORRELATED.posterior
    unit = oracles.stddev(posterior)
    np.testing.assert_allclose((means - oracles.mean(posterior)) / unit, 0.0, atol=0.5)
