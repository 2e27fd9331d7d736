"""The statistical tests themselves: they keep the right law and find a wrong one."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tests import chance
from tests.chance import FALSE_ALARM, assert_likely

COV = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])


def test_one_p_value_of_many():
    assert_likely([0.5, 0.1], 2e-6, [])
    with pytest.raises(AssertionError, match="of 3"):
        assert_likely([0.5, 0.1], 2e-7)


@pytest.mark.parametrize("pmf", [[0.02, 0.98], [0.3, 0.7], [0.1, 0.2, 0.7], [0.01, 0.04, 0.95]])
def test_bound_of_counts_by_enumeration(pmf: list[float]):
    """Counts whose bound is below a level come up with less than that probability."""
    number, size = 20, len(pmf)
    found = [c for c in product(range(number + 1), repeat=size) if sum(c) == number]
    probability = stats.multinomial(number, pmf).pmf(found)
    bound = np.array([chance.of_counts(counts, pmf) for counts in found])
    for level in (0.1, 1e-3, FALSE_ALARM):
        assert probability[bound <= level].sum() <= level
    assert bound.min() < FALSE_ALARM


def test_counts_of_what_cannot_be():
    assert chance.of_counts([3, 7, 0], [0.3, 0.7, 0.0]) == 1.0
    with pytest.raises(AssertionError):
        chance.of_counts([3, 6, 1], [0.3, 0.7, 0.0])


def normal(rng: np.random.Generator, number: int) -> np.ndarray:
    return MEAN + rng.normal(size=(number, 3)) @ np.linalg.cholesky(COV).T


def student(rng: np.random.Generator, number: int) -> np.ndarray:
    """With covariance COV."""
    scale = np.sqrt(5 / rng.chisquare(5, size=(number, 1)))
    return MEAN + scale * (normal(rng, number) - MEAN) * np.sqrt(3 / 5)


@pytest.mark.parametrize("draw, df", [(normal, np.inf), (student, 5.0)])
def test_moments_of_the_right_law(rng, draw, df: float):
    """Their p-values are uniform."""
    p = np.array([chance.of_moments(draw(rng, 50), MEAN, COV, df=df) for _ in range(200)])
    assert_likely([stats.kstest(one, "uniform").pvalue for one in p.T])


@pytest.mark.parametrize(
    "mean, cov",
    [(MEAN + [0.3, 0.0, 0.0], COV), (MEAN, 1.4 * COV), (MEAN, COV * (1.5 * np.eye(3) - 0.5))],
    ids=["mean", "variance", "correlation"],
)
def test_moments_of_a_wrong_law_are_found(rng, mean: np.ndarray, cov: np.ndarray):
    with pytest.raises(AssertionError):
        assert_likely(chance.of_moments(normal(rng, 1000), mean, cov))


def test_means_and_correlations(rng):
    draws = rng.normal(size=(200, 30, 4)) + np.arange(4)
    assert_likely([chance.of_means(one, np.arange(4)) for one in draws])
    assert (chance.of_means(draws[0], np.arange(4) + 2.0) < FALSE_ALARM).all()
    assert_likely([chance.of_correlations(one) for one in draws])
    assert chance.of_correlations(draws[0, :, [0, 0]].T + 1e-3 * draws[0, :, :2]) < FALSE_ALARM
    assert chance.of_means(np.full((5, 2), 0.25), [0.25, 0.5]).tolist() == [1.0, 0.0]


def chain(rng: np.random.Generator, number: int, correlation: float = 0.6) -> np.ndarray:
    """Standard normal, each draw correlated with the one before."""
    found = rng.normal(size=number)
    for i in range(1, number):
        found[i] = correlation * found[i - 1] + np.sqrt(1 - correlation**2) * found[i]
    return found


def test_chains(rng):
    p_values = []
    for _ in range(30):
        x = chain(rng, 400)
        p_values.append(chance.of_chain_mean(x, 0.0, 1.0))
        p_values.append(chance.of_frequency(x > 1.5, stats.norm.sf(1.5)))
        p_values += list(chance.of_moments(x[:, None], np.zeros(1), np.eye(1), is_chain=True))
    assert_likely(p_values)
    assert np.mean(np.array(p_values) < 0.3) > 0.1, "they are not all 1"
    long = chain(rng, 2000)
    assert 150 < chance.effective_number(long) < 600, "500 with caution"
    assert chance.of_chain_mean(long, 0.5, 1.0) < FALSE_ALARM
    assert chance.of_frequency(long > 0, 0.8) < FALSE_ALARM
