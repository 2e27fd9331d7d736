"""Variational inference on a constrained latent, against the closed-form posterior."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGaussian,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)

from pyro_constrained import ConstrainedMultivariateNormal, ConstrainedNormal, GroupSum
from tests import oracles
from tests.chance import assert_likely, of_means, of_moments
from tests.on_pyro.models import (
    CORRELATED,
    ISOTROPIC,
    Regression,
    assert_moments,
    assert_obeys,
    draws_of,
    fit,
    tensor,
)


def assert_posterior(problem: Regression, guide, error: float = 0.09) -> None:
    (draws,) = draws_of(guide, "x")
    assert_obeys(problem.prior, draws)
    posterior = problem.posterior
    assert_moments(draws, oracles.mean(posterior), oracles.covariance(posterior), error)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDiagonalNormal])
def test_diagonal_guide_finds_an_isotropic_posterior(autoguide):
    guide = autoguide(ISOTROPIC.model)
    fit(ISOTROPIC.model, guide, jit=autoguide is AutoDiagonalNormal)
    assert_posterior(ISOTROPIC, guide)


@pytest.mark.parametrize(
    "autoguide",
    [
        AutoMultivariateNormal,
        pytest.param(AutoLowRankMultivariateNormal, marks=pytest.mark.slow),
    ],
)
def test_full_guide_finds_the_posterior(autoguide):
    guide = autoguide(CORRELATED.model)
    fit(CORRELATED.model, guide, steps=700, jit=True)
    assert_posterior(CORRELATED, guide)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*_Stream. object attribute:DeprecationWarning")
def test_iaf_guide_comes_near_the_posterior():
    """Its family holds it only in the limit of infinite weights."""
    guide = AutoIAFNormal(CORRELATED.model, hidden_dim=[8])
    fit(CORRELATED.model, guide, learning_rate=0.03, steps=700)
    assert_posterior(CORRELATED, guide, error=0.15)


def test_delta_guide_finds_the_mode():
    guide = AutoDelta(CORRELATED.model)
    fit(CORRELATED.model, guide, elbo=Trace_ELBO(), decay=1e-3)
    found = guide.median()["x"].detach().numpy()
    np.testing.assert_allclose(found, oracles.mean(CORRELATED.posterior), atol=1e-3)
    assert_obeys(CORRELATED.prior, found)


def test_laplace_approximation_is_exact():
    """The mode is found without noise; what is left is that of the draws."""
    guide = AutoLaplaceApproximation(CORRELATED.model)
    fit(CORRELATED.model, guide, elbo=Trace_ELBO(), decay=1e-3)
    (draws,) = draws_of(guide.laplace_approximation(), "x")
    posterior = CORRELATED.posterior
    assert_likely(of_moments(draws, oracles.mean(posterior), oracles.covariance(posterior)))


@pytest.mark.parametrize("autoguide", [AutoGaussian, AutoStructured])
def test_structured_guides_obey_the_law(autoguide):
    guide = autoguide(CORRELATED.model)
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=0)
    fit(CORRELATED.model, guide, steps=20, elbo=elbo)
    for _ in range(5):
        with torch.no_grad():
            assert_obeys(CORRELATED.prior, guide()["x"].numpy())


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
def test_median_and_quantiles_of_a_guide_obey_the_law(autoguide):
    guide = autoguide(CORRELATED.model)
    fit(CORRELATED.model, guide, steps=5)
    points = [guide.median()["x"], *guide.quantiles([0.1, 0.9])["x"]]
    assert_obeys(CORRELATED.prior, torch.stack(points).detach().numpy())


def constrained_guide(**options):
    """The constrained law as the variational family; it contains the posterior."""
    loc = pyro.param("loc", torch.zeros(4))
    scale_tril = pyro.param("scale_tril", torch.eye(4), constraint=dist.constraints.lower_cholesky)
    A, k = tensor(CORRELATED.prior.A), tensor(CORRELATED.prior.k)
    law = ConstrainedMultivariateNormal(loc, A=A, k=k, scale_tril=scale_tril, **options)
    pyro.sample("x", law)
    return law


@pytest.mark.parametrize(
    "elbo", [Trace_ELBO, pytest.param(TraceMeanField_ELBO, marks=pytest.mark.slow)]
)
def test_constrained_guide_finds_the_posterior(elbo):
    particles = elbo(num_particles=256, vectorize_particles=True, max_plate_nesting=0)
    fit(CORRELATED.model, constrained_guide, elbo=particles)
    assert_posterior(CORRELATED, constrained_guide)


def test_evidence_bound_is_tight_at_the_posterior():
    """log p(x, y) - log q(x) is the evidence whatever x, if q is the posterior."""
    prior, posterior = CORRELATED.prior, CORRELATED.posterior

    def exact_guide():
        moments = tensor(posterior.loc), tensor(posterior.cov)
        law = ConstrainedMultivariateNormal(*moments, tensor(prior.A), tensor(prior.k))
        pyro.sample("x", law)

    loss = Trace_ELBO().loss(CORRELATED.model, exact_guide)
    np.testing.assert_allclose(-loss, CORRELATED.log_evidence, rtol=1e-10)


def gradients(guide, particles: int, repeats: int) -> np.ndarray:
    """Estimates ``(repeats, 4)`` of the gradient of the loss in ``loc``."""
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=0)
    found = []
    for _ in range(repeats):
        loc = pyro.param("loc", torch.zeros(4))
        pyro.param("scale_tril", torch.eye(4), constraint=dist.constraints.lower_cholesky)
        loss = elbo.differentiable_loss(CORRELATED.model, guide)
        found.append(torch.autograd.grad(loss, loc)[0].numpy())
    return np.array(found)


def exact_gradient() -> np.ndarray:
    """Of KL(q | posterior) in the loc of q, at loc = 0 and Sigma = I."""
    basis, posterior = CORRELATED.prior.null_space, CORRELATED.posterior
    gap = posterior.origin - oracles.mean(posterior)
    return basis @ np.linalg.solve(posterior.shape, basis.T @ gap)


@pytest.mark.parametrize("estimator", ["pathwise", "score_function", "marginal_expectation"])
def test_gradient_is_right_in_expectation(estimator):
    """All three are unbiased for loc, as the log density is quadratic."""

    def guide():
        constrained_guide(gradient_estimator=estimator)

    found, exact = gradients(guide, particles=1000, repeats=30), exact_gradient()
    assert_likely(of_means(found, exact))
    scatter = found.std(0, ddof=1) / np.sqrt(len(found))
    assert scatter.max() < 0.15 * np.abs(exact).max(), "too much noise to tell"


def test_score_function_learns_without_a_pathwise_gradient():
    def guide():
        return constrained_guide(gradient_estimator="score_function")

    assert not guide().has_rsample
    fit(CORRELATED.model, guide, particles=256)
    assert_posterior(CORRELATED, guide, error=0.15)


def test_marginal_expectation_learns_the_mean():
    """Its gradient sees the mean only; the divergence is exact."""

    def guide():
        loc = pyro.param("loc", torch.zeros(4))
        A, k = tensor(CORRELATED.prior.A), tensor(CORRELATED.prior.k)
        estimator = {"gradient_estimator": "marginal_expectation"}
        law = ConstrainedMultivariateNormal(loc, torch.eye(4), A, k, **estimator)
        return pyro.sample("x", law), law

    elbo = TraceMeanField_ELBO(num_particles=256, vectorize_particles=True, max_plate_nesting=0)
    fit(CORRELATED.model, guide, elbo=elbo)
    found = guide()[1].mean.detach().numpy()
    np.testing.assert_allclose(found, oracles.mean(CORRELATED.posterior), atol=0.03)


def group_model():
    """Three ragged groups; the data sees the first variable of each pair."""
    groups = GroupSum([0, 0, 1, 1, 1, 2], num_groups=3)
    x = pyro.sample("x", ConstrainedNormal(0.0, 1.0, groups, tensor([1.0, -1.0, 0.5])))
    pyro.sample("y", dist.Normal(x, 0.7).to_event(1), obs=tensor([0.4, 0.1, 0.0, -0.9, 0.2, 0.1]))


def test_guide_on_group_sums():
    groups = GroupSum([0, 0, 1, 1, 1, 2], num_groups=3)
    problem = Regression(
        prior=oracles.Problem(
            np.zeros(6), np.eye(6), groups.to_dense(), np.array([1.0, -1.0, 0.5])
        ),
        data=np.array([0.4, 0.1, 0.0, -0.9, 0.2, 0.1]),
        noise=0.7,
    )
    guide = AutoNormal(group_model)
    fit(group_model, guide, jit=True)
    (draws,) = draws_of(guide, "x")
    assert_obeys(problem.prior, draws)
    free, posterior = slice(0, 5), problem.posterior  # the last variable is determined
    np.testing.assert_allclose(draws[:, 5], 0.5, atol=1e-15)
    mean, cov = oracles.mean(posterior)[free], oracles.covariance(posterior)[free, free]
    assert_moments(draws[:, free], mean, cov, 0.09)
