"""The card of a law: what is known of it without computing anything."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from constrained_core.explanation.card import Line, as_html, listed, plural
from constrained_core.explanation.exactness import parts_of_plan
from constrained_core.explanation.methods import method, structure
from constrained_core.fiber.plan import FiberPlan
from constrained_core.groups import GroupSum
from constrained_core.linear.plan import Plan
from constrained_core.sparse import SparseMatrix

__all__ = ["LawFacts", "form_of", "law_card", "summary_of"]

Shape = tuple[int, ...]


def summary_of(law: Any) -> str:
    """The first sentence on the class of a law."""
    return (inspect.getdoc(type(law)) or "").partition("\n")[0]


def form_of(A: Any, is_vector: bool) -> str:
    """How A was given."""
    if isinstance(A, GroupSum):
        return "GroupSum"
    if isinstance(A, SparseMatrix):
        return f"sparse, {len(A.row):,} entries"
    return "one row" if is_vector else "dense"


@dataclass(frozen=True, eq=False, kw_only=True)
class LawFacts:
    """What a law knows of itself; None for what it does not, as inside of a trace.

    Attributes:
        name: of its class.
        summary: the first sentence on it.
        batch_shape, event_shape: of its draws.
        parameters: their names and shapes.
        form: how A was given: ``dense``, ``one row``, ``GroupSum`` or ``sparse``.
        matrix_shape, k_shape: of A and k.
        rank: the number of independent rows.
        plan: of A, or of the fiber.
        covariance: the form of the covariance, by which a method is chosen; None for laws of
            whole numbers and for those that do not say.
        estimator: of gradients.
        dtype, device: of the parameters.
    """

    name: str
    summary: str
    batch_shape: Shape
    event_shape: Shape
    parameters: Sequence[tuple[str, Shape | None]]
    form: str
    matrix_shape: Shape | None
    k_shape: Shape | None
    rank: int | None
    plan: Plan | FiberPlan | None
    covariance: str | None
    estimator: str | None
    dtype: str | None
    device: str | None


def law_card(facts: LawFacts) -> str:
    """A table for a notebook."""
    return as_html(facts.name, _lines(facts))


def _lines(facts: LawFacts) -> list[Line]:
    unknown = "not known here"
    parameters = ", ".join(f"{name} {unknown if s is None else s}" for name, s in facts.parameters)
    matrix = f"{unknown if facts.matrix_shape is None else facts.matrix_shape}, {facts.form}"
    k = unknown if facts.k_shape is None else str(facts.k_shape)
    lines = [
        Line("law", facts.summary),
        Line("batch, event", f"{facts.batch_shape}, {facts.event_shape}"),
        Line("parameters", parameters or "none"),
        Line("A, k", f"{matrix}; k {k}"),
        Line("rank", _rank(facts)),
    ]
    if isinstance(facts.plan, FiberPlan):
        lines.append(Line("method", f"exact: {parts_of_plan(facts.plan)}"))
    else:
        if facts.plan is not None:
            lines.append(Line("structure", structure(facts.plan)))
        if facts.covariance is not None:
            lines.append(Line("method", method(facts.covariance, facts.plan)))
    if facts.estimator is not None:
        lines.append(Line("gradients", facts.estimator))
    if facts.dtype is not None:
        lines.append(Line("dtype", facts.dtype))
    if facts.device is not None:
        lines.append(Line("device", facts.device))
    return lines


def _rank(facts: LawFacts) -> str:
    if facts.rank is None:
        return "not one number that is known here"
    shape = facts.matrix_shape or ()
    known = f"{facts.rank:,}" + (f" of {plural(shape[-2], 'row')}" if len(shape) > 1 else "")
    dropped = _dropped(facts.plan)
    if not dropped:
        return known
    return f"{known}; redundant and dropped: {listed(dropped)}"


def _dropped(plan: Plan | FiberPlan | None) -> list[int]:
    if isinstance(plan, FiberPlan):
        return np.setdiff1d(np.arange(plan.num_rows), plan.independent).tolist()
    return [] if plan is None else plan.dropped.tolist()
