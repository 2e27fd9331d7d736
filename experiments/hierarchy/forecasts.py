"""Base forecasts of every node on its own, and how their errors vary together."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from experiments.hierarchy.tourism import QUARTERS

GRID = np.linspace(0.0, 1.0, 21)
"""Smoothing parameters that are tried."""

DEGREES = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 1000.0)
"""Degrees of freedom that are tried."""


@dataclass(frozen=True)
class Smoothing:
    """States of additive exponential smoothing with seasons and no trend, for each series.

    Attributes:
        series: ``(quarters, series)``.
        level: ``(quarters, series)`` after each quarter.
        season: ``(quarters, series)`` of each quarter.
    """

    series: np.ndarray
    level: np.ndarray
    season: np.ndarray

    @classmethod
    def run(cls, series: np.ndarray, alpha: np.ndarray, gamma: np.ndarray) -> "Smoothing":
        """Filter; the first year gives the first level and seasons.

        Args:
            series: ``(quarters, series)``.
            alpha, gamma: ``(..., series)`` how fast levels and seasons learn.
        """
        shape = len(series), *np.broadcast_shapes(alpha.shape, gamma.shape)
        level, season = np.empty(shape), np.empty(shape)
        level[:QUARTERS] = series[:QUARTERS].mean(0)
        season[:QUARTERS] = _like(series[:QUARTERS], shape) - level[:QUARTERS]
        for t in range(QUARTERS, len(series)):
            level[t] = level[t - 1] + alpha * (series[t] - season[t - QUARTERS] - level[t - 1])
            step = series[t] - level[t] - season[t - QUARTERS]
            season[t] = season[t - QUARTERS] + gamma * step
        return cls(_like(series, shape), level, season)

    @classmethod
    def fit(cls, series: np.ndarray) -> "Smoothing":
        """Parameters of each series with the least squared error one quarter ahead."""
        alpha, gamma = (part.reshape(-1, 1) for part in np.meshgrid(GRID, GRID, indexing="ij"))
        tried = cls.run(series, alpha + np.zeros(series.shape[1]), gamma)
        best = np.square(tried.errors(1)).sum(0).argmin(0)
        return cls.run(series, alpha[best, 0], gamma[best, 0])

    def forecast(self, horizon: int) -> np.ndarray:
        """``(..., series)`` some quarters ahead of the last, four at most."""
        return self.level[-1] + self.season[len(self.season) + horizon - 1 - QUARTERS]

    def errors(self, horizon: int) -> np.ndarray:
        """``(quarters - 4 - horizon + 1, ..., series)`` of forecasts within the series."""
        first = QUARTERS - 1 + horizon
        season = self.season[first - QUARTERS : len(self.season) - QUARTERS]
        return self.series[first:] - self.level[first - horizon : -horizon] - season


def _like(series: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``(quarters, series)`` with axes of size 1 between."""
    return series.reshape(len(series), *(1,) * (len(shape) - 2), series.shape[-1])


def shrunk_covariance(errors: np.ndarray) -> np.ndarray:
    """Covariance about zero of ``(draws, n)`` errors, correlations shrunk towards none.

    The intensity is that of Schaefer and Strimmer (2005): the sum of the variances of the
    correlations over the sum of their squares.
    """
    scale = np.sqrt(np.square(errors).mean(0))
    unit = errors / scale
    products = unit[:, :, None] * unit[:, None, :]
    correlation = products.mean(0)
    off = ~np.eye(len(scale), dtype=bool)
    noise = products.var(0, ddof=1)[off].sum() / len(errors)
    intensity = min(1.0, noise / np.square(correlation[off]).sum())
    shrunk = np.where(off, (1 - intensity) * correlation, 1.0)
    return shrunk * np.outer(scale, scale)


def split_covariance(errors: np.ndarray, covariance: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The covariance, with less between the part of the errors that adds up and the part that does
    not: both are shrunk towards independence, by the intensity of their own correlations.

    With none of it, the mean given ``rows x = 0`` is the nearest point, OLS: what forecasts miss in
    their sums then tells nothing of the rest.

    Args:
        errors: ``(draws, n)``.
        covariance: ``(n, n)`` of them.
        rows: ``(m, n)`` of the sums.
    """
    across = np.linalg.pinv(rows) @ rows
    along = np.eye(len(across)) - across
    one, other = (
        part / np.sqrt(np.square(part).mean(0)) for part in (errors @ along, errors @ rows.T)
    )
    products = one[:, :, None] * other[:, None, :]
    noise = products.var(0, ddof=1).sum() / len(errors)
    intensity = min(1.0, noise / np.square(products.mean(0)).sum())
    cross = along @ covariance @ across
    return covariance - intensity * (cross + cross.T)


def likely_df(errors: np.ndarray, covariance: np.ndarray) -> float:
    """The most likely degrees of freedom of a Student-t law of ``(draws, n)`` errors with mean zero
    and this covariance."""

    def surprise(df: float) -> float:
        return -stats.multivariate_t(shape=covariance * (1 - 2 / df), df=df).logpdf(errors).sum()

    return min(DEGREES, key=surprise)
