"""Rows of a table that are dealt out unit by unit: fewer states than cell after cell.

Given what is left of the column sums, the units of a row of Poisson counts fall on its cells one
after another, independently: the weight of a path is the product of the rates of the cells that
took them, and k! paths lead to the same counts, divided by the factorials of these. So a row needs
no state of its own, of how much of it is left, and each state has no more ways on than cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np

__all__ = ["Deal", "deal_phases"]

LEAST_ROWS = 4
MOST_ROWS = 8
"""Of one side of a table of which the order of rows is looked for."""

CELLWISE = 12
"""Transitions for each state between two rows and the rest, where cells are taken one by one."""

TRIED = 2
"""Best sequences that are tried."""


@dataclass(frozen=True, eq=False)
class Deal:
    """Stages of a trellis at which the units of one row are dealt to columns.

    The value of a stage is the place in ``columns``, or their number where the row is spent.

    Attributes:
        start, stop: its stages are ``start..stop - 1``; those of a smaller row come first.
        row: the row of A.
        unit: its one coefficient.
        columns: ``(J,)`` columns of the trellis that take units.
    """

    start: int
    stop: int
    row: int
    unit: int
    columns: np.ndarray


def deal_phases(
    columns: np.ndarray, block: np.ndarray, bounds: np.ndarray, independent: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[int, int]]]:
    """Orders of the columns of tables in which some rows are dealt out, the best one first.

    Args:
        columns: ``(q, r)`` coefficients.
        block: ``(q,)`` independent block of every column.
        bounds: ``(2, r)`` least and largest right-hand side of every row.
        independent: ``(i,)`` independent rows.

    Yields:
        ``(q,)`` the phase of every column, and the row of each phase that is dealt out.
    """
    found = [
        _best(columns, np.flatnonzero(block == b), bounds, independent) for b in np.unique(block)
    ]
    for rank in range(max(map(len, found), default=0)):
        phase, deals = np.zeros(len(columns), dtype=np.int64), dict[int, int]()
        for number, sequences in enumerate(found):
            if sequences:
                best = sequences[min(rank, len(sequences) - 1)]
                first = number * (MOST_ROWS + 2)
                phase[best.inside] = first + best.phase
                deals |= {first + place + 1: row for place, row in enumerate(best.dealt)}
        yield phase, deals


@dataclass(frozen=True, eq=False)
class _Sequence:
    inside: np.ndarray
    phase: np.ndarray
    dealt: tuple[int, ...]
    cost: float


def _best(
    columns: np.ndarray, inside: np.ndarray, bounds: np.ndarray, independent: np.ndarray
) -> list[_Sequence]:
    """The best sequences of a block that is a table, perhaps with cells left out."""
    block = columns[inside]
    rows = independent[block[:, independent].any(axis=0)]
    sides = _two_sides(block[:, rows])
    found: list[_Sequence] = []
    for side, other in (sides, sides[::-1]):
        if LEAST_ROWS <= len(side) <= MOST_ROWS:
            found += _Rows(block[:, rows], bounds[:, rows], side, other).sequences(inside, rows)
    return sorted(found, key=lambda sequence: sequence.cost)[:TRIED]


def _two_sides(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two colours, so that those of one share no column; empty if there are none such."""
    none = np.zeros(0, dtype=np.int64)
    inside = block != 0
    overlaps = inside.T.astype(np.int64) @ inside.astype(np.int64)
    np.fill_diagonal(overlaps, 0)
    if (block != inside * block.max(axis=0)).any() or (block.max(axis=0) <= 0).any():
        return none, none
    colour = np.full(len(overlaps), -1)
    colour[:1], open_rows = 0, [0]
    while open_rows:
        row = open_rows.pop()
        for near in np.flatnonzero(overlaps[row]):
            if colour[near] < 0:
                colour[near] = 1 - colour[row]
                open_rows.append(int(near))
            elif colour[near] == colour[row]:
                return none, none
    return np.flatnonzero(colour == 0), np.flatnonzero(colour == 1)


class _Rows:
    """One side of a table, whose rows are to be put in order."""

    def __init__(
        self, block: np.ndarray, bounds: np.ndarray, side: np.ndarray, other: np.ndarray
    ) -> None:
        inside, largest = block != 0, np.floor(bounds[1] / block.max(axis=0)).astype(np.int64)
        self._side, self._inside = side, inside[:, side]
        self._totals, self._sums = largest[side], largest[other]
        cells = self._inside.T.astype(np.int64) @ inside[:, other].astype(np.int64)
        self._reach = cells * np.minimum(self._totals[:, None], self._sums)
        self._is_closed = bool((self._inside.any(axis=1) & inside[:, other].any(axis=1)).all())

    def sequences(self, inside: np.ndarray, rows: np.ndarray) -> Iterator[_Sequence]:
        """At most two rows cell by cell, some dealt out, and the last two cell by cell again."""
        count = frozenset(range(len(self._side)))
        states = lru_cache(maxsize=None)(self._states)
        for num_front in (1, 2):
            for front in combinations(sorted(count), num_front):
                for dealt in permutations(sorted(count - set(front)), len(count) - num_front - 2):
                    before, cost = frozenset(front), 0.0
                    cuts = [states(before)]
                    for row in dealt:
                        before = before | {row}
                        cuts.append(states(before))
                        ways = self._totals[row] * self._inside[:, row].sum()
                        cost += ways * (cuts[-2] + cuts[-1]) / 2
                    cost += CELLWISE * (cuts[0] + cuts[-1])
                    phase = np.full(len(inside), len(dealt) + 1)
                    phase[self._inside[:, list(front)].any(axis=1)] = 0
                    for place, row in enumerate(dealt):
                        phase[self._inside[:, row]] = place + 1
                    numbers = tuple(int(rows[self._side[row]]) for row in dealt)
                    yield _Sequence(inside, phase, numbers, cost)

    def _states(self, before: frozenset[int]) -> float:
        """About how many sums of the other side some rows can leave."""
        is_before = np.isin(np.arange(len(self._side)), list(before))
        highest = np.minimum(self._sums, self._reach[is_before].sum(axis=0))
        lowest = np.maximum(0, self._sums - self._reach[~is_before].sum(axis=0))
        if not self._is_closed:
            lowest = np.zeros_like(lowest)
        widths = np.maximum(highest - lowest, 0) + 1
        if not self._is_closed:
            return float(widths.prod(dtype=float))
        spent, ways = int(self._totals[is_before].sum() - lowest.sum()), np.ones(1)
        for width in widths:
            ways = np.convolve(ways, np.ones(width))
        return float(ways[spent]) if 0 <= spent < len(ways) else 0.0
