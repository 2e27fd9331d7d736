"""Functions of laws that are exported for batches of any size, with symbols for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstrainedPoisson,
)

A, K, KEY = np.array([[1.0, 1, 1, 0], [0, 1, 1, 1]]), np.ones(2), jax.random.key(0)


def normal(loc):
    law = ConstrainedNormal(loc, 1.0, A, K)
    return law.mean, law.log_prob(law.mean)


def one_row(loc):
    law = ConstrainedNormal(loc, loc**2 + 1, np.ones(4), 1.0)
    return law.mean, law.variance, law.sample(KEY)


def covariance(loc):
    return ConstrainedMultivariateNormal(loc, np.eye(4), A=A, k=K).sample(KEY)


def low_rank(loc):
    law = ConstrainedLowRankMultivariateNormal(loc, np.ones((4, 1)), np.ones(4), A, K)
    return law.log_prob(law.project(loc))


def counts(loc):
    return ConstrainedPoisson(jnp.exp(loc), np.ones(4), 3).mean


@pytest.mark.parametrize("function", [normal, one_row, covariance, low_rank, counts])
def test_a_symbolic_batch(function):
    (size,) = export.symbolic_shape("b")
    any_size = jax.ShapeDtypeStruct((size, 4), jnp.float64)
    exported = export.export(jax.jit(function))(any_size)
    loc = jnp.cos(jnp.arange(12.0)).reshape(3, 4)
    found, expected = exported.call(loc), function(loc)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
