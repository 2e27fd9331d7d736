"""The network balances, every way to sample it has the same density, and the oracle is exact."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from constrained_core import InfeasibleConstraintError
from experiments.nuts import Chains
from experiments.reconciliation import zero_sum
from experiments.reconciliation.__main__ import main
from experiments.reconciliation.models import METHODS, NOISE_SCALE, PRIOR_SCALE, Task
from experiments.reconciliation.oracle import Oracle
from experiments.reconciliation.report import ratios
from experiments.reconciliation.water import Water
from numpyro_constrained import ConstrainedNormal
from tests.chance import assert_likely, two_sided

NUM_LINKS = 5
RNG = np.random.default_rng(0)
TASK = Task(RNG.normal(size=(2, NUM_LINKS)), RNG.normal(size=(3, 2)), np.array([0, 3]))
READINGS = RNG.normal(size=(3, 2))
"""Three times, five links, two balances, two meters."""


@pytest.fixture(scope="module")
def water():
    return Water.load(hours=(27, 33), num_meters=20, noise=0.05)


def test_the_network_balances(water):
    network = water.network
    assert network.incidence.shape == (97, 119) and network.flow.shape == (169, 119)
    assert not network.incidence.sum(0).any(), "each link leaves one node and enters another"
    gained = network.flow @ network.incidence.T
    assert np.abs(gained - network.inflow).max() < 1e-3, "L/s, single precision"
    residual = water.truth @ network.A.T - network.k[list(water.hours)]
    assert np.abs(residual).max() < 1e-13
    simulated = network.flow[list(water.hours)] / network.area
    assert np.abs(water.truth - simulated).max() < 1e-5


def test_the_law_drops_the_redundant_row(water):
    law = water.whole_law
    assert law.A.shape == (97, 119) and law.rank == 96
    without = [np.delete(np.arange(97), row) for row in (0, 96)]
    laws = [ConstrainedNormal(0.0, 1.0, law.A[rows], law.k[:, rows]) for rows in without]
    for other in laws:
        np.testing.assert_allclose(other.log_prob(water.truth), law.log_prob(water.truth))
        np.testing.assert_allclose(other.mean, law.mean, atol=1e-12)
    with pytest.raises(InfeasibleConstraintError):
        ConstrainedNormal(0.0, 1.0, law.A, law.k + 0.01)


def test_dead_ends_are_settled(water):
    null_space = np.linalg.svd(water.network.A)[2][92:]
    np.testing.assert_array_equal(water.is_free, np.abs(null_space).max(0) > 1e-10)


def conditioned(tau, sigma):
    """Mean and covariance of all velocities, given demands and readings, by joint normality."""
    seen = np.vstack([TASK.A, np.eye(NUM_LINKS)[TASK.meters]])
    noise = np.diag([0.0, 0.0, sigma**2, sigma**2])
    gain = tau**2 * seen.T @ np.linalg.inv(tau**2 * seen @ seen.T + noise)
    mean = np.concatenate([TASK.k, READINGS], 1) @ gain.T
    return mean, tau**2 * (np.eye(NUM_LINKS) - gain @ seen)


def log_joint(tau, sigma):
    """log p(tau, sigma, k, y) in log tau and log sigma."""
    seen = np.vstack([TASK.A, np.eye(NUM_LINKS)[TASK.meters]])
    noise = np.diag([0.0, 0.0, sigma**2, sigma**2])
    law = stats.multivariate_normal(cov=tau**2 * seen @ seen.T + noise)
    data = law.logpdf(np.concatenate([TASK.k, READINGS], 1)).sum()
    prior = stats.halfnorm.logpdf([tau, sigma], scale=[PRIOR_SCALE, NOISE_SCALE]).sum()
    return data + prior + np.log(tau * sigma)


def test_oracle_of_known_scales():
    found = Oracle(replace(TASK, tau=0.7, sigma=0.3), READINGS).posterior()
    mean, covariance = conditioned(0.7, 0.3)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.stddev, np.tile(np.diagonal(covariance) ** 0.5, (3, 1)))


def test_oracle_of_unknown_scales():
    """Densities of the scales by direct evaluation; moments by importance sampling of them."""
    oracle, points = Oracle(TASK, READINGS), np.array([[0.5, 0.1], [1.2, 0.4], [2.0, 0.02]])
    gap = oracle.log_density(*points.T) - [log_joint(*point) for point in points]
    np.testing.assert_allclose(gap, gap[0], atol=1e-10)
    scales = np.exp(np.random.default_rng(1).normal([-0.2, -1.5], [0.6, 1.3], (20_000, 2)))
    proposal = stats.norm.logpdf(np.log(scales), [-0.2, -1.5], [0.6, 1.3]).sum(-1)
    weight = np.exp(oracle.log_density(*scales.T) - proposal)
    means, variances = oracle.moments(*scales.T)
    found = oracle.posterior()

    def errors(values, expected):
        """Of weighted means, in standard errors."""
        gap = (values - expected).reshape(len(weight), -1).T * weight
        return gap.sum(-1) / np.sqrt(np.square(gap).sum(-1))

    squares = variances[:, None] + (means - found.mean) ** 2
    pairs = (means, found.mean), (squares, found.stddev**2), (scales[:, 0], found.tau)
    assert_likely(*(two_sided(errors(*pair)) for pair in pairs))


def density(name, tau, sigma, velocity):
    """Log joint density of a method's model where the velocities are these."""
    sites = {"tau": tau, "sigma": sigma, "velocity": jnp.asarray(velocity)}
    if name == "variable elimination":
        sites["free"] = sites.pop("velocity")[:, free_links()]
    if name == "ours, white noise":
        law = ConstrainedNormal(0.0, tau, TASK.A, TASK.k)
        sites["velocity_base"] = law._conditional.to_base(sites.pop("velocity"))
    model = METHODS[name](TASK)
    return float(log_density(model, (jnp.asarray(READINGS),), {}, sites)[0])


def free_links():
    from scipy import linalg

    return linalg.qr(TASK.A, mode="r", pivoting=True)[1][2:]


HARD = [name for name in METHODS if "soft" not in name]


@pytest.mark.parametrize("name", HARD)
def test_all_ways_have_the_same_density(name):
    """That of p(tau) p(sigma) p(v) p(y | v) on the subspace, but for a constant."""
    law = ConstrainedNormal(0.0, 1.0, TASK.A, TASK.k)
    gaps = []
    for seed, (tau, sigma) in enumerate([(0.5, 0.1), (1.2, 0.4), (2.0, 0.3)]):
        noise = np.random.default_rng(seed).normal(size=(3, NUM_LINKS))
        velocity = np.asarray(law.project(noise))
        expected = stats.halfnorm.logpdf([tau, sigma], scale=[PRIOR_SCALE, NOISE_SCALE]).sum()
        expected += stats.norm.logpdf(velocity, scale=tau).sum()
        expected += stats.norm.logpdf(READINGS, velocity[:, TASK.meters], sigma).sum()
        if name == "ours, white noise":  # its variables are smaller by tau
            expected += 3 * (NUM_LINKS - 2) * np.log(tau)
        gaps.append(density(name, tau, sigma, velocity) - expected)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-9)


def test_soft_constraint_is_a_narrow_likelihood():
    velocity = RNG.normal(size=(3, NUM_LINKS))
    expected = stats.halfnorm.logpdf([0.5, 0.1], scale=[PRIOR_SCALE, NOISE_SCALE]).sum()
    expected += stats.norm.logpdf(velocity, scale=0.5).sum()
    expected += stats.norm.logpdf(TASK.k, velocity @ TASK.A.T, 0.01).sum()
    expected += stats.norm.logpdf(READINGS, velocity[:, TASK.meters], 0.1).sum()
    found = density("soft penalty, width 0.01", 0.5, 0.1, velocity)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_zero_sum_laws_are_the_same():
    """NumPyro's law and ours, with any scale."""
    group, outcome, effects = zero_sum.draw_data(0)
    assert group.shape == outcome.shape == (1000,) and abs(effects.sum()) < 1e-12
    sites = {"alpha": 5.0, "sigma": 1.1, "effects": jnp.asarray(effects)}
    data = jnp.asarray(group), jnp.asarray(outcome)
    for tau in (0.5, 2.0):
        found = [
            log_density(zero_sum.build(name, True), data, {}, sites | {"tau": tau})[0]
            for name in (zero_sum.REFERENCE, "ours, on the subspace")
        ]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_figures_of_chains():
    """Independent draws are all effective; a constant shift of one chain is seen.

    The number has a standard error of 6%; an R-hat of 1.01 of halves of 250 draws is an
    F(7, 1992) of 6, one case in a million.
    """
    draws = np.random.default_rng(0).normal(size=(4, 500, 3))
    chains = Chains({"x": draws}, 0, 20_000, 1.0, 1.0, 2.0)
    found = chains.outcome([draws[..., 0], draws[..., 1:]])
    assert 1200 < found["min_ess"] < 2800 and found["r_hat"] < 1.01
    assert found["min_ess_per_second"] == found["min_ess"] / 2.0
    assert found["steps_per_draw"] == 10 and found["step_microseconds"] == pytest.approx(100)
    shifted = draws + np.array([0.0, 0.0, 0.0, 2.0])[:, None, None]
    assert chains.outcome([shifted])["r_hat"] > 1.2


def test_short(tmp_path):
    runs = main(["--short", "--folder", str(tmp_path)])
    assert list(runs["method"]) == ["ours, white noise"] and runs["residual"].max() < 1e-10
    assert ratios(runs).isna().all(), "the reference has not run"
    assert "velocities leave 27 free" in (tmp_path / "reconciliation.md").read_text()
    assert (tmp_path / "reconciliation.png").exists()
