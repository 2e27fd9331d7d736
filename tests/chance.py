"""Statistical tests whose probability of a false alarm is stated: one in a million, once for all.

Seeds make runs repeatable on one machine only. Another processor's last bits can send a sampler
along another path, which is another seed: a bound has to hold for those as well. So draws are
turned into p-values that are right in the tails too, and these are held to FALSE_ALARM together.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

FALSE_ALARM = 1e-6
"""Probability that one call of `assert_likely` fails though the law is right."""

CAUTION = 1.5
"""Numbers of effective draws, which are estimated from the draws themselves, are divided by it."""


def assert_likely(*p_values: Any) -> None:
    """None of the p-values is too small for so many of them (Bonferroni)."""
    every = np.concatenate([np.ravel(p) for p in p_values])
    smallest = every.min(initial=1.0)
    assert smallest >= FALSE_ALARM / max(every.size, 1), f"{smallest:.1e}, of {every.size}"


def two_sided(z: Any) -> np.ndarray:
    """Of standard normal errors."""
    return 2 * special.ndtr(-np.abs(z))


def of_means(draws: Any, expected: Any) -> np.ndarray:
    """Of the means of independent draws ``(number, ...)`` with unknown variance, by Student's t.

    The draws have to be near normal or many, so that draws of a skew law are averaged first.
    """
    draws = np.asarray(draws)
    number = len(draws)
    error = draws.std(0, ddof=1) / np.sqrt(number)
    gap = np.abs(draws.mean(0) - expected)
    exact = gap <= 1e-9 * (1 + np.abs(expected))  # of estimates without noise
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(exact, 1.0, 2 * special.stdtr(number - 1, -gap / error))


def of_correlations(draws: np.ndarray) -> np.ndarray:
    """Of the correlations between the columns of independent draws ``(number, size)``."""
    number, size = draws.shape
    r = np.corrcoef(draws.T).reshape(size, size)[np.triu_indices(size, 1)]
    return 2 * special.stdtr(number - 2, -np.abs(r) * np.sqrt((number - 2) / (1 - r**2)))


def of_counts(counts: Any, probabilities: Any) -> float:
    """A bound on the p-value of multinomial counts that holds for any number of draws.

    N KL(frequencies | probabilities) exceeds x > c - 1 with probability at most
    exp(-x) (e x / (c - 1))^(c - 1) for c categories (Agrawal 2020). The p-value of a chi-square
    test is an approximation, and off by orders of magnitude where it is small.
    """
    counts, probabilities = np.asarray(counts, float), np.asarray(probabilities, float)
    assert counts[probabilities == 0].sum() == 0
    number, freedom = counts.sum(), np.count_nonzero(probabilities) - 1
    information = special.rel_entr(counts, number * probabilities / probabilities.sum()).sum()
    if information <= freedom or freedom == 0:
        return 1.0
    return float(np.exp(freedom - information + freedom * np.log(information / freedom)))


def rare_together(
    counts: np.ndarray, probabilities: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Categories expected fewer than `least` times become one."""
    common = probabilities * counts.sum() >= least
    return tuple(np.append(part[common], part[~common].sum()) for part in (counts, probabilities))


def effective_number(series: np.ndarray) -> float:
    """Of one chain ``(number,)``, by ArviZ, with caution; never more than there are draws."""
    arviz = pytest.importorskip("arviz")
    found = arviz.ess(series) if np.ptp(series) > 0 else np.nan
    return float(np.clip(np.nan_to_num(found) / CAUTION, 1, len(series)))


def of_chain_mean(series: Any, mean: float, deviation: float) -> float:
    """Of the mean of one chain ``(number,)``, where a draw has this mean and deviation."""
    series = np.asarray(series)
    z = (series.mean() - mean) / deviation
    return float(two_sided(z * np.sqrt(effective_number(series))))


def of_moments(
    draws: np.ndarray,
    mean: np.ndarray,
    cov: np.ndarray,
    *,
    df: float = np.inf,
    excess: float = 0.0,
    is_chain: bool = False,
) -> np.ndarray:
    """Of the mean and covariance of draws ``(number, size)`` of a normal law, or of a t.

    They are seen along each whitened coordinate and the diagonals of each pair of them, where
    means are normal and sums of squares chi-square variables, of as many degrees of freedom as
    there are effective draws.

    Args:
        df: degrees of freedom of the t.
        excess: kurtosis of the law, less the 3 of the normal one, along any direction at most.
        is_chain: whether the draws are those of a Markov chain, one after the other.
    """
    found = []
    for z in _along(_whitened(draws, mean, cov, df)):
        numbers = [effective_number(s) for s in (z, z**2)] if is_chain else [len(z)] * 2
        freedom = numbers[1] / (1 + excess / 2)
        squares = freedom, freedom * np.mean(z**2)
        found.append(two_sided(z.mean() * np.sqrt(numbers[0])))
        found.append(2 * min(special.chdtr(*squares), special.chdtrc(*squares)))
    return np.array(found)


def _whitened(draws: np.ndarray, mean: np.ndarray, cov: np.ndarray, df: float) -> np.ndarray:
    """Coordinates in which the law is standard normal; directions without variance left out."""
    scale, basis = np.linalg.eigh(cov if np.isinf(df) else cov * (df - 2) / df)
    free = scale > 1e-10 * scale.max()
    return normal_scores((draws - mean) @ basis[:, free] / np.sqrt(scale[free]), df)


def normal_scores(white: np.ndarray, df: float) -> np.ndarray:
    """Draws of the standard t ``(number, size)`` moved along their rays to be standard normal."""
    if np.isinf(df):
        return white
    size = white.shape[-1]
    squared = np.sum(white**2, axis=-1, keepdims=True)
    normal = stats.chi2(size).isf(stats.f(size, df, scale=size).sf(squared))
    return white * np.sqrt(normal / squared)


def _along(white: np.ndarray) -> Iterator[np.ndarray]:
    columns = white.T
    yield from columns
    for i, one in enumerate(columns):
        for other in columns[:i]:
            yield (one + other) / np.sqrt(2)
            yield (one - other) / np.sqrt(2)


def of_frequency(hits: np.ndarray, probability: float) -> float:
    """Of how often an event happened in a chain ``(number,)`` of booleans.

    As many binomial draws as are effective; their number and the hits are rounded to the side of
    the law.
    """
    number = int(effective_number(hits.astype(float)))
    count = number * hits.mean()
    law = stats.binom(number, probability)
    low, high = law.cdf(np.ceil(count)), law.sf(np.floor(count) - 1)
    return float(min(1.0, 2 * low, 2 * high))
