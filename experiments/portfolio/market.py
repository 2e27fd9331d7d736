"""Prices, what is known at a decision, what follows from it, and the law of the weights."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from skfolio.datasets import load_sp500_dataset

from experiments.portfolio.settings import Settings

SECTORS = {
    "information technology": ("AAPL", "AMD", "MSFT"),
    "financials": ("BAC", "JPM"),
    "consumer discretionary": ("BBY", "HD"),
    "energy": ("CVX", "RRC", "XOM"),
    "industrials": ("GE",),
    "health care": ("JNJ", "LLY", "MRK", "PFE", "UNH"),
    "consumer staples": ("KO", "PEP", "PG", "WMT"),
}
"""Sectors of the Global Industry Classification Standard (MSCI and S&P), as of the end of 2022."""

TRADING_DAYS = 252
"""In a year."""

STILL = 0.1
"""Least ratio of recent to usual volatility: early on, a price may stand still for a month."""

HORIZONS = (5, 21, 63, 252)
"""Trading days over which past returns are features."""


class Law(NamedTuple):
    """Budget and sector neutrality: A w = k.

    The budget is the first row; it follows from the others, since sectors partition the assets.

    Attributes:
        A: ``(1 + sectors, n)`` of ones and zeros.
        k: ``(1 + sectors,)``: 1, and the weight of each sector where all assets have the same.
    """

    A: np.ndarray
    k: np.ndarray


class Market(NamedTuple):
    """Daily returns of the assets.

    Attributes:
        days: ``(days,)``.
        returns: ``(days, n)``, from the close of the day before.
    """

    days: pd.DatetimeIndex
    returns: np.ndarray


class Decisions(NamedTuple):
    """What is known at the close of some days, and the returns until the next decision.

    Attributes:
        day: ``(decisions,)`` row of the last return that is known.
        features: ``(decisions, n, f)``.
        volatility: ``(decisions, n)`` of the returns over a holding, from the past.
        correlation: ``(decisions, n, n)`` from the past, shrunk.
        outcome: ``(decisions, n)`` returns over the holding that follows; used to learn only from
            days before the window.
    """

    day: np.ndarray
    features: np.ndarray
    volatility: np.ndarray
    correlation: np.ndarray
    outcome: np.ndarray


def load_market() -> Market:
    """20 shares of the S&P 500, 1990 to 2022, in the order of their symbols."""
    returns = load_sp500_dataset().sort_index(axis=1).pct_change().dropna()
    return Market(pd.DatetimeIndex(returns.index), returns.to_numpy())


def sector_law() -> Law:
    """The law of the weights, assets in the order of their symbols."""
    symbols = sorted(symbol for members in SECTORS.values() for symbol in members)
    rows = [[symbol in members for symbol in symbols] for members in SECTORS.values()]
    A = np.vstack([np.ones(len(symbols)), np.array(rows, dtype=float)])
    return Law(A, A.mean(1))


def decide(market: Market, days: np.ndarray, settings: Settings) -> Decisions:
    """What is known at the close of each of the days, and what follows.

    A holding that the data end in is cut short.
    """
    parts = [_decision(market.returns, int(day), settings) for day in days]
    return Decisions(np.asarray(days), *map(np.stack, zip(*parts, strict=True)))


def _decision(returns: np.ndarray, day: int, settings: Settings) -> tuple[np.ndarray, ...]:
    past = returns[day + 1 - settings.memory_days : day + 1]
    ahead = returns[day + 1 : day + 1 + settings.holding_days]
    daily = past.std(0)
    correlation = (1 - settings.shrinkage) * np.corrcoef(past.T)
    correlation += settings.shrinkage * np.eye(returns.shape[1])
    return (
        _features(past, daily),
        daily * np.sqrt(settings.holding_days),
        correlation,
        np.prod(1 + ahead, axis=0) - 1,
    )


def _features(past: np.ndarray, daily: np.ndarray) -> np.ndarray:
    """``(n, f)`` past returns over their volatility, and the recent volatility over the usual."""
    trends = [past[-h:].sum(0) / (daily * np.sqrt(h)) for h in HORIZONS]
    restlessness = np.maximum(past[-21:].std(0) / daily, STILL)
    return np.stack([*trends, np.log(restlessness)], axis=-1)


class Window(NamedTuple):
    """Days of a window.

    Attributes:
        training: rows of the days to learn from; their holdings end before the window.
        trading: rows of the days of decision.
        stop: row after the last day.
    """

    training: np.ndarray
    trading: np.ndarray
    stop: int


def window_days(market: Market, first_year: int, settings: Settings) -> Window:
    """Days to learn from and days of decision for a window of some years.

    The first decision falls on the last day before the window.
    """
    year = market.days.year.to_numpy()
    start = int(np.argmax(year >= first_year)) - 1
    stop = int(np.searchsorted(year, first_year + settings.years))
    learn_from = int(np.argmax(year >= first_year - settings.training_years))
    learn_from = max(learn_from, settings.memory_days - 1)
    return Window(
        training=np.arange(learn_from, start + 1 - settings.holding_days),
        trading=np.arange(start, stop - 1, settings.holding_days),
        stop=stop,
    )
