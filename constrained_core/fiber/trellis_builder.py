"""The trellis of a constraint: columns, their bounds and order, and the tables of states."""

from dataclasses import dataclass

import numpy as np

from constrained_core.errors import IntractableConstraintError
from constrained_core.fiber.bounds import largest_values, require_bounded
from constrained_core.fiber.parts import FiberParts
from constrained_core.fiber.trellis import Trellis
from constrained_core.fiber.trellis_deals import Deal, deal_phases
from constrained_core.fiber.trellis_order import column_order
from constrained_core.fiber.trellis_states import find_transitions, prune
from constrained_core.fiber.trellis_steps import ColumnStep, DealStep, Step

__all__ = ["TrellisSpecification", "make_trellis"]

MAX_COEFFICIENTS = 5_000_000

PADDING = 2
"""Entries of tables for each transition of the budget, as a last resort."""


@dataclass(frozen=True, eq=False)
class TrellisSpecification:
    """What a trellis is made for.

    Attributes:
        starts: ``(S, m)`` right-hand sides, or None for all within bounds.
        bounds: ``(2, m)`` least and largest right-hand side of every row of A.
        upper: ``(n,)`` largest values by the base law, or None.
        possible: ``(n, C)`` the values of positive probability, or None for all.
        merge: whether equal columns are one column, and rows may be dealt out (Poisson).
        max_transitions: the budget.
    """

    starts: np.ndarray | None
    bounds: np.ndarray
    upper: np.ndarray | None
    possible: np.ndarray | None
    merge: bool
    max_transitions: int


def make_trellis(parts: FiberParts, wanted: TrellisSpecification) -> Trellis:
    """Plan the trellis of the variables that are neither free nor in groups.

    Where cell after cell is past the budget, rows of tables are dealt out instead.

    Raises:
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: past the budget.
    """
    _require_few_coefficients(parts)
    columns = _Columns(parts, wanted)
    try:
        return columns.trellis()
    except IntractableConstraintError:
        if wanted.merge and wanted.starts is not None:
            for phase, deals in columns.phases():
                try:
                    return columns.trellis(phase, deals)
                except IntractableConstraintError:
                    pass
        raise


class _Columns:
    """The columns of a trellis and what is known of their values."""

    def __init__(self, parts: FiberParts, wanted: TrellisSpecification) -> None:
        self._parts, self._wanted = parts, wanted
        self._columns, first, self._column = _trellis_columns(parts, wanted.merge)
        variables, self._block = parts.variables[first], parts.block[first]
        if wanted.upper is None:
            require_bounded(self._columns, variables)
        self._possible = None if wanted.possible is None else wanted.possible[variables]
        self._lowest = np.zeros(len(first), dtype=np.int64)
        upper = None if wanted.upper is None else wanted.upper[variables]
        if self._possible is not None:
            self._lowest = self._possible.argmax(axis=1)
            upper = self._possible.shape[1] - 1 - self._possible[:, ::-1].argmax(axis=1)
        self._bounds = wanted.bounds[:, parts.rows].astype(np.int64)
        self._highest = largest_values(self._columns, self._bounds, upper)
        self._independent = np.flatnonzero(np.isin(parts.rows, parts.lattice.kept))

    def phases(self):
        """Orders in which rows are dealt out, as ``trellis`` takes them."""
        return deal_phases(self._columns, self._block, self._bounds, self._independent)

    def trellis(
        self, phase: np.ndarray | None = None, deals: dict[int, int] | None = None
    ) -> Trellis:
        """The trellis, with the columns of some phases dealt the units of a row.

        Raises:
            IntractableConstraintError: past the budget.
        """
        order = column_order(
            self._columns,
            np.maximum(self._highest - self._lowest, 0) + 1,
            self._block,
            self._bounds - self._lowest @ self._columns,
            phase,
        )
        steps, stages, dealt = self._steps(order, phase, deals or {})
        limit = self._wanted.max_transitions
        origin = np.zeros((1, len(self._parts.rows)), dtype=np.int64)
        starts = self._starts(order, origin)
        ends = np.concatenate([origin, origin])
        found = find_transitions(steps, starts, ends, self._independent, limit)
        tables = prune(found, limit * PADDING if dealt else limit)
        largest = np.where(stages < 0, self._highest[order], tables.num_values[stages] - 1)
        return Trellis(
            variables=self._parts.variables,
            column=np.argsort(order)[self._column],
            rows=self._parts.rows,
            coefficients=self._columns[order],
            stages=stages,
            largest=largest,
            deals=dealt,
            starts=starts[tables.alive],
            sizes=tables.sizes,
            num_values=tables.num_values,
            first=tables.first,
            next=tables.next,
        )

    def _starts(self, order: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """``(S, r)`` the right-hand sides; all that are reached from the end if none are given."""
        if self._wanted.starts is not None:
            return np.unique(self._wanted.starts[:, self._parts.rows], axis=0)
        steps = [self._column_step(int(j), sign=-1) for j in order]
        limit = self._wanted.max_transitions
        reached = find_transitions(steps, origin, self._bounds, self._independent, limit)
        return np.unique(reached.last, axis=0)

    def _column_step(self, j: int, sign: int = 1) -> ColumnStep:
        possible = None if self._possible is None else self._possible[j]
        lowest, highest = int(self._lowest[j]), int(self._highest[j])
        return ColumnStep(sign * self._columns[j], lowest, highest, possible)

    def _steps(
        self, order: np.ndarray, phase: np.ndarray | None, deals: dict[int, int]
    ) -> tuple[list[Step], np.ndarray, tuple[Deal, ...]]:
        """Steps, the stage of every column (-1 where units are dealt to it), and the deals."""
        steps, stages = list[Step](), np.full(len(order), -1)
        dealt, stage, place = list[Deal](), 0, 0
        phase = np.full(len(order), -1) if phase is None else phase
        while place < len(order):
            row = deals.get(int(phase[order[place]]), -1)
            if row < 0 or not self._units(order[place], row):
                steps.append(self._column_step(int(order[place])))
                stages[place] = stage
                stage, place = stage + 1, place + 1
                continue
            inside = np.flatnonzero(phase[order] == phase[order[place]])
            step, deal = self._deal(order, inside, row, stage)
            steps.append(step)
            dealt.append(deal)
            stage, place = deal.stop, place + len(inside)
        return steps, stages, tuple(dealt)

    def _deal(
        self, order: np.ndarray, inside: np.ndarray, row: int, stage: int
    ) -> tuple[DealStep, Deal]:
        columns = self._columns[order[inside]]
        unit, count = int(columns[0, row]), self._units(order[inside[0]], row)
        deal = Deal(stage, stage + count, int(self._parts.rows[row]), unit, inside)
        return DealStep(columns, row, count), deal

    def _units(self, j: int, row: int) -> int:
        """The most units of the row that column j can take."""
        return int(self._bounds[1, row]) // int(self._columns[j, row])


def _trellis_columns(parts: FiberParts, merge: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns ``(q, r)``, a variable of each ``(q,)`` and the column of each variable ``(p,)``."""
    if not merge:
        every = np.arange(len(parts.variables))
        return parts.columns.toarray(), every, every
    columns, first, column = np.unique(
        parts.columns.toarray(), axis=0, return_index=True, return_inverse=True
    )
    return columns, first, column.reshape(-1)


def _require_few_coefficients(parts: FiberParts) -> None:
    num_variables, num_rows = parts.columns.shape
    if num_variables * num_rows > MAX_COEFFICIENTS:
        raise IntractableConstraintError(
            f"the fiber of A x = k is too large for an exact answer: {num_variables} variables in "
            f"{num_rows} rows of different coefficients, the budget is {MAX_COEFFICIENTS} for "
            "their product; draw with FiberSampler instead, or use groups of one coefficient."
        )
