"""A diag(s) A' by blocks: values and derivatives are those of the plain product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_constrained.kernels.linear.weighted_gram import WIDE, weighted_gram

GENERATOR = np.random.default_rng(0)
MATRIX = GENERATOR.normal(size=(3, WIDE // 3 + 1001))  # the last block is not full
WEIGHTS = GENERATOR.uniform(0.5, 2.0, MATRIX.shape[1])
INNER = np.array([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0], [0.0, 0.2, 1.0]])


def plain(weights):
    return jnp.matmul(MATRIX * weights[None], MATRIX.T)


def blocks(weights):
    return weighted_gram(MATRIX, weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(dtype):
    found = weighted_gram(MATRIX.astype(dtype), jnp.asarray(WEIGHTS, dtype))
    expected, size = (MATRIX * WEIGHTS) @ MATRIX.T, (abs(MATRIX) * WEIGHTS) @ abs(MATRIX).T
    assert found.dtype == dtype
    assert (abs(found - expected) / size).max() <= 32 * np.finfo(dtype).eps


def test_derivatives():
    def loss(gram):
        return lambda s: (gram(s) ** 2 * INNER).sum()

    tangent = np.cos(WEIGHTS)
    for derivative in (
        lambda gram: jax.grad(loss(gram))(WEIGHTS),
        lambda gram: jax.jvp(gram, (WEIGHTS,), (tangent,))[1],
        lambda gram: jax.jvp(jax.grad(loss(gram)), (WEIGHTS,), (tangent,))[1],
        lambda gram: jax.vmap(gram)(np.stack([WEIGHTS, 2 * WEIGHTS])),
    ):
        found, expected = derivative(blocks), derivative(plain)
        size = abs(np.asarray(expected)).max()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * size)
