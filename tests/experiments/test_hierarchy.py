"""The hierarchy adds up, its forecasts and scores are right, and ours is MinT."""

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.hierarchy.__main__ import main
from experiments.hierarchy.cases import Case
from experiments.hierarchy.forecasts import (
    Smoothing,
    likely_df,
    shrunk_covariance,
    split_covariance,
)
from experiments.hierarchy.laws import METHODS, Forecast, incoherence, minimum_trace, ours
from experiments.hierarchy.tourism import load_hierarchy
from numpyro_constrained import ConstrainedMultivariateStudentT

HIERARCHY = load_hierarchy()


@pytest.fixture(scope="module")
def case():
    return Case.at(HIERARCHY, origin=60, horizon=2)


def test_the_tree_adds_up():
    assert HIERARCHY.nights.shape == (76, 20) and HIERARCHY.summing.shape == (27, 20)
    assert not (HIERARCHY.coherence @ HIERARCHY.summing).any()
    assert np.linalg.matrix_rank(HIERARCHY.coherence) == 7
    sums = HIERARCHY.coherence @ HIERARCHY.series.T
    np.testing.assert_allclose(sums, 0.0, atol=1e-12)


def smoothed_by_hand(series, alpha, gamma):
    """Forecasts of one series one quarter ahead, from the second year on."""
    level = sum(series[:4]) / 4
    seasons = [value - level for value in series[:4]]
    found = []
    for t in range(4, len(series)):
        found.append(level + seasons[t - 4])
        level = alpha * (series[t] - seasons[t - 4]) + (1 - alpha) * level
        seasons.append(gamma * (series[t] - level) + (1 - gamma) * seasons[t - 4])
    return np.array(found)


def test_smoothing(rng):
    series = rng.normal(size=(20, 3))
    alpha, gamma = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.0, 1.0])
    found = Smoothing.run(series, alpha, gamma)
    by_hand = [smoothed_by_hand(*given) for given in zip(series.T, alpha, gamma, strict=True)]
    np.testing.assert_allclose(series[4:] - found.errors(1), np.array(by_hand).T, atol=1e-12)


@pytest.mark.parametrize("horizon", [1, 2, 3, 4])
def test_errors_are_those_of_forecasts_from_what_was_known(rng, horizon):
    series, alpha, gamma = rng.normal(size=(15, 2)), np.array([0.3, 0.6]), np.array([0.1, 0.4])
    errors = Smoothing.run(series, alpha, gamma).errors(horizon)
    targets = range(3 + horizon, len(series))
    for error, target in zip(errors, targets, strict=True):
        known = Smoothing.run(series[: target - horizon + 1], alpha, gamma)
        np.testing.assert_allclose(error, series[target] - known.forecast(horizon), atol=1e-12)


def test_fit_has_the_least_error(rng):
    series = rng.normal(size=(24, 2)).cumsum(0)
    best = np.square(Smoothing.fit(series).errors(1)).sum(0)
    for alpha, gamma in ((0.0, 0.0), (0.5, 0.5), (1.0, 0.1)):
        other = Smoothing.run(series, np.full(2, alpha), np.full(2, gamma))
        assert (best <= np.square(other.errors(1)).sum(0) + 1e-12).all()


def test_shrinkage(rng):
    errors = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4))
    unit = errors / np.sqrt((errors**2).mean(0))
    noise = square = 0.0
    for i in range(4):
        for j in set(range(4)) - {i}:
            products = unit[:, i] * unit[:, j]
            noise += products.var(ddof=1) / len(errors)
            square += products.mean() ** 2
    found = shrunk_covariance(errors)
    plain = errors.T @ errors / len(errors)
    expected = np.where(np.eye(4), plain, (1 - noise / square) * plain)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_split_covariance(rng):
    """Unrelated parts give the OLS projection; parts that determine each other stay as they are."""
    rows = HIERARCHY.coherence
    n = rows.shape[1]
    along = np.eye(n) - np.linalg.pinv(rows) @ rows
    errors = rng.normal(size=(2000, n))
    covariance = errors.T @ errors / len(errors)
    found = split_covariance(errors, covariance, rows)
    np.testing.assert_allclose(found, found.T, atol=1e-14)
    assert np.linalg.eigvalsh(found)[0] > 0
    for part in (along, np.eye(n) - along):  # only what is between the parts is shrunk
        np.testing.assert_allclose(part @ found @ part, part @ covariance @ part, atol=1e-12)
    kept = np.sum(along @ found @ (along - np.eye(n)) * (along @ covariance @ (along - np.eye(n))))
    whole = np.square(along @ covariance @ (along - np.eye(n))).sum()
    assert abs(kept / whole) < 0.2  # of chance correlations next to nothing is left
    tied = np.repeat(rng.normal(size=(2000, 1)), n, axis=1) * np.arange(1.0, n + 1)
    whole = tied.T @ tied / len(tied)
    # The intensity is 2 / draws, what a product of two normals varies by; entries differ in size.
    atol = 0.005 * whole.max()
    np.testing.assert_allclose(split_covariance(tied, whole, rows), whole, rtol=0, atol=atol)


def test_ours_is_minimum_trace(case):
    agreement = case.agreement(HIERARCHY, num_draws=10)
    assert agreement["from_mint"] < 1e-12 and agreement["covariance_from_mint"] < 1e-12
    assert agreement["residual"] < 1e-12


def test_scores(case):
    """Those of the library, and an integral over the distribution function."""
    law = ours(HIERARCHY, case.base)
    forecast = METHODS["ours, full covariance"](HIERARCHY, case.base)
    np.testing.assert_allclose(forecast.crps(case.truth), law.crps(case.truth), rtol=1e-10)
    log_score = forecast.log_score(case.truth, HIERARCHY.levels["regions"])
    stretch = 0.5 * np.linalg.slogdet(HIERARCHY.summing.T @ HIERARCHY.summing)[1]
    np.testing.assert_allclose(log_score, law.log_prob(case.truth) + stretch, rtol=1e-9)


@pytest.mark.parametrize("df", [np.inf, 5.0])
def test_scores_of_one_node(df):
    """By an integral over the distribution function; a variance of 4."""
    scale = 2 * np.sqrt(1 - 2 / df)
    law = stats.t(df, 0.3, scale) if np.isfinite(df) else stats.norm(0.3, 2.0)
    forecast = Forecast(np.array([0.3]), np.array([[4.0]]), df)

    def gap(x):
        return (law.cdf(x) - (x >= 1.1)) ** 2

    expected = integrate.quad(gap, -200, 1.1)[0] + integrate.quad(gap, 1.1, 200)[0]
    np.testing.assert_allclose(forecast.crps(np.array([1.1])), expected, rtol=1e-6)
    np.testing.assert_allclose(forecast.log_score(np.array([1.1]), slice(0, 1)), law.logpdf(1.1))
    edge = law.ppf(0.75)
    assert forecast.is_inside(np.array([edge - 0.01]), 0.5)
    assert not forecast.is_inside(np.array([edge + 0.01]), 0.5)


def test_student_scores_are_those_of_the_library(case):
    forecast = METHODS["ours, Student-t"](HIERARCHY, case.base)
    rows, scale = HIERARCHY.coherence, np.sqrt(1 - 2 / case.base.df)
    law = ConstrainedMultivariateStudentT(
        case.base.df,
        case.base.mean,
        np.linalg.cholesky(case.base.covariance) * scale,
        rows,
        0 * rows[:, 0],
    )
    stretch = 0.5 * np.linalg.slogdet(HIERARCHY.summing.T @ HIERARCHY.summing)[1]
    log_score = forecast.log_score(case.truth, HIERARCHY.levels["regions"])
    np.testing.assert_allclose(log_score, law.log_prob(case.truth) + stretch, rtol=1e-9)


def test_the_most_likely_degrees_of_freedom_are_found():
    """The gain in likelihood over 4 and 6, next on the grid, is 9.4 and 5.6 times its error."""
    law = stats.multivariate_t(shape=np.eye(3), df=5, seed=0)
    assert likely_df(law.rvs(20_000), 5 / 3 * np.eye(3)) == 5.0


def test_all_but_two_ways_add_up(case):
    for name, method in METHODS.items():
        forecast = method(HIERARCHY, case.base)
        assert (incoherence(HIERARCHY, forecast) < 1e-9) == ("base" not in name), name
    one = METHODS["MinT mean, base covariance"](HIERARCHY, case.base)
    np.testing.assert_allclose(one.mean, minimum_trace(HIERARCHY, case.base).mean, rtol=1e-12)


def test_short(tmp_path):
    runs = main(["--short", "--folder", str(tmp_path)])
    assert len(runs) == 2 * 4 * len(METHODS)
    assert runs[["crps", "error", "log_score"]].notna().all(axis=None)
    table = (tmp_path / "hierarchy.md").read_text()
    assert "ours, full covariance" in table and (tmp_path / "hierarchy.png").exists()
