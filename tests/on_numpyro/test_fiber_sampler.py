"""FiberSampler on long lines, and as a Gibbs update in NumPyro."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, HMCGibbs
from scipy import stats

from constrained_core import ConstraintError, GroupSum
from numpyro_constrained import FiberSampler
from tests.chance import assert_likely
from tests.walks import SCALED, check_posterior


@pytest.mark.slow
def test_long_lines_are_binomial():
    """Where independent chains are; the test is conservative for whole numbers."""
    sampler = FiberSampler(dist.Poisson(jnp.array([3.0, 1.0])).to_event(1), np.ones(2), 5000)
    draws = np.asarray(sampler.run(jax.random.key(0), 1, num_chains=5000, warmup=10))
    assert_likely(stats.kstest(draws[:, -1, 0], stats.binom(5000, 0.75).cdf).pvalue)


def test_draws_are_on_the_fiber_and_free_ones_move():
    A, k = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]]), np.array([900, 1200])
    sampler = FiberSampler(dist.Poisson(jnp.arange(1.0, 6.0)).to_event(1), A, k)
    draws = sampler.run(jax.random.key(0), 20, num_chains=2, warmup=5, thinning=2)
    assert draws.shape == (2, 20, 5) and draws.dtype == jnp.result_type(int)
    assert (np.asarray(draws) @ A.T == k).all() and (draws >= 0).all()
    assert len(np.unique(draws[..., 4])) > 3
    assert sampler.connectivity.is_connected


def test_groups_and_points():
    base = dist.Poisson(jnp.ones(3)).to_event(1)
    draws = FiberSampler(base, GroupSum([0, 0, 1], 2), np.array([0, 4])).run(jax.random.key(0), 3)
    assert (draws == jnp.array([0, 0, 4]).reshape(1, 1, 3)).all()


@pytest.mark.rank_promotion("allow")  # HMCGibbs promotes
def test_posterior_by_gibbs_updates_inside_numpyro():
    """Latent counts and the scale of their rates, by HMCGibbs, against enumeration."""
    weight = jnp.asarray(SCALED.weight)

    def model():
        scale = numpyro.sample("scale", dist.Gamma(SCALED.shape, SCALED.rate))
        numpyro.sample("x", dist.Poisson(scale * weight).to_event(1))

    sampler = FiberSampler(dist.Poisson(weight).to_event(1), SCALED.A, SCALED.k)
    update = sampler.gibbs_fn("x", lambda sites: dist.Poisson(sites["scale"] * weight).to_event(1))
    kernel = HMCGibbs(NUTS(model), gibbs_fn=update, gibbs_sites=["x"])
    mcmc = MCMC(kernel, num_warmup=300, num_samples=6000, progress_bar=False)
    mcmc.run(jax.random.key(0))
    draws = mcmc.get_samples()
    check_posterior(SCALED, np.asarray(draws["x"]), np.asarray(draws["scale"]))


def test_errors():
    base = dist.Poisson(jnp.ones((2, 3))).to_event(1)
    with pytest.raises(ConstraintError, match="no batch"):
        FiberSampler(base, np.ones(3), 2)
    sampler = FiberSampler(dist.Poisson(jnp.ones(3)).to_event(1), np.ones(3), 2)
    with pytest.raises(ConstraintError, match="call run"):
        sampler.diagnostics()
