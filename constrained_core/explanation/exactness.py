"""What the exact discrete laws, and the walk beside them, make of a constraint in whole numbers."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from constrained_core.errors import (
    ConstraintError,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
)
from constrained_core.explanation.card import plural
from constrained_core.fiber.known import known_rates
from constrained_core.fiber.plan import FiberPlan
from constrained_core.fiber.planner import MAX_TRANSITIONS, plan_fiber
from constrained_core.fiber.points import count_fiber
from constrained_core.fiber.trellis import Trellis
from constrained_core.groups import GroupSum
from constrained_core.walk.plan import plan_walk
from constrained_core.walk.weights import CountWeights, TableWeights, Weights

__all__ = ["Exactness", "parts_of_plan", "whole_number_laws"]

COUNTED = 200_000
"""Transitions, and members or totals of groups, up to which points are counted."""

WALKED = 200
"""Variables up to which a walk is planned, which takes longer than the plan of a law."""

FAILURES = {
    InfeasibleConstraintError: "no point",
    UnboundedSupportError: "unbounded",
    IntractableConstraintError: "too large",
}


@dataclass(frozen=True, eq=False)
class Exactness:
    """What one discrete law makes of a constraint, if its parameters rule no value out.

    Attributes:
        law: its class.
        verdict: ``exact``, ``too large``, ``no point``, ``unbounded``, or ``refused`` where k is
            missing or not whole.
        reason: what the law raises, or None.
        method: how it computes, or None.
        stages, states, largest_stage, transitions: of the trellis: columns, states of all stages
            and of the largest, and entries of all tables. Zeros where there is none.
        max_transitions: the budget of transitions.
        points: how many points there are; None where that was not counted.
        walk: what ``FiberSampler`` would do, or None.
        plan: the plan of the fiber, or None.
    """

    law: str
    verdict: str
    max_transitions: int
    reason: str | None = None
    method: str | None = None
    stages: int = 0
    states: int = 0
    largest_stage: int = 0
    transitions: int = 0
    points: int | None = None
    walk: str | None = None
    plan: FiberPlan | None = None

    @property
    def is_exact(self) -> bool:
        """Whether draws, masses and moments are exact."""
        return self.verdict == "exact"

    @property
    def text(self) -> str:
        """All of it in words."""
        parts = [f"{self.verdict}: {self.method if self.reason is None else self.reason}"]
        if self.points is not None:
            parts.append(f"{_number(self.points)} in all")
        if self.walk is not None:
            parts.append(f"FiberSampler: {self.walk}")
        return "\n".join(parts)


def whole_number_laws(
    matrix: np.ndarray | GroupSum,
    k: np.ndarray | None,
    num_categories: int | None,
    max_transitions: int | None,
) -> tuple[Exactness, ...]:
    """What the discrete laws make of ``A x = k``.

    Args:
        matrix: ``(m, n)`` whole numbers, or a ``GroupSum`` of whole weights.
        k: ``(*batch, m)``, or None.
        num_categories: C, to look at ``ConstrainedCategorical`` too.
        max_transitions: the budget; 10^7 if None.
    """
    n = matrix.shape[1]
    # With the options of the laws themselves, whose plans these are.
    found: list[tuple[str, dict[str, Any], Weights]] = [
        ("ConstrainedPoisson", {"merge": True}, CountWeights(np.ones(n))),
        ("ConstrainedBernoulli", {"upper": np.full(n, 1)}, _even_table(n, 2)),
    ]
    if num_categories is not None:
        options = {"upper": np.full(n, num_categories - 1), "grouped": False}
        found.append(("ConstrainedCategorical", options, _even_table(n, num_categories)))
    return tuple(
        _exactness(law, matrix, k, max_transitions, options, weights)
        for law, options, weights in found
    )


def _even_table(num_variables: int, num_values: int) -> TableWeights:
    return TableWeights(np.zeros((num_variables, num_values)))


def _exactness(
    law: str,
    matrix: np.ndarray | GroupSum,
    k: np.ndarray | None,
    max_transitions: int | None,
    options: dict[str, Any],
    weights: Weights,
) -> Exactness:
    budget = MAX_TRANSITIONS if max_transitions is None else max_transitions
    try:
        plan = plan_fiber(matrix, k, max_transitions=max_transitions, **options)
    except ConstraintError as error:
        verdict = FAILURES.get(type(error), "refused")
        walk = _walk(matrix, k, weights) if verdict == "too large" else None
        reason = f"{error}{_closed_form(matrix, k, options)}" if verdict == "too large" else error
        return Exactness(law, verdict, budget, reason=str(reason), walk=walk)
    trellis = plan.trellis
    return Exactness(
        law,
        "exact",
        budget,
        method=parts_of_plan(plan, budget),
        stages=0 if trellis is None else trellis.num_columns,
        states=0 if trellis is None else int(trellis.sizes.sum()),
        largest_stage=0 if trellis is None else int(trellis.sizes.max()),
        transitions=0 if trellis is None else trellis.num_transitions,
        points=_points(plan, k),
        walk=_walk(matrix, k, weights),
        plan=plan,
    )


def parts_of_plan(plan: FiberPlan, max_transitions: int | None = None) -> str:
    """The independent parts of a fiber, and how each is computed."""
    parts = []
    if plan.fixed is not None:
        parts.append(f"{plural(len(plan.fixed.variables), 'variable')} fixed by the parameters")
    if len(plan.free):
        parts.append(f"{plural(len(plan.free), 'variable')} in no row, of the base law")
    if plan.groups is not None:
        sums = plural(plan.groups.num_groups, "sum")
        members = plural(len(plan.groups.variables), "variable")
        parts.append(f"{sums} over {members}, group by group")
    for table in plan.tables:
        rows, columns = table.shape
        parts.append(f"a {rows} x {columns} table of independent rows and columns, in closed form")
    if plan.trellis is not None:
        limit = "" if max_transitions is None else f" (at most {max_transitions:,})"
        parts.append(_trellis(plan.trellis) + limit)
    return "; ".join(parts) or "no variable"


def _trellis(trellis: Trellis) -> str:
    states, largest = int(trellis.sizes.sum()), int(trellis.sizes.max())
    return (
        f"a trellis of {plural(trellis.num_columns, 'stage')}, {plural(states, 'state')}, "
        f"{largest:,} in the largest, and {plural(trellis.num_transitions, 'transition')}"
    )


def _closed_form(
    matrix: np.ndarray | GroupSum, k: np.ndarray | None, options: dict[str, Any]
) -> str:
    """Whether rates that are products would need no programme."""
    if not options.get("merge"):
        return ""
    ones = known_rates(np.ones(matrix.shape[1]), matrix.shape[1])
    try:
        plan = plan_fiber(matrix, k, known=lambda: ones, **options)
    except ConstraintError:
        return ""
    return f" Rates that are products r_i c_j are exact: {parts_of_plan(plan)}."


def _points(plan: FiberPlan, k: np.ndarray | None) -> int | None:
    """The number of points, where counting is cheap."""
    if k is None or k.ndim != 1 or (plan.upper < 0).any():
        return None
    work = 0 if plan.trellis is None else plan.trellis.num_transitions
    if plan.groups is not None:
        work += len(plan.groups.variables) + int(np.abs(plan.groups.totals(k)).sum())
    if work + len(plan.free) > COUNTED:
        return None
    try:
        return count_fiber(plan, k)
    except IntractableConstraintError:  # of a trellis whose rows are dealt out
        return None


def _walk(matrix: np.ndarray | GroupSum, k: np.ndarray | None, weights: Weights) -> str | None:
    """How ``FiberSampler`` would walk from point to point."""
    if k is None or k.ndim != 1:
        return None
    if matrix.shape[1] > WALKED:
        return f"planned here up to {WALKED} variables only; its `connectivity` tells"
    try:
        plan = plan_walk(matrix, k, weights)
    except ConstraintError as error:
        return str(error)
    connected = {True: "connected", False: "not connected", None: "not known to be connected"}
    known = plan.connectivity
    steps = plural(plan.num_steps, "step")
    return f"{steps} a sweep, {connected[known.is_connected]}: {known.reason}"


def _number(count: int) -> str:
    """A number of points, of which a large one has too many digits."""
    return plural(count, "point") if count < 10**15 else f"about {Decimal(count):.2e} points"
