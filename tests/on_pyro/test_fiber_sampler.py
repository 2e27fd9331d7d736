"""FiberSampler on long lines, and as a Gibbs update in Pyro."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import HMC, MCMC, NUTS
from scipy import stats

from constrained_core import ConstraintError, GroupSum
from pyro_constrained import FiberSampler
from tests.chance import assert_likely
from tests.walks import SCALED, check_posterior


@pytest.mark.slow
def test_long_lines_are_binomial():
    """Where independent chains are; the test is conservative for whole numbers."""
    sampler = FiberSampler(dist.Poisson(torch.tensor([3.0, 1.0])).to_event(1), np.ones(2), 5000)
    draws = sampler.run(1, num_chains=5000, warmup=10).numpy()
    assert_likely(stats.kstest(draws[:, -1, 0], stats.binom(5000, 0.75).cdf).pvalue)


def test_draws_are_on_the_fiber_and_free_ones_move():
    A, k = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]]), np.array([900, 1200])
    sampler = FiberSampler(dist.Poisson(torch.arange(1.0, 6.0)).to_event(1), A, k)
    draws = sampler.run(20, num_chains=2, warmup=5, thinning=2)
    assert draws.shape == (2, 20, 5) and draws.dtype == torch.float64
    assert (draws.numpy() @ A.T == k).all() and (draws >= 0).all()
    assert len(np.unique(draws[..., 4])) > 3
    assert sampler.connectivity.is_connected


def test_groups_and_points():
    base = dist.Poisson(torch.ones(3)).to_event(1)
    draws = FiberSampler(base, GroupSum([0, 0, 1], 2), np.array([0, 4])).run(3)
    assert (draws == torch.tensor([0, 0, 4])).all()


WEIGHT = torch.as_tensor(SCALED.weight)


def model():
    scale = pyro.sample("scale", dist.Gamma(SCALED.shape, SCALED.rate))
    pyro.sample("x", dist.Poisson(scale * WEIGHT).to_event(1))


def base_of(sites):
    return dist.Poisson(sites["scale"] * WEIGHT).to_event(1)


def scaled_sampler():
    return FiberSampler(dist.Poisson(WEIGHT).to_event(1), SCALED.A, SCALED.k)


def test_posterior_by_updates_by_hand():
    """A gamma prior is conjugate to counts: x and the scale take turns."""
    sampler, x, xs, scales = scaled_sampler(), torch.zeros(3), [], []
    for _ in range(600):
        shape, rate = SCALED.given(x.numpy())
        scale = dist.Gamma(torch.tensor(shape), torch.tensor(rate)).sample()
        x = sampler.move(x, base_of({"scale": scale}))
        xs.append(x.numpy())
        scales.append(float(scale))
    check_posterior(SCALED, np.stack(xs)[1:], np.array(scales)[1:])


def posterior_by_nuts(num_samples, warmup_steps, **options):
    pyro.set_rng_seed(0)
    kernel = scaled_sampler().gibbs_kernel(model, "x", base_of, **options)
    mcmc = MCMC(kernel, num_samples, warmup_steps, disable_progbar=True)
    mcmc.run()
    assert {"acceptance rate", "divergences"} <= mcmc.diagnostics().keys()
    return mcmc.get_samples()


def test_gibbs_kernel():
    # Without adaptation, a few dozens of steps of which hardly any is rejected.
    steps = {"num_steps": 3, "step_size": 0.2, "adapt_step_size": False}
    for options, moved in (({}, 2), ({"make_kernel": partial(HMC, **steps), "num_sweeps": 2}, 20)):
        draws = posterior_by_nuts(40, 30, **options)
        x, scale = draws["x"].numpy(), draws["scale"].numpy()
        assert (x @ SCALED.A.T == SCALED.k).all() and len(np.unique(x[:, 1])) > 1
        assert (scale > 0).all() and len(np.unique(scale)) > moved


@pytest.mark.slow
def test_posterior_by_the_gibbs_kernel():
    """Latent counts and the scale of their rates, by Pyro's MCMC, against enumeration."""
    draws = posterior_by_nuts(4000, 300)
    check_posterior(SCALED, draws["x"].numpy(), draws["scale"].numpy())


def test_gibbs_kernel_refuses():
    with pytest.raises(ConstraintError, match="jit_compile"):
        posterior_by_nuts(1, 1, make_kernel=partial(NUTS, jit_compile=True))

    def counts_alone():
        pyro.sample("x", dist.Poisson(WEIGHT).to_event(1))

    kernel = scaled_sampler().gibbs_kernel(
        counts_alone, "x", lambda sites: dist.Poisson(WEIGHT).to_event(1)
    )
    with pytest.raises(ConstraintError, match="latent sites beside 'x'"):
        MCMC(kernel, 1, 1, disable_progbar=True).run()


def test_an_update_leaves_its_argument():
    sampler, start = scaled_sampler(), torch.tensor([6, 0, 8])
    moved = [sampler.move(start) for _ in range(10)]
    assert start.tolist() == [6, 0, 8] and any((x != start).any() for x in moved)


def test_errors():
    base = dist.Poisson(torch.ones((2, 3))).to_event(1)
    with pytest.raises(ConstraintError, match="no batch"):
        FiberSampler(base, np.ones(3), 2)
    sampler = FiberSampler(dist.Poisson(torch.ones(3)).to_event(1), np.ones(3), 2)
    with pytest.raises(ConstraintError, match="call run"):
        sampler.diagnostics()
