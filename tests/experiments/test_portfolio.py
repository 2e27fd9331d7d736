"""Portfolios: weights, accounts and errors against other ways of working them out."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from experiments.portfolio.__main__ import main
from experiments.portfolio.backtest import bootstrap_sharpe, sharpe, trade
from experiments.portfolio.comparison import METHODS
from experiments.portfolio.market import SECTORS, decide, load_market, sector_law, window_days
from experiments.portfolio.methods import ExpectedLoss, Ours, utility
from experiments.portfolio.network import Forecast, Forecaster, Known
from experiments.portfolio.settings import Settings
from tests.chance import assert_likely, of_means

SETTINGS = Settings()
OBEYING = [
    name
    for name in METHODS
    if name not in ("unconstrained", "soft penalty", "semantic loss", "softmax")
]


@pytest.fixture(scope="module")
def market():
    return load_market()


@pytest.fixture
def forecast(rng):
    root = np.tril(0.02 * rng.normal(size=(3, 20, 20))) + 0.05 * np.eye(20)
    score, mean = torch.randn(3, 20), 0.01 * torch.randn(3, 20)
    return Forecast(score, mean, torch.linalg.cholesky(torch.as_tensor(root @ root.mT)))


def test_sectors_partition_the_assets(market):
    law = sector_law()
    assert law.A.shape == (1 + len(SECTORS), market.returns.shape[1]) == (8, 20)
    np.testing.assert_array_equal(law.A[1:].sum(0), 1.0)
    np.testing.assert_allclose(law.A @ np.full(20, 0.05), law.k)
    assert np.linalg.matrix_rank(law.A) == 7


def test_decisions_know_nothing_of_later_days(market):
    day = 5000
    changed = market.returns.copy()
    changed[day + 1 :] += 0.1
    before, after = (
        decide(market._replace(returns=returns), np.array([day]), SETTINGS)
        for returns in (market.returns, changed)
    )
    for name in ("features", "volatility", "correlation"):
        np.testing.assert_allclose(getattr(before, name), getattr(after, name), atol=1e-13)
    expected = np.prod(1 + market.returns[day + 1 : day + 22], axis=0) - 1
    np.testing.assert_allclose(before.outcome[0], expected)


def test_all_that_is_learned_from_is_finite(market):
    first = window_days(market, SETTINGS.first_years[0], SETTINGS)
    for part in decide(market, first.training[:800], SETTINGS):
        assert np.isfinite(part).all()


def test_windows_learn_from_earlier_days_only(market):
    windows = [window_days(market, year, SETTINGS) for year in SETTINGS.first_years]
    for window, year in zip(windows, SETTINGS.first_years, strict=True):
        assert window.training[-1] + SETTINGS.holding_days == window.trading[0]
        assert market.days[window.trading[0]].year < year == market.days[window.trading[0] + 1].year
        assert market.days[window.stop - 1].year == year + SETTINGS.years - 1
        assert window.training[0] >= SETTINGS.memory_days - 1
    assert all(one.stop - 1 == other.trading[0] for one, other in pairwise(windows))


def test_the_law_of_the_weights_has_the_best_weights_as_its_mean(forecast):
    law, method = sector_law(), Ours(sector_law(), SETTINGS)
    covariance, mean = forecast.covariance[0].numpy(), forecast.mean[0].numpy()
    system = np.block(
        [[SETTINGS.risk_aversion * covariance, law.A[1:].T], [law.A[1:], np.zeros((7, 7))]]
    )
    best = np.linalg.solve(system, np.concatenate([mean, law.k[1:]]))[:20]
    weights = method.weights(forecast).numpy()
    np.testing.assert_allclose(weights[0], best, atol=1e-9)
    np.testing.assert_allclose(weights @ law.A.T, np.tile(law.k, (3, 1)), atol=1e-14)


def test_expected_loss_is_that_of_many_draws(forecast):
    method = ExpectedLoss(sector_law(), replace(SETTINGS, draw_scale=1.0))
    outcome = 0.1 * torch.randn(3, 20)
    draws = method.weights_law(forecast).sample((100_000,))
    losses = -utility(draws, outcome, SETTINGS)
    assert_likely(of_means(losses, method.loss(forecast, outcome).numpy()))


@pytest.mark.parametrize("name", OBEYING)
def test_weights_obey_the_law(name, forecast):
    law = sector_law()
    weights = METHODS[name](law, SETTINGS).weights(forecast).numpy()
    tolerance = {"Sinkhorn (LinSATNet)": 1e-3, "quadratic programme (cvxpylayers)": 1e-5}
    np.testing.assert_allclose(
        weights @ law.A.T, law.k + np.zeros((3, 8)), atol=tolerance.get(name, 1e-12)
    )


def test_quadratic_programme_against_scipy(forecast):
    law, method = sector_law(), METHODS["quadratic programme (cvxpylayers)"](sector_law(), SETTINGS)
    covariance, mean = forecast.covariance[0].numpy(), forecast.mean[0].numpy()

    def loss(w):
        return 0.5 * SETTINGS.risk_aversion * w @ covariance @ w - mean @ w

    rows = {"type": "eq", "fun": lambda w: law.A[1:] @ w - law.k[1:]}
    start = np.full(20, 0.05)
    found = minimize(loss, start, constraints=rows, bounds=[(0, 1)] * 20, options={"ftol": 1e-14})
    np.testing.assert_allclose(method.weights(forecast)[0], found.x, atol=1e-3)
    assert loss(method.weights(forecast)[0].numpy()) < loss(found.x) + 1e-6


def test_accounts_against_a_ledger(rng):
    returns, weights = 0.05 * rng.normal(size=(12, 3)), rng.normal(size=(3, 3))
    track = trade(weights, np.array([1, 5, 9]), returns, stop=11)
    shares, cash, values, turnover = np.zeros(3), 1.0, [1.0], []
    for day in range(1, 10):
        if day in (1, 5, 9):
            target = weights[[1, 5, 9].index(day)] * values[-1]
            turnover.append(np.abs(target - shares).sum() / values[-1])
            shares, cash = target, values[-1] - target.sum()
        else:
            turnover.append(0.0)
        shares = shares * (1 + returns[day + 1])
        values.append(shares.sum() + cash)
    np.testing.assert_allclose(track.returns, np.diff(values) / values[:-1], atol=1e-12)
    np.testing.assert_allclose(track.turnover, turnover, atol=1e-12)
    after = track.after_cost(0.001)
    np.testing.assert_allclose(after, track.returns - 0.001 * track.turnover)


def test_standard_error_of_independent_days(rng):
    """Of 1,440 blocks and 1,000 draws the spread has a standard error of 2.9%, the mean of .003."""
    years, ratio = 120, 1.0
    series = 0.01 * rng.normal(size=(2, 252 * years)) + 0.01 * ratio / 252**0.5
    drawn = bootstrap_sharpe(series, 1000, 21, rng)
    np.testing.assert_allclose(drawn.std(0), np.sqrt((1 + ratio**2 / 504) / years), rtol=0.15)
    np.testing.assert_allclose(drawn.mean(0), sharpe(series), atol=0.02)
    alike = bootstrap_sharpe(np.stack([series[0], 2 * series[0]]), 10, 21, rng)
    np.testing.assert_allclose(alike[:, 0], alike[:, 1])


def test_the_net_starts_from_knowing_nothing(market):
    known = Known.of(decide(market, np.array([3000]), SETTINGS))
    forecast = Forecaster(4).double()(known)
    assert not forecast.mean.any()
    spread = forecast.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    np.testing.assert_allclose(spread.detach(), known.volatility)


def test_short_run(tmp_path):
    frame = main(["--short", "--folder", str(tmp_path), "--only", "ours, e"])
    assert list(frame["method"]) == ["ours, expected loss"]
    assert frame["residual"].max() < 1e-14 and np.isfinite(frame["sharpe"]).all()
    assert (tmp_path / "portfolio.png").stat().st_size > 10_000
    assert "basis points" in (tmp_path / "portfolio.md").read_text()
