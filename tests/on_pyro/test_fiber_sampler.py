"""FiberSampler on long lines, and as a Gibbs update in Pyro."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from constrained_core import ConstraintError, GroupSum
from pyro_constrained import FiberSampler


@pytest.mark.slow
def test_long_lines_are_binomial():
    sampler = FiberSampler(dist.Poisson(torch.tensor([3.0, 1.0])).to_event(1), np.ones(2), 5000)
    draws = sampler.run(5, num_chains=1000, warmup=5).numpy()
    assert stats.kstest(draws[..., 0].ravel(), stats.binom(5000, 0.75).cdf).pvalue > 1e-3


def test_draws_are_on_the_fibre_and_free_ones_move():
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


def test_gibbs_updates_with_rates_of_the_moment():
    """A gamma prior is conjugate to counts: x and the rates take turns."""
    A, k = np.array([[1, 1, 0], [0, 1, 1]]), np.array([40, 60])
    sampler = FiberSampler(dist.Poisson(torch.full((3,), 20.0)).to_event(1), A, k)
    x, draws = torch.zeros(3), []
    for _ in range(100):
        rate = dist.Gamma(2.0 + x, 1.1).sample()
        x = sampler.move(x, dist.Poisson(rate).to_event(1))
        draws.append(x.numpy())
    draws = np.stack(draws)
    assert (draws @ A.T == k).all() and (draws >= 0).all() and len(np.unique(draws[:, 0])) > 5


def test_errors():
    base = dist.Poisson(torch.ones((2, 3))).to_event(1)
    with pytest.raises(ConstraintError, match="no batch"):
        FiberSampler(base, np.ones(3), 2)
    sampler = FiberSampler(dist.Poisson(torch.ones(3)).to_event(1), np.ones(3), 2)
    with pytest.raises(ConstraintError, match="call run"):
        sampler.diagnostics()
