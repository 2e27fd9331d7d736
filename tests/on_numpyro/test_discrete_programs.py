"""The discrete laws in NumPyro programs: SVI, NUTS, plates, Predictive, enumeration, reparam."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import reparam, seed, trace
from numpyro.infer import SVI, Predictive, TraceGraph_ELBO
from numpyro.optim import Adam

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedPoisson,
    ConstraintError,
    InfeasibleConstraintError,
    MarginalExpectationReparam,
    auto_reparam,
)
from tests.chance import assert_likely, of_chain_mean
from tests.on_numpyro.models import KEY, array, assert_close, run_nuts

ONES = np.ones(4)
TARGET = array([1.0, 0.0, 1.0, 0.0])


def model():
    x = numpyro.sample("x", ConstrainedBernoulli(0.5 * ONES, ONES, 2))
    numpyro.sample("y", dist.Normal(x, 0.3).to_event(1), obs=TARGET)


def guide():
    logits = numpyro.param("logits", jnp.zeros(4))
    numpyro.sample("x", ConstrainedBernoulli(logits=logits, A=ONES, k=2))


def fitted(guide, elbo, steps=400):
    svi = SVI(model, guide, Adam(0.05), elbo)
    return svi.run(KEY, steps, progress_bar=False).params["logits"]


@pytest.mark.rank_promotion("allow")  # NumPyro's Normal promotes
@pytest.mark.parametrize("estimator", ["score_function", "marginal_expectation"])
def test_svi(estimator):
    """REINFORCE, or the gradient of the mean; NumPyro's plain ``Trace_ELBO`` warns of discrete
    sites of a model.

    From a sixth the probability of the right subset goes to 0.99; by the gradient of the mean,
    which is biased, to 0.77. Seeds scatter by 0.02.
    """
    ours = guide
    if estimator == "marginal_expectation":
        ours = reparam(guide, config={"x": MarginalExpectationReparam()})
    logits = fitted(ours, TraceGraph_ELBO(num_particles=8))
    law = ConstrainedBernoulli(logits=logits, A=ONES, k=2)
    assert jnp.exp(law.log_prob(TARGET)) > 0.6


def test_reparam_refuses():
    config = {"x": MarginalExpectationReparam()}
    with pytest.raises(ConstraintError, match="constrained discrete"):
        seed(reparam(lambda: numpyro.sample("x", dist.Normal(0, 1)), config=config), 0)()
    law = ConstrainedBernoulli(0.5 * ONES, ONES, 2)
    with pytest.raises(ConstraintError, match="observed"):
        seed(reparam(lambda: numpyro.sample("x", law, obs=TARGET), config=config), 0)()


def test_auto_reparam_keeps_the_estimator():
    found = trace(seed(reparam(guide, config=auto_reparam), 0)).get_trace()
    assert not found["x"]["fn"].has_rsample


@pytest.mark.rank_promotion("allow")
def test_nuts_with_the_constraint_as_likelihood():
    """Totals of Poisson counts are Poisson: log P(A x = k) is a likelihood of the rates."""
    A, totals = np.array([[1, 1, 0], [0, 0, 1]]), np.array([[9, 3], [12, 2], [10, 4]])

    def links():
        rate = numpyro.sample("rate", dist.Gamma(2.0, 0.5).expand([3]).to_event(1))
        law = ConstrainedPoisson(rate, A, totals)
        numpyro.factor("links", law.constraint_log_prob().sum())

    draws = np.asarray(run_nuts(links, 600).get_samples()["rate"])
    both, alone = draws[:, :2].sum(-1), draws[:, 2]  # Gamma(4, .5) and Gamma(2, .5) priors
    laws = (both, (4 + 31, 3.5)), (alone, (2 + 9, 3.5))
    assert_likely([of_chain_mean(f, s / rate, np.sqrt(s) / rate) for f, (s, rate) in laws])


@pytest.mark.rank_promotion("allow")
def test_enumeration_by_an_index():
    """All points as a likelihood: their sum is the exact evidence."""
    law = ConstrainedBernoulli(array([0.2, 0.5, 0.7, 0.4]), ONES, 2)
    points = law.enumerate_support()
    index = dist.Categorical(logits=law.log_prob(points))
    assert_close(index.probs.sum(), array(1.0))
    mean = (index.probs[:, None] * points).sum(0)
    assert_close(mean, law.mean)


@pytest.mark.rank_promotion("allow")
def test_plates_and_predictive():
    rate = array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])

    def counts(k):
        with numpyro.plate("tables", 2):
            law = ConstrainedPoisson(rate, np.array([[1, 1, 0], [0, 1, 1]]), k)
            x = numpyro.sample("x", law)
            return numpyro.deterministic("first", x[..., 0])

    k = np.array([[3, 2], [1, 4]])
    found = Predictive(counts, num_samples=5)(KEY, k)
    assert found["x"].shape == (5, 2, 3)
    assert (found["x"] @ np.array([[1, 0], [1, 1], [0, 1]]) == k).all()
    with numpyro.handlers.seed(rng_seed=0):
        assert trace(counts).get_trace(k)["x"]["fn"].batch_shape == (2,)


def test_masked_sites_do_not_count():
    def masked():
        with numpyro.plate("p", 2), numpyro.handlers.mask(mask=np.array([True, False])):
            numpyro.sample("x", ConstrainedBernoulli(0.5 * ONES, ONES, 2).expand((2,)), obs=TARGET)

    site = trace(masked).get_trace()["x"]
    found = site["fn"].log_prob(jnp.stack([TARGET] * 2))
    assert_close(found, array([-np.log(6), 0.0]))


def test_jit_of_a_model():
    drawn = jax.jit(lambda key: seed(guide, key)())(KEY)
    assert drawn is None


@pytest.mark.parametrize("matrix", [jnp.array, lambda A: jnp.ones(A.shape, int) * A])
def test_a_matrix_made_inside_a_model(matrix):
    """A constant, though JAX traces it: the fiber is planned, and known sums are checked."""
    A, k, rate = np.array([[1, 1, 1], [0, 1, 1]]), np.array([4, 3]), array([0.5, 1.0, 2.0])

    def score(rate, k=k):
        return ConstrainedPoisson(rate, matrix(A), jnp.array(k)).constraint_log_prob()

    outside = ConstrainedPoisson(rate, A, k).constraint_log_prob()
    assert_close(jax.jit(score)(rate), outside)
    with pytest.raises(InfeasibleConstraintError, match="-1"):
        jax.jit(lambda rate: score(rate, np.array([4, -1])))(rate)
    with pytest.raises(ConstraintError, match="traced array whose values are not known"):
        jax.jit(lambda A: ConstrainedPoisson(rate, A, k).mean)(A)


def test_learning_with_infinite_logits():
    """Elements that are in or out for sure stay so; the others are learned, to the posterior."""
    A, k = np.array([[1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 0, 2]]), np.array([2, 1])
    prior = array([0.3, -0.2, np.inf, 0.5, -np.inf, 0.1])
    law = ConstrainedBernoulli(logits=prior, A=A, k=k)
    x = law.enumerate_support()
    fit = jax.scipy.stats.norm.logpdf(2.2, x @ array([1, -1, 2, 0.5, 0, 0.3]), 0.5)
    joint = law.log_prob(x) + fit

    @jax.jit
    def step(free):
        def loss(free):
            q = ConstrainedBernoulli(logits=jnp.where(jnp.isfinite(prior), free, prior), A=A, k=k)
            probability = jnp.exp(q.log_prob(x))
            return dist.kl_divergence(q, law) - (probability * fit).sum(), probability

        (value, probability), slope = jax.value_and_grad(loss, has_aux=True)(free)
        return free - 2 * slope, value, probability

    free = jnp.zeros(6)
    for _ in range(200):
        free, value, probability = step(free)
    assert jnp.isfinite(free).all()
    assert_close(value, -jax.scipy.special.logsumexp(joint), atol=1e-3)
    assert_close(probability, jax.nn.softmax(joint), atol=0.02)
