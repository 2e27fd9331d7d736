"""What a plan is made from, reduced to what it depends on."""

from collections.abc import Hashable

import numpy as np

from constrained_core.cache import content
from constrained_core.errors import ConstraintError
from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.facts import Facts
from constrained_core.fiber.parts import FiberParts
from constrained_core.fiber.plan import FiberPlan
from constrained_core.fiber.trellis_builder import TrellisSpecification, make_trellis

__all__ = ["Specification", "row_range"]


class Specification:
    """A plan to be made.

    Args:
        whole: A taken apart.
        facts: the constraint taken apart, and what parameters say of it.
        k: ``(*batch, m)`` what is left of the right-hand sides, or None where they are not known.
        upper: ``(n,)`` largest values by the base law, or None.
        k_max: ``(m,)`` the largest k where it is not known, or None.
        merge: whether equal columns are one column of the trellis.
        edges: whether the trellis also has the right-hand sides that a fixed variable leaves when
            it is one larger.
        max_transitions: budget of the trellis.
    """

    def __init__(
        self,
        whole: FiberParts,
        facts: Facts,
        k: np.ndarray | None,
        upper: np.ndarray | None,
        k_max: np.ndarray | None,
        merge: bool,
        edges: bool,
        max_transitions: int,
    ) -> None:
        if k is None and k_max is None and upper is None:
            raise ConstraintError(
                "k is not known when the fiber is planned and the base law is unbounded: give "
                "k_max of shape (m,), the largest k, or a concrete k."
            )
        self._whole, self._facts, self._upper = whole, facts, upper
        self._merge, self._max_transitions = merge, max_transitions
        limits = None
        if k_max is not None and k is None:
            shift = np.zeros_like(k_max) if facts.fixed is None else facts.fixed.shift
            limits = -shift, k_max - shift
        self._row_range = row_range(facts.parts, upper, limits)
        self._starts, self._bounds = None, self._row_range
        if k is not None:
            num_rows = facts.parts.shape[0]
            k = k.reshape(-1, num_rows) if k.size else np.zeros((1, num_rows), dtype=np.int64)
            if edges and facts.fixed is not None:
                k = np.concatenate([k, *(k - column for column in facts.fixed.columns)])
            self._starts = k if len(k) == 1 else np.unique(k, axis=0)
            self._bounds = np.stack([k.min(axis=0), k.max(axis=0)])

    @property
    def key(self) -> Hashable:
        """All that the plan depends on, beside the matrix."""
        starts, rows = self._starts, self._facts.parts.rows
        starts = None if starts is None else np.unique(starts[:, rows], axis=0)
        arrays = (starts, self._bounds, self._row_range, self._upper)
        return (*map(content, arrays), self._facts.key, self._merge, self._max_transitions)

    def plan(self) -> FiberPlan:
        """The plan, made anew."""
        facts, trellis = self._facts, None
        parts = facts.parts
        num_rows, num_variables = parts.shape
        upper = np.full(num_variables, -1) if self._upper is None else self._upper.copy()
        free = parts.free
        if facts.fixed is not None:
            free = np.setdiff1d(free, facts.fixed.variables)
            upper[facts.fixed.variables] = facts.fixed.values
        if parts.groups is not None:
            variables = parts.groups.variables
            largest = self._largest_totals(parts.groups)[parts.groups.index]
            own = largest if self._upper is None else upper[variables]
            upper[variables] = np.minimum(own, largest)
        margins = tuple(table.largest_margins(self._bounds) for table in facts.tables)
        for table, largest in zip(facts.tables, margins, strict=True):
            in_row, in_column = largest[table.row], largest[table.shape[0] + table.column]
            upper[table.variables] = np.minimum(in_row, in_column)
            parts = parts.without(table.variables)
        if len(parts.variables):
            trellis = make_trellis(parts, self._of_trellis())
            upper[trellis.variables] = trellis.largest[trellis.column]
        independent = self._whole.lattice.kept
        return FiberPlan(
            num_rows=num_rows,
            num_variables=num_variables,
            independent=independent,
            entries=(self._whole.positive + self._whole.negative)[independent],
            upper=upper,
            fixed=facts.fixed,
            possible=facts.possible,
            free=free,
            groups=parts.groups,
            tables=facts.tables,
            margins=margins,
            trellis=trellis,
            lattice=parts.lattice,
            row_range=self._row_range,
        )

    def _of_trellis(self) -> TrellisSpecification:
        return TrellisSpecification(
            starts=self._starts,
            bounds=self._bounds,
            upper=self._upper,
            possible=self._facts.possible,
            merge=self._merge,
            max_transitions=self._max_transitions,
        )

    def _largest_totals(self, groups: DisjointGroups) -> np.ndarray:
        totals = self._bounds[:, groups.rows] / groups.divisor
        return np.floor(totals.max(axis=0).clip(0)).astype(np.int64)


def row_range(
    parts: FiberParts, upper: np.ndarray | None, limits: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """``(2, m)`` the least and the largest (A x)_i; infinite where x is unbounded."""
    largest_x = np.ones(parts.shape[1]) if upper is None else upper.astype(float)
    least, largest = parts.negative @ largest_x, parts.positive @ largest_x
    if upper is None:
        least, largest = np.where(least < 0, -np.inf, 0), np.where(largest > 0, np.inf, 0)
    if limits is not None:
        least, largest = np.maximum(least, limits[0]), np.minimum(largest, limits[1])
    return np.stack([least, largest])
