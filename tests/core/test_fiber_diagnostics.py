"""R-hat and effective draws: chance is no alarm, chains that have not mixed are one."""

import warnings

import numpy as np
import pytest
from scipy import stats

from constrained_core import FiberSamplerWarning
from constrained_core.walk.diagnostics import diagnose, largest_r_hat

arviz = pytest.importorskip("arviz")

NUM_VARIABLES = 144


def mixed(seed: int, num_draws: int = 1000, num_chains: int = 4, memory: float = 0.6):
    """Whole numbers of stationary chains: about a quarter of the draws are effective."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_draws, num_chains, NUM_VARIABLES))
    x[0] /= np.sqrt(1 - memory**2)
    for now in range(1, num_draws):
        x[now] += memory * x[now - 1]
    return np.rint(3 * x.swapaxes(0, 1))


def quietly(draws: np.ndarray):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return diagnose(draws, np.arange(draws.shape[-1]))


def test_chance_is_no_alarm():
    """Of 144 variables some are above 1.01; the probability of an alarm is one in a hundred."""
    found = quietly(mixed(0))
    assert found.is_good
    assert 1.01 < np.max(found.r_hat) < 1.03


@pytest.mark.parametrize("seed", range(2))
def test_one_chain_elsewhere_is_an_alarm(seed: int):
    """One variable of 20, one chain of four, by three quarters of its standard deviation."""
    draws = mixed(seed)[..., :20]
    draws[1, :, 7] += 3
    with pytest.warns(FiberSamplerWarning, match=r"1 of 20 variables.*variable 7\)"):
        assert not diagnose(draws, np.arange(20)).is_good


def test_slow_chains_are_an_alarm():
    draws = mixed(1, memory=0.995)[..., :5]
    with pytest.warns(FiberSamplerWarning, match="5 of 5 variables"):
        assert not diagnose(draws, np.arange(5)).is_good


@pytest.mark.parametrize("num_chains", [1, 4])
def test_what_never_changes_is_left_out(num_chains: int):
    draws = mixed(2, num_chains=num_chains, num_draws=1201)[..., :4]
    draws[..., [0, 2]] = 5.0
    found = quietly(draws)
    assert found.is_good
    np.testing.assert_array_equal(np.isnan(found.r_hat), [True, False, True, False])
    np.testing.assert_array_equal(np.isnan(found.ess), np.isnan(found.r_hat))


def test_chains_that_stand_still_at_different_points():
    draws = mixed(3)[..., :3]
    draws[..., 1] = np.arange(4)[:, None]
    with pytest.warns(FiberSamplerWarning, match=r"1 of 3 .* up to inf \(variable 1\)"):
        found = diagnose(draws, np.arange(3))
    assert found.r_hat[1] == np.inf and found.ess[1] < 10


def test_the_limit_is_a_quantile():
    """Independent draws: R-hat of one variable passes its limit once in two hundred runs."""
    ess, chains = np.array([4000.0, 400.0, np.nan]), 4
    limit = largest_r_hat(ess, 1, chains)
    assert limit[0] == 1.01 and limit[1] == limit[2] > 1.02
    halves = stats.chi2(7).isf(0.005) / 7  # the variance between, in units of its expectation
    assert limit[1] == pytest.approx(np.sqrt(1 + 8 * halves / 400))
    assert (largest_r_hat(ess, 1000, chains) >= limit).all()
