"""What a sequence of weights earns, what its trading costs, and how sure its Sharpe ratio is."""

from typing import NamedTuple

import numpy as np

from experiments.portfolio.market import TRADING_DAYS


class Track(NamedTuple):
    """Daily record of a portfolio.

    Attributes:
        returns: ``(days,)`` before the costs of trading.
        turnover: ``(days,)`` sum over assets of |weight bought or sold|; 0 on days without trade.
    """

    returns: np.ndarray
    turnover: np.ndarray

    def after_cost(self, cost: float) -> np.ndarray:
        """``(days,)`` returns less the cost per unit of turnover."""
        return self.returns - cost * self.turnover


def trade(weights: np.ndarray, days: np.ndarray, returns: np.ndarray, stop: int) -> Track:
    """Trade at the close of the days of decision, hold until the next; weights drift in between.

    Args:
        weights: ``(decisions, n)``; what they leave of 1 is cash that earns nothing.
        days: ``(decisions,)`` rows of ``returns``, rising.
        returns: ``(all days, n)``.
        stop: row after the last day that counts.

    Returns:
        The days after the first decision; the cost of a decision falls on the day after it.
    """
    earned, turnover = np.zeros(stop - days[0] - 1), np.zeros(stop - days[0] - 1)
    held = np.zeros(weights.shape[1])
    for target, day, last in zip(weights, days, [*days[1:], stop - 1], strict=True):
        place = day - days[0]
        turnover[place] = np.abs(target - held).sum()
        growth = np.cumprod(1 + returns[day + 1 : last + 1], axis=0)
        value = 1 + (growth - 1) @ target
        earned[place : place + len(value)] = value / np.concatenate([[1.0], value[:-1]]) - 1
        held = target * growth[-1] / value[-1]
    return Track(earned, turnover)


def sharpe(returns: np.ndarray) -> np.ndarray:
    """Annualised ratio of mean to standard deviation along the last axis; no rate is deducted."""
    return returns.mean(-1) / returns.std(-1) * np.sqrt(TRADING_DAYS)


def bootstrap_sharpe(
    series: np.ndarray, draws: int, block: int, rng: np.random.Generator
) -> np.ndarray:
    """``(draws, series)`` Sharpe ratios of resampled days, the same days for all series.

    Circular blocks of consecutive days keep the dependence in time (Politis and Romano 1992).

    Args:
        series: ``(series, days)`` daily returns.
    """
    num_days = series.shape[1]
    starts = rng.integers(num_days, size=(draws, -(-num_days // block)))
    ratios = []
    for start in starts:
        rows = (start[:, None] + np.arange(block)).ravel()[:num_days] % num_days
        ratios.append(sharpe(series[:, rows]))
    return np.array(ratios)
