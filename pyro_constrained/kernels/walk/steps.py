"""A walk on a fiber: an exact draw along one direction after another, for many chains at once.

A step is some dozens of operations on arrays of a few hundred numbers, so that their overhead is
what counts: they are NumPy's, on the CPU. Random numbers and points are PyTorch's.

All chains take the same directions, which do not look at any point: each keeps its law, and their
averages are uncorrelated.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from constrained_core.walk.plan import GRID, WINDOW_DROP, WalkPlan
from constrained_core.walk.scan import Scan

__all__ = ["LogWeights", "bind_weights", "step", "walk"]

Direction = tuple[np.ndarray, np.ndarray]

MOST = np.iinfo(np.int64).max // 2


class LogWeights(ABC):
    """Log weights ``slope[i] v + table_i[v]`` of values v of the active variables i.

    Args:
        plan: the plan of the walk.
        slope: ``(p,)``.
    """

    def __init__(self, plan: WalkPlan, slope: np.ndarray) -> None:
        self.slope = slope
        self.window, self.num_refinements = plan.window, plan.num_refinements
        self.steps = np.arange(max(self.window, GRID))

    @abstractmethod
    def room(self, value: np.ndarray, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
        """``(chains,)`` how many steps back and forth keep values ``(L, chains)`` in range."""

    @abstractmethod
    def looked_up(self, places: np.ndarray, index: np.ndarray) -> np.ndarray:
        """``(L, chains, W)`` entries of the tables; -inf for values out of range."""

    def score(self, value: np.ndarray, direction: Direction, steps: np.ndarray) -> np.ndarray:
        """``(chains, W)`` log weights of ``value + steps move``; -inf out of range.

        Args:
            value: ``(L, chains)``.
            direction: the variables ``(L,)`` and the move.
            steps: ``(chains, W)``.
        """
        index, move = direction
        places = move[:, None, None] * steps
        places += value[:, :, None]
        entries = np.add.reduce(self.looked_up(places, index))
        entries += self.slope[index].dot(move) * steps
        return entries


class _CountWeights(LogWeights):
    """Poisson counts, of which one table serves all.

    No count can be too large as long as none is negative: A x = k sees to it.
    """

    def __init__(self, plan: WalkPlan, rate: np.ndarray) -> None:
        rate = np.maximum(rate[plan.active], np.finfo(rate.dtype).tiny)
        super().__init__(plan, np.log(rate, dtype=np.float64))
        self._table = np.pad(plan.weights.table(plan.largest), 1, constant_values=-np.inf)

    def room(self, value: np.ndarray, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
        move = direction[1]
        value = value // np.abs(move)[:, None] if np.abs(move).max() > 1 else value
        is_up = (move > 0)[:, None]
        back = np.minimum.reduce(np.where(is_up, value, MOST))
        return back, np.minimum.reduce(np.where(is_up, MOST, value))

    def looked_up(self, places: np.ndarray, index: np.ndarray) -> np.ndarray:
        places += 1
        return self._table.take(places, mode="clip")


class _TableWeights(LogWeights):
    """A table for each variable."""

    def __init__(self, plan: WalkPlan, tables: np.ndarray) -> None:
        super().__init__(plan, np.zeros(len(plan.active)))
        self._low, self._high = plan.bounds[:, plan.active, None]
        padded = np.pad(tables[plan.active], ((0, 0), (1, 1)), constant_values=-np.inf)
        self._table, self._width = padded.astype(np.float64).ravel(), padded.shape[1]

    def room(self, value: np.ndarray, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
        index, move = direction
        is_up, size = (move > 0)[:, None], np.abs(move)[:, None]
        below, above = (value - self._low[index]) // size, (self._high[index] - value) // size
        back = np.minimum.reduce(np.where(is_up, below, above))
        return back, np.minimum.reduce(np.where(is_up, above, below))

    def looked_up(self, places: np.ndarray, index: np.ndarray) -> np.ndarray:
        places = np.clip(places, -1, self._width - 2)
        return self._table[places + (self._width * index + 1)[:, None, None]]


def bind_weights(plan: WalkPlan, parameter: Tensor) -> LogWeights:
    """The log weights of the active variables.

    Args:
        plan: the plan of the walk.
        parameter: ``(n,)`` rates of counts, or ``(n, C)`` log weights of values.
    """
    known = parameter.numpy(force=True)
    return _CountWeights(plan, known) if known.ndim == 1 else _TableWeights(plan, known)


def walk(
    weights: LogWeights, scan: Scan, start: np.ndarray, num_draws: int, num_steps: int
) -> np.ndarray:
    """Walk chains and keep points of them.

    Args:
        weights: those of the p active variables.
        scan: the directions, which go on from here.
        start: points ``(chains, p)``.
        num_draws: number of points to keep.
        num_steps: number of steps from one to the next.

    Returns:
        The points ``(chains, num_draws, p)``, of which the last is the end.
    """
    x, shared = start.T.copy(), scan.num_uniform
    points = np.empty((num_draws, *x.shape), x.dtype)
    num_chains = len(start)
    for draw in range(num_draws):
        size = (num_steps, shared + 2 * num_chains)
        uniform = torch.rand(size, dtype=torch.float64, device="cpu").numpy()
        own = uniform[:, shared:].reshape(num_steps, 2, num_chains)
        for numbers, two in zip(uniform[:, :shared].tolist(), own, strict=True):
            step(weights, x, scan.next(numbers), two)
        points[draw] = x
    return points.transpose(2, 0, 1)


def step(weights: LogWeights, x: np.ndarray, direction: Direction, uniform: np.ndarray) -> None:
    """Move points ``(p, chains)`` along a direction, in place.

    Args:
        direction: variables ``(L,)``, and by how much they change.
        uniform: ``(2, chains)`` random numbers: for a block, and for the step.
    """
    index, move = direction
    value = x[index]
    back, forth = weights.room(value, direction)
    first, width = -back, int(np.maximum.reduce(back + forth)) + 1
    if width > weights.window:
        first, width = _window(weights, value, direction, first, forth, uniform[0]), weights.window
    score = weights.score(value, direction, first[:, None] + weights.steps[:width])
    x[index] = value + move[:, None] * (first + _choice(uniform[1], score))


def _window(
    weights: LogWeights,
    value: np.ndarray,
    direction: Direction,
    start: np.ndarray,
    end: np.ndarray,
    uniform: np.ndarray,
) -> np.ndarray:
    """``(chains,)`` the first step of a window: where the mass is, or a block of it."""
    window = weights.window
    for _ in range(weights.num_refinements):
        # Log weights of counts are concave along a line: their mass is where a grid finds it.
        stride = (end - start) // GRID + 1
        on_grid = start[:, None] + stride[:, None] * weights.steps[:GRID]
        height = weights.score(value, direction, on_grid)
        height[on_grid > end[:, None]] = -np.inf
        heavy = height >= height.max(axis=1, keepdims=True) - WINDOW_DROP
        first, last = heavy.argmax(axis=1), GRID - 1 - heavy[:, ::-1].argmax(axis=1)
        start, end = (
            np.maximum(start, start + stride * (first - 1)),
            np.minimum(end, start + stride * (last + 1)),
        )
    # Mass wider than the window: a block of the line, placed at random around the point.
    block = -np.minimum((uniform * window).astype(start.dtype), window - 1)
    return np.where(end - start < window, start, block)


def _choice(uniform: np.ndarray, score: np.ndarray) -> np.ndarray:
    """``(chains,)`` indices with probabilities proportional to ``exp(score)``, by inversion."""
    score -= np.maximum.reduce(score, axis=1, keepdims=True)
    total = np.exp(score, out=score).cumsum(axis=1)
    return np.add.reduce(total <= (uniform * total[:, -1])[:, None], axis=1)
