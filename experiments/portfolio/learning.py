"""Learning a net for each window and trading on its forecasts."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from experiments.portfolio.backtest import Track, bootstrap_sharpe, sharpe, trade
from experiments.portfolio.market import Decisions, Market, Window, decide
from experiments.portfolio.methods import Method
from experiments.portfolio.network import Forecaster, Known
from experiments.portfolio.settings import Settings


class Arena:
    """Windows with what is known and what follows, made once for all methods.

    Args:
        market: daily returns.
        windows: in order of time; they follow on each other.
    """

    def __init__(self, market: Market, windows: Sequence[Window], settings: Settings) -> None:
        self.market, self.windows = market, windows
        self.training = [decide(market, window.training, settings) for window in windows]
        self.trading = [decide(market, window.trading, settings) for window in windows]

    @property
    def days(self) -> np.ndarray:
        """Rows of all days of decision."""
        return np.concatenate([window.trading for window in self.windows])

    def track(self, weights: np.ndarray) -> Track:
        """Record of the portfolio with these weights ``(all decisions, n)``."""
        return trade(weights, self.days, self.market.returns, self.windows[-1].stop)

    def window_bounds(self) -> list[slice]:
        """Days of each window within a track."""
        starts = [window.trading[0] for window in self.windows]
        stops = [*starts[1:], self.windows[-1].stop - 1]
        return [slice(a - starts[0], b - starts[0]) for a, b in zip(starts, stops, strict=True)]


def learn(method: Method, decisions: Decisions, seed: int) -> Forecaster:
    """A net for a window, from random batches of the days before it."""
    settings = method.settings
    torch.manual_seed(seed)
    net = Forecaster(settings.hidden).double()
    if not method.learns:
        return net
    known, outcome = Known.of(decisions), torch.as_tensor(decisions.outcome)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    for _ in range(settings.steps):
        rows = torch.randint(len(outcome), (settings.batch_size,))
        loss = method.loss(net(known.take(rows)), outcome[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not loss.isfinite():
        raise FloatingPointError(f"expected a finite loss of {method}, got {loss.item()}")
    return net


def run(
    method: Method, arena: Arena, seed: int, advance: Callable[[], None]
) -> tuple[np.ndarray, Track]:
    """Weights ``(all decisions, n)`` of a method and what they earn."""
    weights = []
    for learn_from, trade_on in zip(arena.training, arena.trading, strict=True):
        net = learn(method, learn_from, seed)
        with torch.no_grad():
            weights.append(method.weights(net(Known.of(trade_on))).numpy())
        advance()
    together = np.concatenate(weights)
    return together, arena.track(together)


def judge(
    weights: np.ndarray, track: Track, equal: Track, arena: Arena, method: Method
) -> dict[str, float]:
    """Figures of merit; standard errors are of the days, by the bootstrap."""
    settings = method.settings
    net, reference = track.after_cost(settings.cost), equal.after_cost(settings.cost)
    rng = np.random.default_rng(0)  # the same days for all methods
    pair = np.stack([net, reference])
    drawn = bootstrap_sharpe(pair, settings.bootstrap_draws, settings.block_days, rng)
    years = len(net) / 252
    figures = {
        "sharpe before cost": sharpe(track.returns),
        "sharpe": sharpe(net),
        "standard error": drawn[:, 0].std(),
        "over equal weights": sharpe(net) - sharpe(reference),
        "standard error over": (drawn[:, 0] - drawn[:, 1]).std(),
        "return": net.mean() * 252,
        "volatility": net.std() * 252**0.5,
        "turnover": track.turnover.sum() / years,
        "residual": np.abs(weights @ method.law.A.T - method.law.k).max(),
        "shortest": weights.min(),
    }
    bounds = zip(arena.window_bounds(), settings.first_years, strict=True)
    return figures | {f"sharpe from {year}": sharpe(net[days]) for days, year in bounds}
