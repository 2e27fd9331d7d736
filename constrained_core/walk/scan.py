"""The directions of a walk, one after another. They do not look at the point that walks."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from constrained_core.walk.plan import WalkPlan

__all__ = ["Scan", "scan_of"]

SIZES = 6
"""Random combinations take each move with a probability of 1, 1/2, ... over their number."""


class Scan(ABC):
    """Where a walk goes next.

    Attributes:
        num_uniform: random numbers of a step: direction, block, step, exchange; then others.
    """

    num_uniform: int

    @abstractmethod
    def next(self, uniform: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Variables ``(L,)`` and by how much ``(L,)`` they change, none by zero, in one step.

        Args:
            uniform: ``(num_uniform,)`` random numbers, of which the second and the third are left
                to the draw along the direction.
        """

    def copy(self) -> "Scan":
        """One that goes on from here on its own."""
        return copy.deepcopy(self)


def scan_of(plan: WalkPlan) -> Scan:
    """The directions of a plan, from the first one on."""
    return _MoveScan(plan) if plan.tableau is None else _TableauScan(plan)


class _TableauScan(Scan):
    """Elementary directions of a basis of columns, which changes with every step.

    A column of the basis, or the one that is raised, leaves it: rarely a large one.
    """

    num_uniform = 4

    def __init__(self, plan: WalkPlan) -> None:
        tableau = plan.tableau
        assert tableau is not None
        self._basis, self._others = tableau.basis.copy(), tableau.others.copy()
        self._entries = tableau.entries.astype(np.int8)
        self._leave = np.exp(-plan.stay_weight)

    def next(self, uniform: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The column to raise at random, and what it lowers."""
        column = _integer(uniform[0], len(self._others))
        lowered = self._entries[:, column]
        rows = lowered.nonzero()[0]
        lowered = lowered[rows]
        size = len(rows)
        index, move = np.empty(size + 1, np.int64), np.ones(size + 1, np.int64)
        index[:size], index[size] = self._basis[rows], self._others[column]
        np.negative(lowered, out=move[:size], casting="unsafe")
        weights = self._leave[index].cumsum()
        place = int(weights.searchsorted(uniform[3] * weights[-1], "right"))
        if place < size:
            self._exchange(rows, int(rows[place]), column, lowered)
        return index, move

    def _exchange(self, rows: np.ndarray, row: int, column: int, lowered: np.ndarray) -> None:
        """Pivot; all entries stay -1, 0 or 1."""
        entries = self._entries
        pivot = entries[row, column]
        pivot_row = pivot * entries[row]
        pivot_row[column] = pivot
        entries[rows, column] = 0
        entries[rows] -= lowered[:, None] * pivot_row
        entries[row] = pivot_row
        leaving = self._basis[row]
        self._basis[row], self._others[column] = self._others[column], leaving


class _MoveScan(Scan):
    """One of the moves, or every second time a random combination of some."""

    def __init__(self, plan: WalkPlan) -> None:
        self._moves, self._mixes = plan.moves, plan.mixes
        self.num_uniform = 4 + (2 * len(plan.moves) if plan.mixes else 0)

    def copy(self) -> Scan:
        """It keeps nothing."""
        return self

    def next(self, uniform: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """At random."""
        one = _integer(uniform[0], len(self._moves))
        move = self._moves[one]
        if self._mixes and uniform[3] < 0.5:
            move = move + self._mixed(np.asarray(uniform), one)
        index = move.nonzero()[0]
        return index, move[index]

    def _mixed(self, uniform: np.ndarray, one: int) -> np.ndarray:
        """Few of the other moves or many, with sizes that fall off geometrically: any combination
        can come."""
        count = len(self._moves)
        share = 2.0 ** _integer(2 * uniform[3] % 1, SIZES) / count
        chosen = uniform[4 : 4 + count] < share
        chosen[one] = False
        noise = 2 * uniform[4 + count :] - 1
        size = 1 + np.floor(-np.log2(np.maximum(np.abs(noise), 1e-9)) / 2)
        factor = np.where(chosen, np.sign(noise) * size, 0.0).astype(self._moves.dtype)
        return factor @ self._moves


def _integer(uniform: float, count: int) -> int:
    """0..count-1."""
    return min(int(uniform * count), count - 1)
