"""Variational inference on a constrained latent, against the closed-form posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from numpyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import (
    AutoDAIS,
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from numpyro_constrained import ConstrainedMultivariateNormal, ConstrainedNormal, GroupSum
from tests import oracles
from tests.chance import assert_likely, of_means, of_moments
from tests.on_numpyro.models import (
    CORRELATED,
    ISOTROPIC,
    KEY,
    Regression,
    array,
    assert_moments,
    assert_obeys,
    draws_of,
    fit,
)

# Flows, quantiles and batches of draws of some guides.
numpyro_promotes = pytest.mark.rank_promotion("allow")


def assert_posterior(problem: Regression, draws: np.ndarray, error: float = 0.06) -> None:
    assert_obeys(problem.prior, draws)
    posterior = problem.posterior
    assert_moments(draws, oracles.mean(posterior), oracles.covariance(posterior), error)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDiagonalNormal])
def test_diagonal_guide_finds_an_isotropic_posterior(autoguide):
    guide = autoguide(ISOTROPIC.model)
    params = fit(ISOTROPIC.model, guide)
    assert_posterior(ISOTROPIC, *draws_of(guide, params, "x"))


@pytest.mark.parametrize("autoguide", [AutoMultivariateNormal, AutoLowRankMultivariateNormal])
def test_full_guide_finds_the_posterior(autoguide):
    guide = autoguide(CORRELATED.model)
    params = fit(CORRELATED.model, guide, steps=700)
    assert_posterior(CORRELATED, *draws_of(guide, params, "x"))


@pytest.mark.slow
@numpyro_promotes
def test_iaf_guide_comes_near_the_posterior():
    """Its family holds it only in the limit of infinite weights."""
    guide = AutoIAFNormal(CORRELATED.model, hidden_dims=[8], num_flows=1)
    params = fit(CORRELATED.model, guide, learning_rate=0.03, steps=700)
    assert_posterior(CORRELATED, *draws_of(guide, params, "x"), error=0.25)


def test_delta_guide_finds_the_mode():
    guide = AutoDelta(CORRELATED.model)
    params = fit(CORRELATED.model, guide, elbo=Trace_ELBO(), decay=1e-3)
    found = guide.median(params)["x"]
    np.testing.assert_allclose(found, oracles.mean(CORRELATED.posterior), atol=1e-3)
    assert_obeys(CORRELATED.prior, found)


@numpyro_promotes
def test_laplace_approximation_is_exact():
    """The mode is found without noise; what is left is that of the draws."""
    guide = AutoLaplaceApproximation(CORRELATED.model)
    params = fit(CORRELATED.model, guide, elbo=Trace_ELBO(), decay=1e-3)
    draws = guide.sample_posterior(KEY, params, sample_shape=(20_000,))["x"]
    posterior = CORRELATED.posterior
    moments = oracles.mean(posterior), oracles.covariance(posterior)
    assert_likely(of_moments(np.asarray(draws), *moments))


@numpyro_promotes
def test_annealed_guide_obeys_the_law():
    guide = AutoDAIS(CORRELATED.model, K=2)
    params = fit(CORRELATED.model, guide, steps=5, particles=2)
    draws = guide.sample_posterior(KEY, params, sample_shape=(5,))["x"]
    assert_obeys(CORRELATED.prior, draws)


@numpyro_promotes
@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
def test_median_and_quantiles_of_a_guide_obey_the_law(autoguide):
    guide = autoguide(CORRELATED.model)
    params = fit(CORRELATED.model, guide, steps=5)
    assert_obeys(CORRELATED.prior, guide.median(params)["x"])
    assert_obeys(CORRELATED.prior, guide.quantiles(params, [0.1, 0.9])["x"])


def constrained_guide(**options):
    """The constrained law as the variational family; it contains the posterior."""
    loc = numpyro.param("loc", jnp.zeros(4))
    scale_tril = numpyro.param("scale_tril", jnp.eye(4), constraint=constraints.lower_cholesky)
    A, k = array(CORRELATED.prior.A), array(CORRELATED.prior.k)
    law = ConstrainedMultivariateNormal(loc, A=A, k=k, scale_tril=scale_tril, **options)
    numpyro.sample("x", law)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_constrained_guide_finds_the_posterior(elbo):
    params = fit(CORRELATED.model, constrained_guide, elbo=elbo(num_particles=256))
    assert_posterior(CORRELATED, *draws_of(constrained_guide, params, "x"), error=0.1)


def test_loss_of_the_exact_posterior_is_the_evidence():
    """log p(x, y) - log q(x) is the evidence whatever x, if q is the posterior."""
    prior, posterior = CORRELATED.prior, CORRELATED.posterior

    def exact_guide():
        moments = array(posterior.loc), array(posterior.cov)
        law = ConstrainedMultivariateNormal(*moments, array(prior.A), array(prior.k))
        numpyro.sample("x", law)

    loss = Trace_ELBO().loss(KEY, {}, CORRELATED.model, exact_guide)
    np.testing.assert_allclose(-loss, CORRELATED.log_evidence, rtol=1e-10)


def gradients(guide, elbo, repeats: int) -> np.ndarray:
    """Estimates ``(repeats, 4)`` of the gradient of the loss in ``loc``."""

    @jax.jit
    def once(key):
        def loss(loc):
            params = {"loc": loc, "scale_tril": jnp.eye(4)}
            return elbo.loss(key, params, CORRELATED.model, guide)

        return jax.grad(loss)(jnp.zeros(4))

    return np.array([once(key) for key in jax.random.split(KEY, repeats)])


def exact_gradient() -> np.ndarray:
    """Of KL(q | posterior) in the loc of q, at loc = 0 and Sigma = I."""
    basis, posterior = CORRELATED.prior.null_space, CORRELATED.posterior
    gap = posterior.origin - oracles.mean(posterior)
    return basis @ np.linalg.solve(posterior.shape, basis.T @ gap)


@pytest.mark.parametrize(
    "estimator, elbo",
    [
        ("pathwise", Trace_ELBO),
        ("score_function", TraceGraph_ELBO),  # Trace_ELBO knows only reparametrised draws
        ("marginal_expectation", Trace_ELBO),
    ],
)
def test_gradient_is_right_in_expectation(estimator, elbo):
    """All three are unbiased for loc, as the log density is quadratic."""

    def guide():
        constrained_guide(gradient_estimator=estimator)

    found, exact = gradients(guide, elbo(num_particles=1000), repeats=30), exact_gradient()
    assert_likely(of_means(found, exact))
    scatter = found.std(0, ddof=1) / np.sqrt(len(found))
    assert scatter.max() < 0.15 * np.abs(exact).max(), "too much noise to tell"


def test_score_function_learns_without_a_pathwise_gradient():
    def guide():
        constrained_guide(gradient_estimator="score_function")

    params = fit(CORRELATED.model, guide, elbo=TraceGraph_ELBO(num_particles=256))
    assert_posterior(CORRELATED, *draws_of(guide, params, "x"), error=0.15)


def test_marginal_expectation_learns_the_mean():
    """Its gradient sees the mean only; the divergence is exact."""
    A, k = array(CORRELATED.prior.A), array(CORRELATED.prior.k)

    def law(loc):
        estimator = {"gradient_estimator": "marginal_expectation"}
        return ConstrainedMultivariateNormal(loc, jnp.eye(4), A, k, **estimator)

    def guide():
        numpyro.sample("x", law(numpyro.param("loc", jnp.zeros(4))))

    params = fit(CORRELATED.model, guide, elbo=TraceMeanField_ELBO(num_particles=256))
    expected = oracles.mean(CORRELATED.posterior)
    np.testing.assert_allclose(law(params["loc"]).mean, expected, atol=0.03)


GROUPS = GroupSum([0, 0, 1, 1, 1, 2], num_groups=3)
GROUP_REGRESSION = Regression(
    prior=oracles.Problem(np.zeros(6), np.eye(6), GROUPS.to_dense(), np.array([1.0, -1.0, 0.5])),
    data=np.array([0.4, 0.1, 0.0, -0.9, 0.2, 0.1]),
    noise=0.7,
)


def group_model():
    """Three ragged groups, one of a single variable."""
    x = numpyro.sample("x", ConstrainedNormal(0.0, 1.0, GROUPS, array([1.0, -1.0, 0.5])))
    numpyro.sample("y", dist.Normal(x, 0.7).to_event(1), obs=array(GROUP_REGRESSION.data))


def test_guide_on_group_sums():
    guide = AutoNormal(group_model)
    params = fit(group_model, guide, steps=300)
    (draws,) = draws_of(guide, params, "x")
    assert_obeys(GROUP_REGRESSION.prior, draws)
    free, posterior = slice(0, 5), GROUP_REGRESSION.posterior  # the last variable is determined
    np.testing.assert_allclose(draws[:, 5], 0.5, atol=1e-15)
    mean, cov = oracles.mean(posterior)[free], oracles.covariance(posterior)[free, free]
    assert_moments(draws[:, free], mean, cov, 0.06)
