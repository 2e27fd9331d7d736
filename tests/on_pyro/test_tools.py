"""Pyro's tools around a model: Predictive, handlers, ELBOs, compilation, rendering, copying."""

import copy
import io
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    JitTrace_ELBO,
    JitTraceMeanField_ELBO,
    Predictive,
    Trace_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import (
    AutoMultivariateNormal,
    AutoNormal,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch.distributions import kl_divergence

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
    LinearEqualityTransform,
    auto_reparam,
    constraints,
)
from tests.chance import assert_likely, of_moments
from tests.on_pyro.models import CORRELATED, assert_obeys, fit, tensor

A, K = tensor(CORRELATED.prior.A), tensor(CORRELATED.prior.k)
MEAN = CORRELATED.law().mean
GROUPS, GROUP_TOTALS = GroupSum([0, 0, 1, 1], num_groups=2), tensor([1.0, -0.5])
ZERO, ONE = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)


DENSE = torch.eye(4, dtype=torch.float64) + 0.2
FACTOR, DF = ONE[:, None].clone(), tensor(4.0)
FAMILIES = {
    "covariance": lambda loc: ConstrainedMultivariateNormal(loc, DENSE, A, K),
    "precision": lambda loc: ConstrainedMultivariateNormal(loc, A=A, k=K, precision_matrix=DENSE),
    "diagonal": lambda loc: ConstrainedNormal(loc, ONE, A, K),
    "row": lambda loc: ConstrainedNormal(loc, ONE, A[0], K[0]),
    "groups": lambda loc: ConstrainedNormal(loc, ONE, GROUPS, GROUP_TOTALS),
    "low_rank": lambda loc: ConstrainedLowRankMultivariateNormal(loc, FACTOR, ONE, A, K),
    "student": lambda loc: ConstrainedMultivariateStudentT(DF, loc, A=A, k=K, scale=ONE),
}
"""Laws of every kind with a given loc."""

each_law = pytest.mark.parametrize("name", FAMILIES)


@pytest.mark.parametrize("parallel", [False, True])
def test_prior_predictive(parallel):
    number = 20_000 if parallel else 20
    found = Predictive(CORRELATED.model, num_samples=number, parallel=parallel)()["x"]
    draws = found.reshape(number, 4).numpy()
    assert_obeys(CORRELATED.prior, draws)
    if parallel:
        law = CORRELATED.law()
        assert_likely(of_moments(draws, law.mean.numpy(), law.covariance.numpy()))


def test_posterior_predictive_with_guide_and_with_samples():
    guide = AutoNormal(CORRELATED.model)
    fit(CORRELATED.model, guide, steps=3)
    sites = {"num_samples": 8, "return_sites": ["x", "y"]}
    free = poutine.uncondition(CORRELATED.model)
    found = Predictive(free, guide=guide, **sites)()
    assert_obeys(CORRELATED.prior, found["x"].detach().reshape(8, 4).numpy())
    again = Predictive(free, posterior_samples={"x": found["x"].reshape(8, 4)})()
    assert again["y"].shape[-1] == 4


def test_handlers():
    x = CORRELATED.law().sample()
    observed = poutine.trace(poutine.condition(CORRELATED.model, {"x": x})).get_trace()
    assert observed.nodes["x"]["is_observed"]
    torch.testing.assert_close(
        observed.log_prob_sum(lambda name, site: name == "x"), CORRELATED.law().log_prob(x)
    )
    drawn = poutine.trace(CORRELATED.model).get_trace()
    assert poutine.replay(CORRELATED.model, trace=drawn)() is drawn.nodes["x"]["value"]
    assert poutine.do(CORRELATED.model, {"x": x})() is x
    with poutine.block():
        assert CORRELATED.law().support.check(CORRELATED.model())
    lifted = poutine.lift(lambda: pyro.param("x", x), prior={"x": CORRELATED.law()})
    assert CORRELATED.law().support.check(lifted())


STRATEGIES = {
    "feasible": (init_to_feasible, None),
    "mean": (init_to_mean, MEAN),
    "median": (init_to_median(num_samples=7), None),
    "sample": (init_to_sample, None),
    "uniform": (init_to_uniform(radius=0.5), None),
    "value": (init_to_value(values={"x": MEAN}), MEAN),
    "generated": (init_to_generated(generate=lambda: init_to_mean), MEAN),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
def test_init_strategies(name, autoguide):
    strategy, expected = STRATEGIES[name]
    guide = autoguide(CORRELATED.model, init_loc_fn=strategy)
    guide()
    start = guide.median()["x"].detach()
    assert_obeys(CORRELATED.prior, start.numpy())
    if expected is not None:
        torch.testing.assert_close(start, expected)


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, JitTraceMeanField_ELBO])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "student"])
def test_mean_field_elbo_takes_the_exact_divergence(name, elbo):
    """With no data the loss is KL(q | p) whatever is drawn; an estimate would vary."""
    prior, loc = FAMILIES[name](MEAN), 0.3 * ONE

    def guide():
        law = FAMILIES[name](pyro.param("loc", loc))
        pyro.sample("x", law)
        return law

    objective = elbo()
    for _ in range(2):
        loss = objective.loss_and_grads(lambda: pyro.sample("x", prior), guide)
        exact = kl_divergence(guide(), prior)
        (gradient,) = torch.autograd.grad(exact, loc)
        np.testing.assert_allclose(loss, exact.item(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(loc.grad, gradient)
        with torch.no_grad():
            loc.add_(MEAN)
        loc.grad = None


def test_mean_field_elbo_of_one_guide_and_priors_that_differ():
    """As many priors as variables, in a plate: by precisions in a basis of the subspace."""
    size = 4
    roots = np.tril(np.random.default_rng(2).normal(size=(size, size, size)), -1) + 2 * np.eye(size)
    ones, zeros = torch.ones(size), torch.zeros(size)

    def model():
        with pyro.plate("plate", size):
            law = ConstrainedMultivariateNormal(zeros, scale_tril=tensor(roots), A=ones, k=0.0)
            pyro.sample("x", law)

    def guide():
        with pyro.plate("plate", size):
            pyro.sample("x", ConstrainedMultivariateNormal(zeros, torch.eye(size), A=ones, k=0.0))

    basis = np.linalg.svd(np.ones((1, size)))[2][1:]
    inside = basis @ np.linalg.inv(roots @ roots.swapaxes(-1, -2)) @ basis.T
    traces, determinants = np.trace(inside, axis1=-2, axis2=-1), np.linalg.slogdet(inside)[1]
    expected = 0.5 * (traces - (size - 1) - determinants).sum()
    np.testing.assert_allclose(TraceMeanField_ELBO().loss(model, guide), expected, rtol=1e-10)


@each_law
def test_compiled_elbo(name):
    """Loss and gradients are the same compiled and not, and the tracer warns of nothing."""
    family = FAMILIES[name]
    params = {"prior_loc": ZERO.clone(), "loc": ZERO.clone()}

    def model():
        x = pyro.sample("x", family(pyro.param("prior_loc", params["prior_loc"])))
        pyro.sample("y", dist.Normal(x, ONE).to_event(1), obs=ZERO)

    def guide():
        pyro.sample("x", family(pyro.param("loc", params["loc"])))

    def loss_and_gradients(elbo):
        pyro.set_rng_seed(1)
        for param in params.values():
            param.grad = None
        loss = elbo.loss_and_grads(model, guide)
        return [loss, *(param.grad.numpy() for param in params.values())]

    elbos = Trace_ELBO(), JitTrace_ELBO()
    elbos[1].loss_and_grads(model, guide)  # compiles, at other values
    for shift in (0.3, -0.6):
        with torch.no_grad():
            params["loc"].add_(shift * ONE)
            params["prior_loc"].sub_(shift * MEAN)
        expected, found = map(loss_and_gradients, elbos)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        assert np.abs(expected[1]).max() > 1e-3


def test_rendering_shows_the_dependence_on_k_and_A():
    """Pyro follows the provenance of every value through the construction of the law."""

    def model():
        k = pyro.sample("k", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        row = pyro.sample("row", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        with pyro.plate("rows", 3):
            pyro.sample("x", ConstrainedNormal(torch.zeros(4), torch.ones(4), A, k))
            pyro.sample("z", ConstrainedNormal(torch.zeros(4), torch.ones(4), row, k[0]))
            pyro.sample("w", ConstrainedNormal(torch.zeros(4), torch.ones(4), GROUPS, k))

    drawing = pyro.render_model(model, render_distributions=True).source
    for edge in ("k -> x", "k -> z", "row -> z", "k -> w"):
        assert edge in drawing
    assert "row -> x" not in drawing
    assert "x ~ ConstrainedNormal" in drawing


@each_law
def test_rendering_every_law(name):
    def model():
        shift = pyro.sample("shift", dist.Normal(ZERO, 1.0).to_event(1))
        pyro.sample("x", FAMILIES[name](shift))

    assert "shift -> x" in pyro.render_model(model).source


def test_rendering_the_reparametrised_model():
    model = poutine.reparam(CORRELATED.model, config=auto_reparam)
    assert "x_base" in pyro.render_model(model, render_deterministic=True).source


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"pickle": pickled, "deepcopy": copy.deepcopy, "copy": copy.copy, "save": saved}


@pytest.mark.parametrize("how", COPIES)
@each_law
def test_copies(name, how):
    law = FAMILIES[name](ZERO).expand([3])
    x = law.sample()
    law.support.check(x)
    twin = COPIES[how](law)
    assert type(twin) is type(law)
    assert twin.batch_shape == law.batch_shape
    torch.testing.assert_close(twin.log_prob(x), law.log_prob(x), rtol=0, atol=0)
    pyro.set_rng_seed(0)
    first = law.sample()
    pyro.set_rng_seed(0)
    torch.testing.assert_close(twin.sample(), first, rtol=0, atol=0)
    assert repr(twin) == repr(law)


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_supports_and_transforms(how):
    law = CORRELATED.law()
    x = law.sample((2,))
    support, transform = COPIES[how]((law.support, LinearEqualityTransform(A, K)))
    assert support.check(x).all()
    torch.testing.assert_close(transform(transform.inv(x)), x)


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "save"])
def test_copies_of_a_trained_guide(how):
    guide = AutoMultivariateNormal(CORRELATED.model)
    fit(CORRELATED.model, guide, steps=3)
    twin = COPIES[how](guide)
    torch.testing.assert_close(twin.median()["x"], guide.median()["x"])


def test_constrained_param():
    """A point of the subspace as a parameter: it stays there while it is learned."""
    target = tensor([0.9, -0.4, 0.3, 0.1])
    support = constraints.linear_equality(A, K)

    def model():
        point = pyro.param("point", lambda: MEAN, constraint=support)
        pyro.sample("y", dist.Normal(point, 1.0).to_event(1), obs=target)

    fit(model, lambda: None, steps=200, elbo=Trace_ELBO(), decay=1e-3)
    found = pyro.param("point").detach()
    assert_obeys(CORRELATED.prior, found.numpy())
    torch.testing.assert_close(found, CORRELATED.law().project(target), rtol=0, atol=1e-3)


class Flows(PyroModule):
    """A module with a constrained prior and a constrained parameter."""

    def __init__(self):
        super().__init__()
        self.start = PyroParam(MEAN.clone(), constraint=constraints.linear_equality(A, K))
        self.x = PyroSample(CORRELATED.law())
        self.z = PyroSample(lambda self: ConstrainedNormal(self.x, 1.0, A, K))

    def forward(self):
        return self.start, self.x, self.z


def test_modules():
    module = Flows()
    guide = AutoNormal(module)
    guide()
    for point in module() + poutine.condition(module, guide())():
        assert_obeys(CORRELATED.prior, point.detach().numpy())
    assert set(module.state_dict()) == {"start_unconstrained"}
    assert module.start_unconstrained.shape == (2,)
