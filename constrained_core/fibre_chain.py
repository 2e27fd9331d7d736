"""The chain of a constraint: columns, their bounds and order, and the tables of states."""

import numpy as np

from constrained_core.errors import IntractableConstraintError
from constrained_core.fibre import FibreChain
from constrained_core.fibre_blocks import FibreParts
from constrained_core.fibre_bounds import largest_values, require_bounded
from constrained_core.fibre_order import column_order
from constrained_core.fibre_states import prune, walk

__all__ = ["make_chain"]

MAX_COEFFICIENTS = 5_000_000


def make_chain(
    parts: FibreParts,
    starts: np.ndarray | None,
    bounds: np.ndarray,
    upper: np.ndarray | None,
    merge: bool,
    max_transitions: int,
) -> FibreChain:
    """Plan the chain of the variables that are neither free nor in groups.

    Args:
        parts: the constraint.
        starts: ``(S, r)`` right-hand sides on ``parts.rows``, or None for all within bounds.
        bounds: ``(2, m)`` least and largest right-hand side of every row of A.
        upper: ``(n,)`` largest values by the base law, or None.
        merge: whether equal columns are one column.
        max_transitions: the budget.

    Raises:
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: past the budget.
    """
    _require_few_coefficients(parts)
    columns, first, column = _chain_columns(parts, merge)
    if upper is None:
        require_bounded(columns, parts.variables[first])
    bounds = bounds[:, parts.rows].astype(np.int64)
    largest = None if upper is None else upper[parts.variables[first]]
    num_values = largest_values(columns, bounds, largest) + 1
    order = column_order(columns, num_values, parts.block[first], bounds)
    columns, num_values = columns[order], num_values[order]
    independent = np.flatnonzero(np.isin(parts.rows, parts.lattice.kept))
    origin = np.zeros((1, len(parts.rows)), dtype=np.int64)
    if starts is None:
        reached = walk(-columns, num_values, origin, bounds, independent, max_transitions)
        starts = np.unique(reached.last, axis=0)
    ends = np.concatenate([origin, origin])
    found = walk(columns, num_values, starts, ends, independent, max_transitions)
    tables = prune(found, max_transitions)
    return FibreChain(
        variables=parts.variables,
        column=np.argsort(order)[column],
        rows=parts.rows,
        coefficients=columns,
        starts=starts[tables.alive],
        sizes=tables.sizes,
        num_values=tables.num_values,
        first=tables.first,
        next=tables.next,
    )


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
