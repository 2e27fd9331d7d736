"""All points of a small fiber, and their number."""

from dataclasses import replace
from math import comb, prod

import numpy as np

from constrained_core.errors import IntractableConstraintError, UnboundedSupportError
from constrained_core.fiber.lattice import as_integers
from constrained_core.fiber.plan import FiberPlan
from constrained_core.fiber.planner import plan_fiber
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis

__all__ = ["MAX_POINTS", "count_fiber", "enumerate_fiber"]

MAX_POINTS = 1_000_000
"""Fibers up to this many points are enumerated."""


def count_fiber(plan: FiberPlan, k: np.ndarray) -> int:
    """The exact number of points with ``A x = k`` that the parameters of the plan leave possible.

    Args:
        plan: the plan of the fiber.
        k: ``(m,)`` a right-hand side of the plan.

    Raises:
        InfeasibleConstraintError: k is not among those of the plan.
        IntractableConstraintError: a table or a trellis of which the points cannot be counted.
        UnboundedSupportError: a variable in no row of an unbounded law.
    """
    k = plan.sides(as_integers("k", k))
    if (plan.upper < 0).any():
        raise UnboundedSupportError(
            f"the fiber has infinitely many points: variable {int(np.argmin(plan.upper))} is in "
            "no row and has no largest value; bound it by a row."
        )
    counts = [_trellis_count(*part) for part in _trellises(plan, k)]
    return _free_count(plan) * _group_count(plan, k) * prod(counts)


def _free_count(plan: FiberPlan) -> int:
    return prod(int(u) + 1 for u in plan.upper[plan.free])


def _group_count(plan: FiberPlan, k: np.ndarray) -> int:
    """Compositions, or subsets where no member exceeds 1: for totals up to 1 they agree."""
    if plan.groups is None:
        return 1
    groups = plan.groups
    is_subset = plan.upper[groups.variables].max() <= 1
    return prod(
        comb(size, total) if is_subset else comb(total + size - 1, total)
        for size, total in zip(groups.sizes.tolist(), groups.totals(k).tolist(), strict=True)
    )


def _trellises(plan: FiberPlan, k: np.ndarray) -> list[tuple[Trellis, int]]:
    """The trellis and those of the tables, each with the start of its paths."""
    trellises = [] if plan.trellis is None else [(plan.trellis, int(plan.trellis.start_of(k)))]
    for trellis, _ in trellises:
        if trellis.deals:
            raise IntractableConstraintError(
                f"the points of a fiber of {trellis.num_transitions} transitions are too many to "
                "be counted; draw samples instead."
            )
    return trellises + [_table_trellis(table, table.margins(k)) for table in plan.tables]


def _table_trellis(table: TwoWayTable, margins: np.ndarray) -> tuple[Trellis, int]:
    """The trellis of a table, cell by cell."""
    rows, columns = (np.arange(size)[:, None] for size in table.shape)
    matrix = np.concatenate([table.row == rows, table.column == columns]).astype(np.int64)
    trellis = plan_fiber(matrix, margins).trellis
    assert trellis is not None
    return replace(trellis, variables=table.variables[trellis.variables]), int(
        trellis.start_of(margins)
    )


def _trellis_count(trellis: Trellis, start: int) -> int:
    """Number of paths; a value u of c merged columns stands for comb(u + c - 1, u)."""
    counts = _path_counts(trellis, np.dtype(np.float64))
    if counts.max(initial=0) > 2.0**52:
        counts = _path_counts(trellis, np.dtype(object))
    return int(counts[start])


def _path_counts(trellis: Trellis, word: np.dtype) -> np.ndarray:
    merged = np.bincount(trellis.column, minlength=trellis.num_columns).tolist()
    counts = np.ones(1, dtype=word)
    for stage in reversed(range(trellis.num_columns)):
        size, values = merged[stage], trellis.values(stage)
        ways = np.array([comb(u + size - 1, u) for u in range(values.max() + 1)], dtype=word)
        later = np.append(counts, np.zeros(1, dtype=word))[trellis.next[stage]]
        counts = (later * ways[values]).sum(axis=1)
    return counts


def enumerate_fiber(plan: FiberPlan, k: np.ndarray) -> np.ndarray:
    """All points with ``A x = k`` that the parameters of the plan leave possible, in lexicographic
    order.

    Args:
        plan: the plan of the fiber.
        k: ``(m,)`` a right-hand side of the plan.

    Returns:
        ``(count, n)`` int64.

    Raises:
        InfeasibleConstraintError: k is not among those of the plan.
        IntractableConstraintError: more than a million points.
        UnboundedSupportError: a variable in no row of an unbounded law.
    """
    k = as_integers("k", k)
    count = count_fiber(plan, k)
    if count > MAX_POINTS:
        raise IntractableConstraintError(
            f"the fiber of A x = k has {count} points, the limit of an enumeration is "
            f"{MAX_POINTS}; draw samples instead."
        )
    k = plan.sides(k)
    points = np.zeros((1, plan.num_variables), dtype=np.int64)
    if plan.fixed is not None:
        points[:, plan.fixed.variables] = plan.fixed.values
    for variable in plan.free:
        points, value = _expanded(points, np.array([0]), np.array([plan.upper[variable] + 1]))
        points[:, variable] = value
    if plan.groups is not None:
        totals = plan.groups.totals(k)
        for members, total in zip(plan.groups.members, totals, strict=True):
            inside = plan.groups.variables[members[members < len(plan.groups.variables)]]
            points = _with_parts(points, np.array([total]), inside, plan.upper)
    for trellis, start in _trellises(plan, k):
        points = _with_trellis(points, trellis, start, plan.upper)
    return points[np.lexsort(points.T[::-1])] if plan.num_variables else points


def _expanded(
    points: np.ndarray, first: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every point as often as it has values, and the values ``first, first + 1, ...``."""
    first, count = (np.broadcast_to(a, len(points)) for a in (first, count))
    source = np.repeat(np.arange(len(points)), count)
    within = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    return points[source], first[source] + within


def _with_parts(
    points: np.ndarray, total: np.ndarray, variables: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Split a total between variables in all ways that respect their largest values."""
    left = np.broadcast_to(total, len(points))
    for position, variable in enumerate(variables):
        later = int(upper[variables[position + 1 :]].sum())
        first = np.maximum(left - later, 0)
        last = np.minimum(left, upper[variable])
        rest = np.column_stack([points, left])
        expanded, value = _expanded(rest, first, last - first + 1)
        points, left = expanded[:, :-1], expanded[:, -1] - value
        points[:, variable] = value
    return points


def _with_trellis(
    points: np.ndarray, trellis: Trellis, start: int, upper: np.ndarray
) -> np.ndarray:
    """Follow all paths; a value of merged columns is split between their variables."""
    state = np.full(len(points), start)
    for stage, table in enumerate(trellis.next):
        target = table[state]
        source, place = np.nonzero(target < trellis.sizes[stage + 1])
        value = trellis.first[stage][state[source]] + place
        state = target[source, place]
        inside = trellis.variables[trellis.column == stage]
        rest = np.column_stack([points[source], state])
        rest = _with_parts(rest, value, inside, upper)
        points, state = rest[:, :-1], rest[:, -1]
    return points
