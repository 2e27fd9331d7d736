"""Discrete laws whose leaves were stacked, as NumPyro's scan does: each is that of its step."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.distributions import kl_divergence
from numpyro.distributions.batch_util import promote_batch_shape
from numpyro.infer.util import log_density
from scipy.stats import multinomial

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    GroupSum,
)
from tests.on_numpyro.models import KEY, array, assert_close

N = 3
ROWS = {
    "one row": (np.ones(N), 2),
    "two rows": (np.array([[1, 1, 0], [0, 1, 2]]), np.array([1, 2])),
    "groups": (GroupSum([0, 1, 0], 2), np.array([2, 1])),
}


def build(name, rows, parameter):
    A, k = ROWS[rows]
    if name == "poisson":
        return ConstrainedPoisson(jnp.exp(parameter), A, k)
    law = ConstrainedBernoulli if name == "bernoulli" else ConstrainedCategorical
    return law(logits=parameter, A=A, k=k)


def parameters(name, steps):
    shape = (steps, N, 3) if name == "categorical" else (steps, N)
    return array(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize(
    ("name", "rows", "steps"),
    [
        ("poisson", "one row", N),
        pytest.param("poisson", "one row", 2, marks=pytest.mark.slow),
        pytest.param("bernoulli", "one row", N, marks=pytest.mark.slow),
        pytest.param("bernoulli", "one row", 1, marks=pytest.mark.slow),
        pytest.param("categorical", "one row", N, marks=pytest.mark.slow),
        pytest.param("categorical", "two rows", 2, marks=pytest.mark.slow),
        pytest.param("poisson", "two rows", N, marks=pytest.mark.slow),
        pytest.param("poisson", "groups", N, marks=pytest.mark.slow),
    ],
)
def test_a_stack_is_its_members(name, rows, steps):
    other = build(name, rows, parameters(name, 1)[0])

    def figures(law, x):
        wrong = x.at[..., 0].add(1)
        asked = law.log_prob(x), law.residual(wrong), law.support(x), law.support(wrong)
        moments = law.mean, law.constraint_log_prob(), law.entropy()
        return asked + moments + (kl_divergence(law, other),)

    @jax.jit
    def both(given):
        law = promote_batch_shape(jax.vmap(lambda one: build(name, rows, one))(given))
        assert law.batch_shape == (steps,)
        members = [build(name, rows, one) for one in given]
        x = jnp.stack([member.sample(KEY) for member in members])
        drawn = law.support(law.sample(KEY, (4,)))
        return figures(law, x), [figures(*pair) for pair in zip(members, x, strict=True)], drawn

    found, expected, drawn = both(parameters(name, steps))
    for figure, parts in zip(found, zip(*expected, strict=True), strict=True):
        assert_close(figure, jnp.stack(parts))
    assert found[2].all() and not found[3].any() and drawn.all()


RATES = array([[1, 2, 3], [3, 1, 1], [0.5, 0.5, 0.5]])
COUNTS = np.array([[1, 1, 2], [4, 0, 0], [2, 1, 1]])


def density(model, *data):
    return log_density(model, data, {}, {})[0]


@pytest.mark.parametrize("steps", [N, 2])
def test_counts_of_every_step_of_a_scan(steps):
    """With as many steps as variables, too."""

    def model(rates, counts):
        def step(carry, given):
            rate, count = given
            numpyro.sample("x", ConstrainedPoisson(rate, np.ones(N), 4), obs=count)
            return carry, None

        scan(step, 0.0, (rates, counts))

    given = RATES[:steps], jnp.asarray(COUNTS[:steps])
    expected = sum(
        multinomial.logpmf(count, 4, rate / rate.sum())
        for rate, count in zip(np.asarray(RATES), COUNTS[:steps], strict=False)
    )
    assert_close(density(model, *given), expected)
    assert_close(jax.jit(density, static_argnums=0)(model, *given), expected)


def test_a_total_that_the_scan_carries():
    """The total of a step is the first count of the one before."""
    counts, totals = np.array([[3, 1, 0], [1, 1, 1], [0, 0, 1]]), [4, 3, 1]

    def model(rates, counts):
        def step(total, given):
            rate, count = given
            law = ConstrainedPoisson(rate, np.ones(N), total, k_max=6)
            numpyro.sample("x", law, obs=count)
            return count[0], None

        scan(step, jnp.array(4), (rates, counts))

    expected = sum(
        multinomial.logpmf(count, total, rate / rate.sum())
        for rate, count, total in zip(np.asarray(RATES), counts, totals, strict=True)
    )
    given = RATES, jnp.asarray(counts)
    assert_close(density(model, *given), expected)
    assert_close(jax.jit(density, static_argnums=0)(model, *given), expected)
