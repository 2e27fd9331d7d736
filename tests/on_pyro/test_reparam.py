"""Supports that move: k, loc, covariance or A sampled, learned, or changing with the minibatch.

One scalar ``shift`` ~ N(0, 1) moves one of them. Given it everything is Gaussian, so that the
posterior of (shift, x) is a one-dimensional quadrature.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from scipy.optimize import minimize_scalar

from pyro_constrained import (
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
from tests.on_pyro.models import (
    Regression,
    assert_moments,
    assert_no_divergence,
    draws_of,
    fit,
    run_nuts,
    tensor,
)

LOC, DIRECTION, ZERO = tensor([0.2, -0.1, 0.4]), tensor([1.0, -1.0, 0.5]), tensor(0.0)
COV = np.array([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 1.2]])
TRIL = tensor(np.linalg.cholesky(COV))
ROW, TOTAL = tensor([[1.0, 1.0, 1.0]]), 1.0
DATA, NOISE = tensor([0.9, -0.3, 1.4]), 0.5


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
        """loc, scale_tril, A, k for NumPy ``shift`` () or a tensor of any batch shape."""
        if not isinstance(shift, torch.Tensor):
            return [p.numpy() for p in self.parameters(tensor(shift))]
        s = shift[..., None]
        loc = LOC + self.loc * s * DIRECTION
        scale_tril = TRIL * (self.scale * s[..., None]).exp()
        A = ROW + self.A * s[..., None] * DIRECTION if self.A else ROW
        return loc, scale_tril, A, TOTAL + self.k * s

    def given(self, shift: float) -> Regression:
        loc, scale_tril, A, k = self.parameters(shift)
        prior = oracles.Problem(loc, scale_tril @ scale_tril.T, A, k)
        return Regression(prior=prior, data=DATA.numpy(), noise=NOISE)

    def program(self, shift: torch.Tensor) -> torch.Tensor:
        loc, scale_tril, A, k = self.parameters(shift)
        x = pyro.sample("x", ConstrainedMultivariateNormal(loc, A=A, k=k, scale_tril=scale_tril))
        pyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=DATA)
        return x

    def sampled(self) -> torch.Tensor:
        return self.program(pyro.sample("shift", dist.Normal(ZERO, 1.0)))

    def learned(self) -> torch.Tensor:
        return self.program(pyro.param("shift", tensor(0.1)))

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


MOVING_K = Moving("k", k=1.5)
MOVING_LOC = Moving("loc", loc=1.0)
MOVING_SCALE = Moving("scale", scale=0.7, excess=0.6)
MOVING_A = Moving("A", A=0.5, excess=10.5)
EACH = [MOVING_K, MOVING_LOC, MOVING_SCALE, MOVING_A]

each_moving = pytest.mark.parametrize("moving", EACH, ids=repr)


def reparametrised(model: Callable) -> Callable:
    return poutine.reparam(model, config=auto_reparam)


def joint(sites) -> np.ndarray:
    return np.concatenate([np.reshape(site, (len(site), -1)) for site in sites], axis=-1)


@pytest.mark.parametrize(
    "moving", [MOVING_K, pytest.param(MOVING_LOC, marks=pytest.mark.slow)], ids=repr
)
def test_guide_finds_the_joint_posterior(moving):
    """It is Gaussian where k or loc moves."""
    model = reparametrised(moving.sampled)
    guide = AutoMultivariateNormal(model)
    fit(model, guide, steps=700, jit=True)
    shift, noise = draws_of(guide, "shift", "x_base")
    conditioned = poutine.condition(model, {"shift": tensor(shift[:, 0]), "x_base": tensor(noise)})
    x = conditioned().numpy()
    assert_moments(joint([shift, x]), *moving.posterior, error=0.09)


def assert_nuts_finds_the_joint_posterior(moving: Moving, draws: int) -> None:
    model = reparametrised(moving.sampled)
    chain = run_nuts(model, draws)
    # White noise under a scale that grows has some: by hand, in the same coordinates, 2 to 17
    # of 10,000.
    assert_no_divergence(chain, share=0.01 if moving.scale else 0.0)
    found = chain.get_samples()
    x = Predictive(model, found)()["x"].numpy()
    _, _, A, k = moving.parameters(found["shift"])
    assert (oracles.roundings(A.numpy(), x, k.numpy()) <= 4).all()
    both, options = joint([found["shift"].numpy(), x]), {"excess": moving.excess}
    assert_likely(of_moments(both, *moving.posterior, **options, is_chain=True))


def test_nuts_finds_the_joint_posterior():
    assert_nuts_finds_the_joint_posterior(MOVING_A, draws=100)


@pytest.mark.slow
@each_moving
def test_nuts_finds_the_joint_posterior_long(moving):
    assert_nuts_finds_the_joint_posterior(moving, draws=6000)


@pytest.mark.parametrize(
    "moving",
    [
        *(pytest.param(m, marks=pytest.mark.slow) for m in (MOVING_K, MOVING_LOC)),
        MOVING_SCALE,
        MOVING_A,
    ],
    ids=repr,
)
def test_learned_value_is_the_most_likely_one(moving):
    """Given it the posterior is Gaussian, so that the bound is the evidence at its maximum."""
    model = reparametrised(moving.learned)
    guide = AutoMultivariateNormal(model)
    fit(model, guide, steps=400, decay=0.03)
    _, cov = moving.posterior
    found = pyro.param("shift").item()
    np.testing.assert_allclose(found, moving.most_likely, atol=0.08 * np.sqrt(cov[0, 0]))


@each_moving
def test_the_map_from_noise_is_that_of_the_law(moving):
    """It is affine in the noise: white noise has the mean and the covariance of the law."""
    loc, scale_tril, A, k = moving.parameters(tensor(0.3).requires_grad_())
    law = ConstrainedMultivariateNormal(loc, A=A, k=k, scale_tril=scale_tril)

    def at(noise):
        model = poutine.condition(lambda: pyro.sample("x", law), {"x_base": noise})
        return reparametrised(model)().detach()

    size = 3 if moving is MOVING_A else 2  # as many as variables, where no basis is smooth
    mean = at(torch.zeros(size, dtype=torch.float64))
    columns = at(torch.eye(size, dtype=torch.float64)[:, None])[:, 0] - mean
    torch.testing.assert_close(mean, law.mean.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        columns.mT @ columns, law.covariance.detach(), rtol=1e-12, atol=1e-12
    )


def constrained_laws():
    A, k = tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), tensor([1.0, 0.5])
    zero, one = torch.zeros(4), torch.ones(4)
    yield ConstrainedNormal(zero, one, A, k)
    yield ConstrainedNormal(zero, one, A, tensor([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]]))
    yield ConstrainedNormal(zero, one, A, k).expand([3])
    yield ConstrainedNormal(zero, one, A, k).expand([3]).to_event(1)
    yield ConstrainedNormal(zero, one, GroupSum([0, 0, 1, 1], 2), k)
    yield ConstrainedNormal(zero, one, torch.ones(4), 1.0)


@pytest.mark.parametrize("index", range(6))
def test_given_value_is_kept(index):
    """An initial value of x, as from init_to_value, goes to the noise and comes back."""
    law = list(constrained_laws())[index]
    value = law.sample()
    with (
        poutine.trace() as tracer,
        poutine.reparam(config={"x": ConstrainedNormalReparam()}),
        InitMessenger(init_to_value(values={"x": value})),
    ):
        x = pyro.sample("x", law)
    noise = tracer.trace.nodes["x_base"]
    assert noise["fn"].batch_shape == law.batch_shape
    assert noise["value"].shape[:-1] == law.shape()[:-1]
    torch.testing.assert_close(x, value)
    with (
        poutine.reparam(config={"x": ConstrainedNormalReparam()}),
        poutine.condition(data={"x_base": noise["value"]}),
    ):
        torch.testing.assert_close(pyro.sample("x", law), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("index", [0, 2, 4, 5])
def test_laplace_approximation(index):
    """Pyro runs the model that it starts with other noise: x follows the noise, not the start."""
    law = list(constrained_laws())[index]
    data, noise = torch.linspace(-1, 2, 4), 0.3

    def model():
        with pyro.plate("batch", 3) if law.batch_shape else nullcontext():
            x = pyro.sample("x", law)
            pyro.sample("y", dist.Normal(x, noise).to_event(1), obs=data.expand(x.shape))

    pyro.clear_param_store()
    guide = AutoLaplaceApproximation(poutine.reparam(model, config=auto_reparam))
    guide()
    guide = guide.laplace_approximation()
    found = guide.get_posterior().covariance_matrix
    # x = mean + C z, with C'C = 1 where all scales are one.
    torch.testing.assert_close(found, torch.eye(len(found)) / (1 + noise**-2))


def test_observed_and_other_sites_are_left_alone():
    law = next(constrained_laws())

    def model():
        pyro.sample("observed", law, obs=law.sample())
        pyro.sample("normal", dist.Normal(0.0, 1.0))
        pyro.sample("t", ConstrainedMultivariateStudentT(3.0, 0.0, A=law.A, k=law.k, scale=1.0))
        pyro.sample("x", law.to_event(0))

    trace = poutine.trace(reparametrised(model)).get_trace()
    assert set(trace.stochastic_nodes) == {"normal", "t", "x_base"}
    trace.compute_log_prob()


def test_wrong_sites_are_refused():
    law = next(constrained_laws())
    with poutine.reparam(config={"x": ConstrainedNormalReparam()}):
        with pytest.raises(ConstraintError, match="observed sites need no reparam"):
            pyro.sample("x", law, obs=law.sample())
        with pytest.raises(ConstraintError, match="got Normal"):
            pyro.sample("x", dist.Normal(0.0, 1.0))


# What happens without the reparametrisation: the support is stale, and says so where it can.

REMEDY = "use reparam.auto_reparam"


@pytest.mark.parametrize("moving", [MOVING_K, MOVING_A], ids=repr)
@pytest.mark.parametrize("kind", ["sampled", "learned"])
def test_stale_guide_is_an_error(moving, kind):
    model = getattr(moving, kind)
    guide = AutoNormal(model)
    with pytest.raises(ValueError, match=REMEDY):
        fit(model, guide, steps=3, elbo=Trace_ELBO())


@pytest.mark.parametrize("moving", [MOVING_K, MOVING_A], ids=repr)
def test_stale_chain_is_an_error(moving):
    """Pyro runs MCMC without validation: the chain would stand still without a word."""
    with pytest.raises(ValueError, match=REMEDY):
        run_nuts(moving.sampled, draws=5, warmup=5, jit=False)


def test_fixed_support_is_no_error():
    """loc and covariance may be sampled or learned without the reparametrisation."""
    for moving in (MOVING_LOC, MOVING_SCALE):
        run_nuts(moving.sampled, draws=5, warmup=5, jit=False)


def plant(k: torch.Tensor) -> torch.Tensor:
    """Flows whose total is measured, one problem per row of a minibatch of k."""
    with pyro.plate("hours", 6, subsample_size=len(k)):
        law = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), k)
        return pyro.sample("x", law)


def test_new_data_need_the_reparametrisation():
    """A guide on the site itself returns draws on the old subspace; nothing scores them."""
    old, new = tensor([1.0, 2.0]), tensor([5.0, 7.0])
    for model, is_right in ((plant, False), (reparametrised(plant), True)):
        pyro.clear_param_store()
        guide = AutoNormal(model)
        guide(old)
        x = Predictive(model, guide=guide, num_samples=4, return_sites=["x"])(new)["x"]
        assert torch.allclose(x.sum(-1).squeeze(), new) == is_right


def test_minibatches_of_k():
    """The support changes with the minibatch; the fit is that of all data."""
    totals = torch.linspace(-1.0, 2.0, 6)

    def model():
        with pyro.plate("hours", 6, subsample_size=3) as rows:
            law = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), totals[rows])
            x = pyro.sample("x", law)
            pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=torch.zeros(3).expand(x.shape))

    with pytest.raises(ValueError, match=REMEDY):
        fit(model, AutoNormal(model), steps=20, elbo=Trace_ELBO())
    pyro.clear_param_store()
    guide = AutoNormal(reparametrised(model), create_plates=lambda: pyro.plate("hours", 6, 3))
    elbo = Trace_ELBO(num_particles=64, vectorize_particles=True, max_plate_nesting=1)
    fit(reparametrised(model), guide, steps=300, elbo=elbo)
    scale = guide.scales.x_base.detach().numpy()
    expected = np.full((6, 2), np.sqrt(1 / (1 + 1 / 0.5**2)))
    np.testing.assert_allclose(scale, expected, rtol=0.15)


def test_configuration_may_be_called():
    assert auto_reparam() is auto_reparam
