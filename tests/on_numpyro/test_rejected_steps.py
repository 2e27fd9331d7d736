"""A step of a sampler to values that make no law has a log density of NaN: a divergence, no error.

Steps are far too large, so that factorisations fail on the way.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array
from numpyro import handlers
from numpyro.infer import MCMC, NUTS
from numpyro.infer.initialization import init_to_value
from numpyro.infer.util import log_density

from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    auto_reparam,
)
from tests.on_numpyro.models import KEY, array

A, K = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), np.array([1.0, 0.5])
ZEROS, DATA = np.zeros(4), np.array([0.4, 0.1, 0.5, 0.2])
DIRECTION = np.array([1.0, -0.5, 0.3, 2.0])
MVN = ConstrainedMultivariateNormal


def positive(u: Array) -> Array:
    """Over- and underflows soon."""
    return jnp.exp(100 * u)


def symmetric(u: Array) -> Array:
    """Positive definite near u = 0 only."""
    rank_one = u[:, None] * DIRECTION[None]
    return jnp.eye(4) + rank_one + rank_one.T


LAWS = {
    "scale": lambda u: ConstrainedNormal(ZEROS, positive(u), A, K),
    "scale of a row": lambda u: ConstrainedNormal(ZEROS, positive(u), np.ones(4), 1.0),
    "covariance": lambda u: MVN(ZEROS, symmetric(u), A, K),
    "precision": lambda u: MVN(ZEROS, A=A, k=K, precision_matrix=symmetric(u)),
    "tril": lambda u: MVN(ZEROS, A=A, k=K, scale_tril=jnp.diag(positive(u))),
    "low rank": lambda u: ConstrainedLowRankMultivariateNormal(
        ZEROS, positive(u)[:, None], positive(-u), A, K
    ),
}


def model_of(name: str):
    def model():
        u = numpyro.sample("u", dist.Normal(ZEROS, 0.03).to_event(1))
        x = numpyro.sample("x", LAWS[name](u))
        numpyro.sample("y", dist.Normal(x, 0.3).to_event(1), obs=array(DATA))

    return handlers.reparam(model, config=auto_reparam)


@pytest.mark.parametrize("name", LAWS)
def test_no_law_has_no_density(name):
    """Near zero it is finite; where there is no law it is not, and nothing is raised."""
    model = model_of(name)
    given = handlers.substitute(handlers.seed(model, KEY), {"u": array(ZEROS)})
    noise = handlers.trace(given).get_trace()["x_base"]["value"]

    @jax.jit
    def density(u):
        return log_density(model, (), {}, {"u": u, "x_base": noise})[0]

    assert jnp.isfinite(density(0.01 * array(DIRECTION)))
    for sign in (1, -1):
        assert not jnp.isfinite(density(sign * 20 * array(np.flip(DIRECTION))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covariance", "scale"])
def test_a_chain_outlives_it(name):
    start = init_to_value(values={"u": array(ZEROS)})
    kernel = NUTS(
        model_of(name),
        step_size=2.0,
        adapt_step_size=False,
        max_tree_depth=4,
        init_strategy=start,
    )
    chain = MCMC(kernel, num_warmup=0, num_samples=8, progress_bar=False)
    chain.run(KEY)
    assert chain.get_extra_fields()["diverging"].any()
    for part in chain.get_samples().values():
        assert jnp.isfinite(part).all()
