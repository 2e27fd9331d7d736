"""NumPyro's tools around a model: Predictive, handlers, ELBOs, jit, rendering, copying."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.distributions import kl_divergence
from numpyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO, log_likelihood
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.initialization import (
    init_to_feasible,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from numpyro.infer.util import constrain_fn, log_density, potential_energy, unconstrain_fn

from numpyro_constrained import (
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
from tests.on_numpyro.models import (
    CORRELATED,
    KEY,
    array,
    assert_close,
    assert_obeys,
    fit,
)

A, K = array(CORRELATED.prior.A), array(CORRELATED.prior.k)
MEAN = CORRELATED.law().mean
GROUPS, GROUP_TOTALS = GroupSum([0, 0, 1, 1], num_groups=2), array([1.0, -0.5])
ZERO, ONE = array([0.0] * 4), array([1.0] * 4)


DENSE = array(np.eye(4) + 0.2)
FACTOR, DF = ONE[:, None], array(4.0)
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
    draws = Predictive(CORRELATED.model, num_samples=number, parallel=parallel)(KEY)["x"]
    assert_obeys(CORRELATED.prior, draws)
    if parallel:
        law = CORRELATED.law()
        moments = np.asarray(law.mean), np.asarray(law.covariance)
        assert_likely(of_moments(np.asarray(draws), *moments))


def test_posterior_predictive_with_guide_and_with_samples():
    guide = AutoNormal(CORRELATED.model)
    params = fit(CORRELATED.model, guide, steps=3)
    free = handlers.uncondition(CORRELATED.model)
    sites = {"num_samples": 8, "return_sites": ["x", "y"]}
    found = Predictive(free, guide=guide, params=params, **sites)(KEY)
    assert_obeys(CORRELATED.prior, found["x"])
    again = Predictive(free, posterior_samples={"x": found["x"]})(KEY)
    assert again["y"].shape == (8, 4)
    scores = log_likelihood(CORRELATED.model, {"x": found["x"]})
    assert scores["y"].shape == (8,)


def test_handlers():
    law = CORRELATED.law()
    x = law.sample(KEY)
    seeded = handlers.seed(CORRELATED.model, KEY)
    observed = handlers.trace(handlers.condition(seeded, {"x": x})).get_trace()
    assert observed["x"]["is_observed"]
    assert_close(observed["x"]["fn"].log_prob(observed["x"]["value"]), law.log_prob(x))
    drawn = handlers.trace(seeded).get_trace()
    assert handlers.replay(CORRELATED.model, trace=drawn)() is drawn["x"]["value"]
    assert handlers.substitute(CORRELATED.model, {"x": x})() is x
    assert handlers.do(seeded, {"x": x})() is x
    with handlers.block(), handlers.seed(rng_seed=0):
        assert law.support(CORRELATED.model())
    lifted = handlers.lift(lambda: numpyro.param("x", x), prior={"x": law})
    assert law.support(handlers.seed(lifted, KEY)())
    inputs = handlers.trace(handlers.seed(handlers.scope(CORRELATED.model, "a"), KEY)).get_trace()
    assert_obeys(CORRELATED.prior, inputs["a/x"]["value"])


def test_seed_decides_the_draw():
    one, same = (handlers.seed(CORRELATED.model, 3)() for _ in range(2))
    assert_close(one, same, rtol=0, atol=0)
    assert not np.array_equal(one, handlers.seed(CORRELATED.model, 4)())
    new_style = handlers.seed(CORRELATED.model, jax.random.key(3))()
    assert_obeys(CORRELATED.prior, new_style)


def test_unconstrained_coordinates():
    """The potential of NumPyro is minus the log joint density: an isometry adds nothing."""
    x = CORRELATED.law().sample(KEY)
    model = handlers.seed(CORRELATED.model, KEY)
    free = unconstrain_fn(model, (), {}, {"x": x})
    assert free["x"].shape == (2,)
    assert_close(constrain_fn(model, (), {}, free), {"x": x})
    joint, _ = log_density(model, (), {}, {"x": x})
    assert_close(potential_energy(model, (), {}, free), -joint)


STRATEGIES = {
    "feasible": (init_to_feasible, None),
    "mean": (init_to_mean, MEAN),
    "median": (init_to_median(num_samples=7), None),
    "sample": (init_to_sample, None),
    "uniform": (init_to_uniform(radius=0.5), None),
    "value": (init_to_value(values={"x": MEAN}), MEAN),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
def test_init_strategies(name, autoguide):
    strategy, expected = STRATEGIES[name]
    guide = autoguide(CORRELATED.model, init_loc_fn=strategy)
    trace = handlers.trace(handlers.seed(guide, KEY)).get_trace()
    params = {name: site["value"] for name, site in trace.items() if site["type"] == "param"}
    start = guide.median(params)["x"]
    assert_obeys(CORRELATED.prior, start)
    if expected is not None:
        assert_close(start, expected)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "student"])
def test_mean_field_elbo_takes_the_exact_divergence(name):
    """With no data the loss is KL(q | p) whatever is drawn; an estimate would vary."""
    prior = FAMILIES[name](MEAN)

    def guide():
        numpyro.sample("x", FAMILIES[name](numpyro.param("loc", ZERO)))

    @jax.jit
    @jax.value_and_grad
    def loss(loc, key):
        model = {"model": lambda: numpyro.sample("x", prior), "guide": guide}
        return TraceMeanField_ELBO().loss(key, {"loc": loc}, **model)

    exact = jax.value_and_grad(lambda loc: kl_divergence(FAMILIES[name](loc), prior))
    for loc, key in zip((0.3 * ONE, 0.3 * ONE + MEAN), jax.random.split(KEY), strict=True):
        assert_close(loss(loc, key), exact(loc), rtol=1e-10, atol=1e-12)


@each_law
def test_compiled_elbo(name):
    """Loss and gradients are the same compiled and not."""
    family = FAMILIES[name]

    def model():
        x = numpyro.sample("x", family(numpyro.param("prior_loc", ZERO)))
        numpyro.sample("y", dist.Normal(x, ONE).to_event(1), obs=ZERO)

    def guide():
        numpyro.sample("x", family(numpyro.param("loc", ZERO)))

    def loss(params):
        return Trace_ELBO().loss(KEY, params, model, guide)

    plain = jax.value_and_grad(loss)
    params = {"prior_loc": -0.6 * MEAN, "loc": 0.3 * ONE}
    expected, found = plain(params), jax.jit(plain)(params)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert np.abs(expected[1]["loc"]).max() > 1e-3


@pytest.mark.rank_promotion("allow")  # NumPyro's get_dependencies promotes
def test_rendering_shows_the_dependence_on_k_and_A():
    """NumPyro follows the provenance of every value through the construction of the law."""

    def model():
        k = numpyro.sample("k", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        row = numpyro.sample("row", dist.Normal(jnp.zeros(4), 1.0).to_event(1))
        with numpyro.plate("rows", 3):
            numpyro.sample("x", ConstrainedNormal(ZERO, ONE, A, k))
            numpyro.sample("z", ConstrainedNormal(ZERO, ONE, row, k[0]))
            numpyro.sample("w", ConstrainedNormal(ZERO, ONE, GROUPS, k))

    drawing = numpyro.render_model(model, render_distributions=True).source
    for edge in ("k -> x", "k -> z", "row -> z", "k -> w"):
        assert edge in drawing
    assert "row -> x" not in drawing
    assert "x ~ ConstrainedNormal" in drawing


@pytest.mark.rank_promotion("allow")
@each_law
def test_rendering_every_law(name):
    def model():
        shift = numpyro.sample("shift", dist.Normal(ZERO, 1.0).to_event(1))
        numpyro.sample("x", FAMILIES[name](shift))

    assert "shift -> x" in numpyro.render_model(model).source


@pytest.mark.rank_promotion("allow")
def test_rendering_the_reparametrised_model():
    model = handlers.reparam(CORRELATED.model, config=auto_reparam)
    assert "x_base" in numpyro.render_model(model, render_params=True).source


def pickled(value):
    return pickle.loads(pickle.dumps(value))


COPIES = {"pickle": pickled, "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("how", COPIES)
@each_law
def test_copies(name, how):
    law = FAMILIES[name](ZERO).expand([3])
    x = law.sample(KEY)
    law.support(x)
    twin = COPIES[how](law)
    assert type(twin) is type(law)
    assert twin.batch_shape == law.batch_shape
    assert_close(twin.log_prob(x), law.log_prob(x), rtol=1e-14)
    assert_close(twin.sample(KEY), x, rtol=1e-14, atol=1e-14)
    assert repr(twin) == repr(law)


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_supports_and_transforms(how):
    law = CORRELATED.law()
    x = law.sample(KEY, (2,))
    support, transform = COPIES[how]((law.support, LinearEqualityTransform(A, K)))
    assert support(x).all()
    assert_close(transform(transform.inv(x)), x)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_of_a_trained_guide(how):
    guide = AutoMultivariateNormal(importable_model)
    params = fit(importable_model, guide, steps=3)
    twin, kept = COPIES[how]((guide, params))
    assert_close(twin.median(kept)["x"], guide.median(params)["x"])


def importable_model():
    """A function that pickle finds by name."""
    return CORRELATED.model()


def test_constrained_param():
    """A point of the subspace as a parameter: it stays there while it is learned."""
    target = array([0.9, -0.4, 0.3, 0.1])
    support = constraints.linear_equality(A, K)

    def model():
        point = numpyro.param("point", MEAN, constraint=support)
        numpyro.sample("y", dist.Normal(point, 1.0).to_event(1), obs=target)

    params = fit(model, lambda: None, steps=200, elbo=Trace_ELBO(), decay=1e-3)
    assert_obeys(CORRELATED.prior, params["point"])
    assert_close(params["point"], CORRELATED.law().project(target), rtol=0, atol=1e-3)
