"""The chain of a constraint: columns, their bounds and order, and the tables of states."""

from dataclasses import dataclass

import numpy as np

from constrained_core.errors import IntractableConstraintError
from constrained_core.fibre import FibreChain
from constrained_core.fibre_blocks import FibreParts
from constrained_core.fibre_bounds import largest_values, require_bounded
from constrained_core.fibre_deals import Deal, deal_stages
from constrained_core.fibre_order import column_order
from constrained_core.fibre_states import prune, walk
from constrained_core.fibre_steps import ColumnStep, DealStep, Step

__all__ = ["ChainTask", "make_chain"]

MAX_COEFFICIENTS = 5_000_000

PADDING = 2
"""Entries of tables for each transition of the budget, as a last resort."""


@dataclass(frozen=True, eq=False)
class ChainTask:
    """What a chain is made for.

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


def make_chain(parts: FibreParts, task: ChainTask) -> FibreChain:
    """Plan the chain of the variables that are neither free nor in groups.

    Where cell after cell is past the budget, rows of tables are dealt out instead.

    Raises:
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: past the budget.
    """
    _require_few_coefficients(parts)
    columns = _Columns(parts, task)
    try:
        return columns.chain()
    except IntractableConstraintError:
        if task.merge and task.starts is not None:
            for stage, deals in columns.stages():
                try:
                    return columns.chain(stage, deals)
                except IntractableConstraintError:
                    pass
        raise


class _Columns:
    """The columns of a chain and what is known of their values."""

    def __init__(self, parts: FibreParts, task: ChainTask) -> None:
        self._parts, self._task = parts, task
        self._columns, first, self._column = _chain_columns(parts, task.merge)
        variables, self._block = parts.variables[first], parts.block[first]
        if task.upper is None:
            require_bounded(self._columns, variables)
        self._possible = None if task.possible is None else task.possible[variables]
        self._lowest = np.zeros(len(first), dtype=np.int64)
        upper = None if task.upper is None else task.upper[variables]
        if self._possible is not None:
            self._lowest = self._possible.argmax(axis=1)
            upper = self._possible.shape[1] - 1 - self._possible[:, ::-1].argmax(axis=1)
        self._bounds = task.bounds[:, parts.rows].astype(np.int64)
        self._highest = largest_values(self._columns, self._bounds, upper)
        self._independent = np.flatnonzero(np.isin(parts.rows, parts.lattice.kept))

    def stages(self):
        """Orders in which rows are dealt out, as ``chain`` takes them."""
        return deal_stages(self._columns, self._block, self._bounds, self._independent)

    def chain(
        self, stage: np.ndarray | None = None, deals: dict[int, int] | None = None
    ) -> FibreChain:
        """The chain, with the columns of some stages dealt the units of a row.

        Raises:
            IntractableConstraintError: past the budget.
        """
        order = column_order(
            self._columns,
            np.maximum(self._highest - self._lowest, 0) + 1,
            self._block,
            self._bounds - self._lowest @ self._columns,
            stage,
        )
        steps, levels, dealt = self._steps(order, stage, deals or {})
        limit = self._task.max_transitions
        origin = np.zeros((1, len(self._parts.rows)), dtype=np.int64)
        starts = self._starts(order, origin)
        ends = np.concatenate([origin, origin])
        found = walk(steps, starts, ends, self._independent, limit)
        tables = prune(found, limit * PADDING if dealt else limit)
        largest = np.where(levels < 0, self._highest[order], tables.num_values[levels] - 1)
        return FibreChain(
            variables=self._parts.variables,
            column=np.argsort(order)[self._column],
            rows=self._parts.rows,
            coefficients=self._columns[order],
            levels=levels,
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
        if self._task.starts is not None:
            return np.unique(self._task.starts[:, self._parts.rows], axis=0)
        steps = [self._column_step(int(j), sign=-1) for j in order]
        limit = self._task.max_transitions
        reached = walk(steps, origin, self._bounds, self._independent, limit)
        return np.unique(reached.last, axis=0)

    def _column_step(self, j: int, sign: int = 1) -> ColumnStep:
        possible = None if self._possible is None else self._possible[j]
        lowest, highest = int(self._lowest[j]), int(self._highest[j])
        return ColumnStep(sign * self._columns[j], lowest, highest, possible)

    def _steps(
        self, order: np.ndarray, stage: np.ndarray | None, deals: dict[int, int]
    ) -> tuple[list[Step], np.ndarray, tuple[Deal, ...]]:
        """Steps, the level of every column (-1 where units are dealt to it), and the deals."""
        steps, levels = list[Step](), np.full(len(order), -1)
        dealt, level, place = list[Deal](), 0, 0
        stage = np.full(len(order), -1) if stage is None else stage
        while place < len(order):
            row = deals.get(int(stage[order[place]]), -1)
            if row < 0 or not self._units(order[place], row):
                steps.append(self._column_step(int(order[place])))
                levels[place] = level
                level, place = level + 1, place + 1
                continue
            inside = np.flatnonzero(stage[order] == stage[order[place]])
            step, deal = self._deal(order, inside, row, level)
            steps.append(step)
            dealt.append(deal)
            level, place = deal.stop, place + len(inside)
        return steps, levels, tuple(dealt)

    def _deal(
        self, order: np.ndarray, inside: np.ndarray, row: int, level: int
    ) -> tuple[DealStep, Deal]:
        columns = self._columns[order[inside]]
        unit, count = int(columns[0, row]), self._units(order[inside[0]], row)
        deal = Deal(level, level + count, int(self._parts.rows[row]), unit, inside)
        return DealStep(columns, row, count), deal

    def _units(self, j: int, row: int) -> int:
        """The most units of the row that column j can take."""
        return int(self._bounds[1, row]) // int(self._columns[j, row])


def _chain_columns(parts: FibreParts, merge: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns ``(q, r)``, a variable of each ``(q,)`` and the column of each variable ``(p,)``."""
    if not merge:
        every = np.arange(len(parts.variables))
        return parts.columns.toarray(), every, every
    columns, first, column = np.unique(
        parts.columns.toarray(), axis=0, return_index=True, return_inverse=True
    )
    return columns, first, column.reshape(-1)


def _require_few_coefficients(parts: FibreParts) -> None:
    num_variables, num_rows = parts.columns.shape
    if num_variables * num_rows > MAX_COEFFICIENTS:
        raise IntractableConstraintError(
            f"the fibre of A x = k is too large for an exact answer: {num_variables} variables in "
            f"{num_rows} rows of different coefficients, the budget is {MAX_COEFFICIENTS} for "
            "their product; draw with FiberSampler instead, or use groups of one coefficient."
        )
