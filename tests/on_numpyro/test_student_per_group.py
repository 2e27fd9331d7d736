"""A Student-t law for each group where users put it: latent, with a learned scale, compiled."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal

from numpyro_constrained import ConstrainedMultivariateStudentT, GroupSum
from tests.chance import assert_likely
from tests.on_numpyro.models import KEY, array, assert_close, fit, run_nuts
from tests.student_groups import FIELD

GROUPS = GroupSum(FIELD.index, 2)
LOC, SCALE, DATA = map(array, (FIELD.loc, FIELD.scale, FIELD.data))


def law_of(u):
    scale = jnp.exp(u)[..., None] * SCALE if jnp.ndim(u) else jnp.exp(u) * SCALE
    return ConstrainedMultivariateStudentT(
        FIELD.df, LOC, A=GROUPS, k=FIELD.k, scale=scale, per_group=True
    )


def model():
    u = numpyro.sample("u", dist.Normal(0.0, 1.0))
    x = numpyro.sample("x", law_of(u))
    numpyro.sample("y", dist.Normal(x, FIELD.noise).to_event(1), obs=DATA)


def assert_nuts_finds_the_posterior(draws: int) -> None:
    found = run_nuts(model, draws).get_samples()
    assert_likely(FIELD.p_values(np.asarray(found["u"]), np.asarray(found["x"])))


def test_nuts_finds_the_posterior():
    assert_nuts_finds_the_posterior(600)


@pytest.mark.slow
def test_nuts_finds_the_posterior_long():
    assert_nuts_finds_the_posterior(5000)


def test_guide_comes_near_the_evidence():
    """The best normal guide of a skew posterior is some tenths of a nat below it."""
    guide = AutoMultivariateNormal(model)
    params = fit(model, guide, steps=500)
    elbo = Trace_ELBO(num_particles=2000)
    bound = -jax.jit(lambda params: elbo.loss(KEY, params, model, guide))(params)
    assert FIELD.log_evidence - 0.5 < bound < FIELD.log_evidence + 0.05


def test_compiled_and_mapped():
    x = law_of(0.0).sample(KEY, (3,))

    def score(u):
        return law_of(u).log_prob(x).sum()

    points = array([0.3, 0.8])
    expected = jnp.stack([score(u) for u in points])
    assert_close(jax.jit(jax.vmap(score))(points), expected)
    assert_close(
        jnp.stack([jax.jacfwd(score)(u) for u in points]), jax.vmap(jax.grad(score))(points)
    )
    laws = jax.vmap(law_of)(points)  # a law as the result of a map
    assert_close(jax.vmap(lambda law: law.log_prob(x).sum())(laws), expected)
    assert_close(jax.jit(lambda law: law.log_prob(x).sum())(law_of(points[0])), expected[0])
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(law_of(points[0]))))
    assert_close(again.log_prob(x).sum(), expected[0])


def test_slope_is_that_of_differences():
    x = law_of(0.0).sample(KEY, (3,))
    score = jax.jit(lambda u: law_of(u).log_prob(x).sum())
    step = 1e-5
    expected = (score(0.2 + step) - score(0.2 - step)) / (2 * step)
    assert_close(jax.grad(score)(0.2), expected, rtol=1e-7, atol=1e-7)


def test_draws_in_a_compiled_loop():
    draw = jax.jit(partial(lambda u, key: law_of(u).sample(key, (100,)), 0.3))
    sums = jnp.stack([draw(KEY)[:, FIELD.index == g].sum(-1) for g in range(2)], -1)
    assert_close(sums, jnp.broadcast_to(FIELD.k, sums.shape), rtol=1e-14, atol=1e-14)
