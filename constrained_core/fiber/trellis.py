"""The trellis of a constraint: all ways to spend k, column after column, as tables of states."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from constrained_core.errors import InfeasibleConstraintError, IntractableConstraintError
from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.trellis_deals import Deal
from constrained_core.fiber.trellis_segments import first_values, is_worth_offsets, segment_ends

__all__ = ["Trellis", "TrellisSegment"]

MAX_STACKED = 100_000_000
"""Budget of tables of one size, 400 MB."""


@dataclass(frozen=True, eq=False)
class TrellisSegment:
    """Consecutive columns of a trellis with tables padded to one size, as a scan takes them.

    Attributes:
        start, stop: its columns are ``start..stop - 1``.
        size: T, at least the number of states of every stage from ``start`` to ``stop``; it is
            the dead state everywhere.
        first: ``(stop - start, S)`` int32.
        next: ``(stop - start, S, W)`` int32.
    """

    start: int
    stop: int
    size: int
    first: np.ndarray
    next: np.ndarray


@dataclass(frozen=True, eq=False)
class Trellis:
    """The dynamic programme of a constraint: paths that spend k, column after column.

    From what is left of k, column j takes away u times itself.

    The states of stage j are what can be left before column j; those of stage 0 are the
    right-hand sides, and stage q has one state, nothing left. Every state is on a path to it.
    Where rows are dealt out, some stages are no columns but units of a row.

    Attributes:
        variables: ``(p,)`` the variables of the trellis, ascending.
        column: ``(p,)`` the column of each; equal columns are one where merged.
        rows: ``(r,)`` the rows of A that the states are made of.
        coefficients: ``(c, r)`` int64, the columns.
        stages: ``(c,)`` the stage of every column; -1 for those to which units are dealt.
        largest: ``(c,)`` a bound of the values of every column.
        deals: the rows that are dealt out, mostly none.
        starts: ``(S_0, r)`` the right-hand sides, in lexicographic order.
        sizes: ``(q + 1,)`` number of states of every stage.
        num_values: ``(q,)`` number of values, 0..U_j-1, of every stage.
        first: q arrays ``(S_j,)``, int32: the first value that a state can take, or zeros.
        next: q arrays ``(S_j, W_j)``, int32: the state of stage j + 1 after that value, the one
            after it and so on, or ``sizes[j + 1]``, the dead state, where there is none.
    """

    variables: np.ndarray
    column: np.ndarray
    rows: np.ndarray
    coefficients: np.ndarray
    stages: np.ndarray
    largest: np.ndarray
    deals: tuple[Deal, ...]
    starts: np.ndarray
    sizes: np.ndarray
    num_values: np.ndarray
    first: tuple[np.ndarray, ...]
    next: tuple[np.ndarray, ...]

    @property
    def num_columns(self) -> int:
        """q, the number of stages but the last."""
        return len(self.next)

    @cached_property
    def is_alone(self) -> np.ndarray:
        """``(p,)`` whether a variable has its column to itself."""
        return np.asarray(np.bincount(self.column)[self.column] == 1)

    @cached_property
    def columns(self) -> DisjointGroups:
        """The variables as groups: those of one column share its value."""
        return DisjointGroups(
            variables=self.variables,
            index=self.column,
            rows=np.arange(len(self.coefficients)),
            divisor=np.ones(len(self.coefficients), dtype=np.int64),
        )

    @property
    def num_transitions(self) -> int:
        """Entries of all tables, dead ones included: the work of one pass."""
        return sum(table.size for table in self.next)

    def values(self, stage: int) -> np.ndarray:
        """``(S_j, W_j)`` the values that the entries of a table stand for; those past the last
        one, of dead entries, are the last one."""
        values = self.first[stage][:, None] + np.arange(self.next[stage].shape[1])
        return np.minimum(values, self.num_values[stage] - 1)

    @cached_property
    def segments(self) -> tuple[TrellisSegment, ...]:
        """All tables, in runs of similar sizes.

        Raises:
            IntractableConstraintError: more than 10^8 entries, nearly all of them padding.
        """
        return self._stacked(self.first, self.next, self.sizes[1:])

    @cached_property
    def before(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """The same paths read from their end: ``first`` and ``next`` of the ways back.

        Of the states of stage j + 1, the first value of column j by which each is reached, and
        ``(S_{j+1}, W'_j)`` the states of stage j that come before by that value, the one after it
        and so on, or ``sizes[j]`` where there is none.
        """
        found = [self._ways_back(stage) for stage in range(self.num_columns)]
        return tuple(first for first, _ in found), tuple(table for _, table in found)

    def _ways_back(self, stage: int) -> tuple[np.ndarray, np.ndarray]:
        source, place = np.nonzero(self.next[stage] < self.sizes[stage + 1])
        target, value = self.next[stage][source, place], self.first[stage][source] + place
        first = first_values(target, value, int(self.sizes[stage + 1]))
        place = value - first[target]
        shape = len(first), int(place.max(initial=-1)) + 1
        table = np.full(shape, self.sizes[stage], dtype=np.int32)
        table[target, place] = source
        return first, table

    @cached_property
    def segments_before(self) -> tuple[TrellisSegment, ...]:
        """Those of ``before``, in the runs of ``segments``: state for state of the stage after.

        Raises:
            IntractableConstraintError: more than 10^8 entries, nearly all of them padding.
        """
        return self._stacked(*self.before, self.sizes[:-1])

    @cached_property
    def _runs(self) -> list[slice]:
        widths = np.array([table.shape[1] for table in self.next], dtype=np.int64)
        ends = segment_ends(self.sizes[:-1], widths)
        for deal in self.deals:  # is a run of its own
            ends = [end for end in ends if not deal.start < end < deal.stop]
            ends = sorted({*ends, deal.start, deal.stop} - {0})
        return [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]

    def _stacked(
        self, firsts: tuple[np.ndarray, ...], tables: tuple[np.ndarray, ...], targets: np.ndarray
    ) -> tuple[TrellisSegment, ...]:
        """Tables padded to one size in every run; ``targets`` are the dead states in them."""
        shapes = [
            (run.stop - run.start, max(map(len, tables[run])), self._width(run, tables))
            for run in self._runs
        ]
        size = sum(prod(shape) for shape in shapes)
        budget = max(MAX_STACKED, 2 * self.num_transitions)
        if size > budget:
            raise IntractableConstraintError(
                f"tables of few sizes need {size} entries for {self.num_transitions} "
                f"transitions, the budget is {budget}; draw with FiberSampler instead, or "
                "use smaller totals."
            )
        return tuple(
            self._segment(run, shape, firsts, tables, targets)
            for run, shape in zip(self._runs, shapes, strict=True)
        )

    def _width(self, run: slice, tables: tuple[np.ndarray, ...]) -> int:
        """Of the tables of a segment, which begin with value 0 where that costs little."""
        narrow = max(table.shape[1] for table in tables[run])
        wide = int(self.num_values[run].max())
        return narrow if is_worth_offsets(narrow, wide) else wide

    def _segment(
        self,
        run: slice,
        shape: tuple[int, int, int],
        firsts: tuple[np.ndarray, ...],
        tables: tuple[np.ndarray, ...],
        targets: np.ndarray,
    ) -> TrellisSegment:
        size = int(self.sizes[run.start : run.stop + 1].max())
        table, first = np.full(shape, size, dtype=np.int32), np.zeros(shape[:2], dtype=np.int32)
        for place, stage in enumerate(range(run.start, run.stop)):
            state, column = np.nonzero(tables[stage] < targets[stage])
            target, lowest = tables[stage][state, column], firsts[stage]
            if shape[2] == self.num_values[run].max():
                table[place, state, lowest[state] + column] = target
            else:
                table[place, state, column] = target
                first[place, : len(lowest)] = lowest
        return TrellisSegment(run.start, run.stop, size, first, table)

    def after(self, stage: int, value: int) -> np.ndarray:
        """``(S_j + 1,)`` the states of the next stage after one value; the dead one where it cannot
        be."""
        dead = int(self.sizes[stage + 1])
        place = value - self.first[stage]
        inside = (place >= 0) & (place < self.next[stage].shape[1])
        found = np.full(len(inside) + 1, dead)
        found[:-1][inside] = self.next[stage][inside, place[inside]]
        return found

    def units(self, deal: Deal) -> np.ndarray:
        """``(S_j + 1,)`` how many units the states where a deal begins have; 0 of the dead one."""
        units = np.zeros(int(self.sizes[deal.stop]) + 1, dtype=np.int64)
        for stage in reversed(range(deal.start, deal.stop)):
            alive = self.next[stage] < self.sizes[stage + 1]
            first, states = alive.argmax(axis=1), np.arange(len(alive))
            is_spent = self.first[stage] + first == len(deal.columns)
            left = units[self.next[stage][states, first]] + ~is_spent
            units = np.append(np.where(is_spent, 0, left), 0)
        return units

    def start_of(self, k: np.ndarray) -> np.ndarray:
        """Stage-0 states of the right-hand sides.

        Args:
            k: ``(*batch, m)`` integers.

        Returns:
            ``(*batch,)`` indices into ``starts``.

        Raises:
            InfeasibleConstraintError: a right-hand side that is none of ``starts``.
        """
        found = self.find(k)
        if (found < 0).any():
            where = tuple(int(i) for i in np.argwhere(found < 0)[0])
            raise InfeasibleConstraintError(
                f"k{list(where) if where else ''}: expected one of the {len(self.starts)} "
                f"right-hand sides of the plan on rows {self.rows.tolist()}, got "
                f"{k[where][self.rows].tolist()}; plan the fiber for this k."
            )
        return found

    def find(self, k: np.ndarray) -> np.ndarray:
        """As ``start_of``, with -1 where k is none of ``starts``."""
        given = k[..., self.rows]
        if len(self.starts) == 1:
            return np.where((given == self.starts[0]).all(axis=-1), 0, -1)
        everything = np.concatenate([self.starts, given.reshape(-1, len(self.rows))])
        _, label = np.unique(everything, axis=0, return_inverse=True)
        label = label.reshape(-1)
        start = np.full(len(everything), -1)
        start[label[: len(self.starts)]] = np.arange(len(self.starts))
        return start[label[len(self.starts) :]].reshape(given.shape[:-1])
