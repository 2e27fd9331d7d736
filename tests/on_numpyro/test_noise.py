"""White noise: that of JAX, in a compiled program made where no other operation makes it again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_constrained import ConstrainedNormal
from numpyro_constrained.kernels.arrays import noise

N = 8
KEYS = {
    "typed": jax.random.key(3),
    "raw": jax.random.PRNGKey(3),
    "other generator": jax.random.key(3, impl="rbg"),
}


@pytest.fixture(autouse=True)
def all_is_large(monkeypatch):
    monkeypatch.setattr(noise, "LARGE", 1)


def make(key):
    return noise.white_noise(key, (2, N), jnp.float32)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_same_as_jax_draws(key):
    expected = jax.random.normal(key, (2, N), jnp.float32)
    np.testing.assert_array_equal(make(key), expected)
    np.testing.assert_array_equal(jax.jit(make)(key), expected)
    np.testing.assert_array_equal(jax.jit(lambda: make(key))(), expected)


def test_mapped_over_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    expected = jax.vmap(lambda key: jax.random.normal(key, (2, N), jnp.float32))(keys)
    np.testing.assert_array_equal(jax.jit(jax.vmap(make))(keys), expected)


def test_a_draw_makes_its_noise_in_a_branch():
    law = ConstrainedNormal(jnp.zeros(N), jnp.ones(N), np.ones(N), 1.0)
    program = jax.make_jaxpr(law.sample)(jax.random.key(0))
    outside = [equation.primitive.name for equation in program.jaxpr.eqns]
    assert "cond" in outside
    assert "erf_inv" not in outside
    assert "erf_inv" in str(program)
