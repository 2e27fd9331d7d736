"""Supports that move: k, loc, covariance or A sampled, learned, or changing with the minibatch.

One scalar ``shift`` ~ N(0, 1) moves one of them. Given it everything is Gaussian, so that the
posterior of (shift, x) is a one-dimensional quadrature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array
from numpy.polynomial.hermite_e import hermegauss
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.util import log_density
from scipy.optimize import minimize_scalar

from numpyro_constrained import (
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedNormalReparam,
    ConstraintError,
    GroupSum,
    auto_reparam,
)
from tests import oracles
from tests.chance import assert_likely, of_moments
from tests.on_numpyro.models import (
    KEY,
    Regression,
    array,
    assert_close,
    assert_moments,
    assert_no_divergence,
    fit,
    run_nuts,
)

LOC, DIRECTION = np.array([0.2, -0.1, 0.4]), np.array([1.0, -1.0, 0.5])
COV = np.array([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 1.2]])
TRIL = np.linalg.cholesky(COV)
ROW, TOTAL = np.array([[1.0, 1.0, 1.0]]), np.array([1.0])
DATA, NOISE = np.array([0.9, -0.3, 1.4]), 0.5


@dataclass(frozen=True)
class Moving:
    """What ``shift`` moves, by how much; each as a number times ``shift`` or its exponential."""

    name: str
    k: float = 0.0
    loc: float = 0.0
    scale: float = 0.0
    A: float = 0.0
    excess: float = 0.0
    """Kurtosis of the posterior less that of a normal law, at most, by quadrature."""

    def __repr__(self) -> str:
        return self.name

    def parameters(self, shift):
        """loc, scale_tril, A, k for a scalar ``shift``; what does not move is concrete."""
        loc = LOC + self.loc * shift * DIRECTION if self.loc else LOC
        scale_tril = TRIL * jnp.exp(self.scale * shift) if self.scale else TRIL
        A = ROW + self.A * shift * DIRECTION[None] if self.A else ROW
        return loc, scale_tril, A, TOTAL + self.k * shift if self.k else TOTAL

    def given(self, shift: float) -> Regression:
        loc, scale_tril, A, k = map(np.asarray, self.parameters(shift))
        prior = oracles.Problem(loc, scale_tril @ scale_tril.T, A, k)
        return Regression(prior=prior, data=DATA, noise=NOISE)

    def law(self, shift: Array) -> ConstrainedMultivariateNormal:
        loc, scale_tril, A, k = self.parameters(shift)
        return ConstrainedMultivariateNormal(loc, A=A, k=k, scale_tril=scale_tril)

    def program(self, shift: Array) -> Array:
        x = numpyro.sample("x", self.law(shift))
        numpyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=array(DATA))
        return x

    def sampled(self) -> Array:
        return self.program(numpyro.sample("shift", dist.Normal(0.0, 1.0)))

    def learned(self) -> Array:
        return self.program(numpyro.param("shift", array(0.1)))

    @cached_property
    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of (shift, x) given the data."""
        nodes, weights = hermegauss(60)
        given = [self.given(node) for node in nodes]
        log_weight = np.log(weights) + np.array([g.log_evidence for g in given])
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        points = [
            np.append(n, oracles.mean(g.posterior)) for n, g in zip(nodes, given, strict=True)
        ]
        within = np.zeros((4, 4))
        within[1:, 1:] = sum(
            w * oracles.covariance(g.posterior) for w, g in zip(weight, given, strict=True)
        )
        mean = weight @ np.array(points)
        return mean, within + np.cov(np.array(points).T, aweights=weight, ddof=0)

    @cached_property
    def most_likely(self) -> float:
        found = minimize_scalar(lambda s: -self.given(s).log_evidence, bounds=(-6, 6))
        return float(found.x)

    def roundings(self, shift: Array, x: Array) -> np.ndarray:
        """Of many draws of both, how far x is off the subspace."""
        _, _, A, k = jax.vmap(lambda one: jax.tree.map(jnp.asarray, self.parameters(one)))(shift)
        return oracles.roundings(np.asarray(A), np.asarray(x), np.asarray(k))


MOVING_K = Moving("k", k=1.5)
MOVING_LOC = Moving("loc", loc=1.0)
MOVING_SCALE = Moving("scale", scale=0.7, excess=0.6)
MOVING_A = Moving("A", A=0.5, excess=10.5)
EACH = [MOVING_K, MOVING_LOC, MOVING_SCALE, MOVING_A]

each_moving = pytest.mark.parametrize("moving", EACH, ids=repr)
moving_support = pytest.mark.parametrize("moving", [MOVING_K, MOVING_A], ids=repr)


def reparametrised(model: Callable) -> Callable:
    return handlers.reparam(model, config=auto_reparam)


def joint(sites) -> np.ndarray:
    return np.concatenate([np.reshape(site, (len(site), -1)) for site in sites], axis=-1)


@pytest.mark.rank_promotion("allow")  # NumPyro's draws of a guide with a sample shape
@pytest.mark.parametrize("moving", [MOVING_K, MOVING_LOC], ids=repr)
def test_guide_finds_the_joint_posterior(moving):
    """It is Gaussian where k or loc moves."""
    model = reparametrised(moving.sampled)
    guide = AutoMultivariateNormal(model)
    params = fit(model, guide, steps=700)
    found = guide.sample_posterior(KEY, params, sample_shape=(20_000,))
    assert (moving.roundings(found["shift"], found["x"]) <= 4).all()
    assert_moments(joint([found["shift"], found["x"]]), *moving.posterior, error=0.06)


def assert_nuts_finds_the_joint_posterior(moving: Moving, draws: int) -> None:
    model = reparametrised(moving.sampled)
    chain = run_nuts(model, draws)
    # White noise under a scale that grows has some: by hand, in the same coordinates, 2 to 17
    # of 10,000.
    assert_no_divergence(chain, share=0.01 if moving.scale else 0.0)
    found = chain.get_samples()
    assert (moving.roundings(found["shift"], found["x"]) <= 4).all()
    both, options = joint([found["shift"], found["x"]]), {"excess": moving.excess}
    assert_likely(of_moments(both, *moving.posterior, **options, is_chain=True))
    latent = {name: found[name] for name in ("shift", "x_base")}
    again = Predictive(model, latent, parallel=True, return_sites=["x"])(KEY)
    assert_close(again["x"], found["x"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moving", [MOVING_A], ids=repr)
def test_nuts_finds_the_joint_posterior(moving):
    assert_nuts_finds_the_joint_posterior(moving, draws=800)


@pytest.mark.slow
@each_moving
def test_nuts_finds_the_joint_posterior_long(moving):
    assert_nuts_finds_the_joint_posterior(moving, draws=10_000)


@each_moving
def test_learned_value_is_the_most_likely_one(moving):
    """Given it the posterior is Gaussian, so that the bound is the evidence at its maximum."""
    model = reparametrised(moving.learned)
    guide = AutoMultivariateNormal(model)
    params = fit(model, guide, steps=600, decay=0.03)
    _, cov = moving.posterior
    found = params["shift"]
    np.testing.assert_allclose(found, moving.most_likely, atol=0.08 * np.sqrt(cov[0, 0]))


@each_moving
def test_the_map_from_noise_is_that_of_the_law(moving):
    """It is affine in the noise: white noise has the mean and the covariance of the law."""
    loc, scale_tril, A, k = moving.parameters(array(0.3))
    law = ConstrainedMultivariateNormal(loc, A=A if moving.A else ROW, k=k, scale_tril=scale_tril)
    model = reparametrised(lambda: numpyro.sample("x", law))
    trace = handlers.trace(handlers.seed(model, KEY)).get_trace()
    size = 3 if moving is MOVING_A else 2  # as many as variables, where no basis is smooth
    assert trace["x_base"]["value"].shape == (size,)
    assert trace["x"]["type"] == "deterministic" and law.support(trace["x"]["value"])

    def at(noise):
        return handlers.substitute(model, {"x_base": noise})()

    mean = at(jnp.zeros(size))
    columns = jnp.stack([at(unit) - mean for unit in jnp.eye(size)])
    assert_close(mean, law.mean, rtol=1e-12, atol=1e-12)
    assert_close(columns.T @ columns, law.covariance, rtol=1e-12, atol=1e-12)


def constrained_laws():
    A, k = array([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), array([1.0, 0.5])
    zero, one = jnp.zeros(4), jnp.ones(4)
    yield ConstrainedNormal(zero, one, A, k)
    yield ConstrainedNormal(zero, one, A, array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]]))
    yield ConstrainedNormal(zero, one, A, k).expand([3])
    yield ConstrainedNormal(zero, one, A, k).expand([3]).to_event(1)
    yield ConstrainedNormal(zero, one, GroupSum([0, 0, 1, 1], 2), k)
    yield ConstrainedNormal(zero, one, jnp.ones(4), 1.0)


@pytest.mark.parametrize("index", range(6))
def test_given_noise_is_kept(index):
    """A given value of the noise goes to x, always the same one."""
    law = list(constrained_laws())[index]
    model = handlers.reparam(
        lambda: numpyro.sample("x", law), config={"x": ConstrainedNormalReparam()}
    )
    trace = handlers.trace(handlers.seed(model, KEY)).get_trace()
    noise, x = trace["x_base"], trace["x"]["value"]
    assert noise["fn"].batch_shape == law.batch_shape
    assert noise["fn"].event_dim == law.event_dim
    assert noise["value"].shape[:-1] == law.shape()[:-1]
    assert law.support(x).all()
    again = handlers.substitute(model, {"x_base": noise["value"]})()
    assert_close(again, x, rtol=0, atol=0)


def test_observed_and_other_sites_are_left_alone():
    law = next(constrained_laws())

    def model():
        numpyro.sample("observed", law, obs=law.mean)
        numpyro.sample("normal", dist.Normal(0.0, 1.0))
        numpyro.sample("t", ConstrainedMultivariateStudentT(3.0, 0.0, A=law.A, k=law.k, scale=1.0))
        numpyro.sample("x", law.to_event(0))

    trace = handlers.trace(handlers.seed(reparametrised(model), KEY)).get_trace()
    kinds = {name: site["type"] for name, site in trace.items()}
    assert kinds.pop("x") == "deterministic"
    assert kinds == dict.fromkeys(("observed", "normal", "t", "x_base"), "sample")


def test_wrong_sites_are_refused():
    law = next(constrained_laws())
    with handlers.seed(rng_seed=0), handlers.reparam(config={"x": ConstrainedNormalReparam()}):
        with pytest.raises(ConstraintError, match="observed sites need no reparam"):
            numpyro.sample("x", law, obs=law.mean)
        with pytest.raises(ConstraintError, match="got Normal"):
            numpyro.sample("x", dist.Normal(0.0, 1.0))


# Without the reparametrisation MCMC runs the model again to find the support of each draw; a guide
# keeps that of the first run. Inside `jit` nothing can be raised: its loss is infinite.

REMEDY = "use reparam.auto_reparam"


@moving_support
@pytest.mark.parametrize("kind", ["sampled", "learned"])
def test_stale_guide_has_an_infinite_loss(moving, kind):
    model = getattr(moving, kind)
    guide = AutoNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    losses = svi.run(KEY, 3, progress_bar=False).losses
    assert not np.isfinite(losses[-1])  # from the step on at which the support has moved


@moving_support
def test_stale_guide_is_an_error_under_validation(moving):
    """Outside ``jit``, as in a debugging session."""
    guide = AutoNormal(moving.sampled)
    handlers.seed(guide, KEY)()
    found = handlers.seed(guide, jax.random.PRNGKey(1))()
    with numpyro.validation_enabled(), pytest.raises(ConstraintError, match=REMEDY):
        log_density(moving.sampled, (), {}, found)


def test_a_chain_follows_a_sampled_k():
    chain = run_nuts(MOVING_K.sampled, draws=600)
    found = chain.get_samples()
    both = joint([found["shift"], found["x"]])
    assert_likely(of_moments(both, *MOVING_K.posterior, is_chain=True))
    assert (MOVING_K.roundings(found["shift"], found["x"]) <= 4).all()


def plant(k: Array) -> Array:
    """Flows whose total is measured, one problem per row of a minibatch of k."""
    with numpyro.plate("hours", len(k)):
        law = ConstrainedNormal(jnp.zeros(3), jnp.ones(3), jnp.ones(3), k)
        return numpyro.sample("x", law)


def test_new_data_need_the_reparametrisation():
    """A guide on the site itself returns draws on the old subspace; nothing scores them."""
    old, new = array([1.0, 2.0]), array([5.0, 7.0])
    for model, is_right in ((plant, False), (reparametrised(plant), True)):
        guide = AutoNormal(model)
        svi = SVI(model, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
        params = svi.get_params(svi.init(KEY, old))
        found = Predictive(model, guide=guide, params=params, num_samples=4, return_sites=["x"])
        x = found(KEY, new)["x"]
        assert jnp.allclose(x.sum(-1), new[None]) == is_right


def test_minibatches_of_k():
    """The support changes with the minibatch; the fit is that of all data."""
    totals = jnp.linspace(-1.0, 2.0, 6)

    def model():
        with numpyro.plate("hours", 6, subsample_size=3) as rows:
            law = ConstrainedNormal(jnp.zeros(3), jnp.ones(3), jnp.ones(3), totals[rows])
            x = numpyro.sample("x", law)
            numpyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=jnp.zeros(x.shape))

    def plates():
        return numpyro.plate("hours", 6, subsample_size=3)

    guide = AutoNormal(reparametrised(model), create_plates=plates)
    params = fit(reparametrised(model), guide, steps=300)
    expected = np.full((6, 2), np.sqrt(1 / (1 + 1 / 0.5**2)))
    np.testing.assert_allclose(params["x_base_auto_scale"], expected, rtol=0.15)


def test_configuration_may_be_called():
    assert auto_reparam() is auto_reparam
