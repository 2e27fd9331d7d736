"""Draws of events of probability zero in JAX, which cannot raise inside of jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.on_numpyro.models import KEY, array, assert_close
from tests.on_numpyro.test_discrete import RATE, TABLE, build, parameter_of

IMPOSSIBLE = {
    "poisson_row": {"rate": 0 * RATE},
    "poisson_groups": {"rate": RATE * array([0.0, 1, 0, 0, 1])},
    "poisson_trellis": {"rate": RATE[:4] * array([0.0, 0, 0, 1])},
    "bernoulli_row": {"logits": array([-jnp.inf] * 4 + [0.0])},
    "bernoulli_probs": {"probs": array([1.0, 0, 1, 1, 0])},
    "bernoulli_trellis": {"logits": array([jnp.inf] * 5)},
    "categorical": {"logits": array(np.log([[1, 1e-300, 1e-300]] * 5)).at[:, 1:].set(-jnp.inf)},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.endswith(("_row", "_probs")))
        for name in IMPOSSIBLE
    ],
)
def test_draws_where_nothing_can_be_drawn(name):
    """No error inside of jit: -1, or NaN where draws have a gradient, is off the support."""

    def draw(values, estimator):
        law = build(name, **values, gradient_estimator=estimator, validate_args=False)
        x = law.sample(KEY, (3,))
        return x, law.log_prob(x), law.support(x)

    compiled = jax.jit(draw, static_argnums=1)
    x, log_prob, inside = compiled(IMPOSSIBLE[name], "score_function")
    assert (x.min(-1) == -1).all() and not inside.any() and (log_prob == -jnp.inf).all()
    assert_close(draw(IMPOSSIBLE[name], "score_function")[0], x)  # nor without validate_args
    floating, _, _ = compiled(IMPOSSIBLE[name], "marginal_expectation")
    assert (jnp.isnan(floating) == (x == -1)).all()
    key = parameter_of(name)
    possible, _, inside = compiled({key: TABLE[name][1][key]}, "score_function")
    assert (possible >= 0).all() and inside.all()


def test_draws_of_one_element_where_nothing_can_be_drawn():
    """Of a batch, the others are as they were; a group without a point does not touch others."""
    rate = jnp.stack([RATE, RATE * array([0.0, 1, 0, 0, 1])])
    law = build("poisson_groups", rate=rate, validate_args=False)
    x = law.sample(KEY, (200,))
    assert law.support(x[:, 0]).all() and not law.support(x[:, 1]).any()
    assert (x[:, 1, [0, 2, 3]] == -1).all() and (x[:, 1, [1, 4]].sum(-1) == 2).all()


def test_draws_of_a_traced_k_without_points():
    draw = jax.jit(lambda k: build("poisson_trellis", k=k, k_max=[3, 2]).sample(KEY, (2,)))
    assert (draw(array([3.0, 2.0])) >= 0).all()
    for k in ([3.5, 2.0], [9.0, 2.0], [-1.0, 2.0]):
        assert (draw(array(k)) == -1).all()
