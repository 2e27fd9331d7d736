"""The order of the columns of a trellis: rows close early, so that few states are alive at once."""

import numpy as np

__all__ = ["column_order"]

MAX_LANES = 64
"""First columns that are tried at most."""

MAX_LANE_ENTRIES = 200_000
"""Coefficients times lanes that are looked at in one step, where more than one lane is tried."""


def column_order(
    columns: np.ndarray,
    num_values: np.ndarray,
    block: np.ndarray,
    bounds: np.ndarray,
    phase: np.ndarray | None = None,
) -> np.ndarray:
    """A greedy order, block after block: the column that leaves fewest states comes next.

    Args:
        columns: ``(q, r)`` coefficients.
        num_values: ``(q,)`` number of values of every column.
        block: ``(q,)`` independent block of every column.
        bounds: ``(2, r)`` least and largest right-hand side of every row.
        phase: ``(q,)`` columns of one phase come before those of the next; equal columns are of
            one phase.

    Returns:
        ``(q,)`` column numbers.
    """
    phase = np.zeros_like(block) if phase is None else phase
    parts = [np.flatnonzero(block == label) for label in np.unique(block)]
    ordered = []
    for part in parts:
        rows = columns[part].any(axis=0)
        inside = columns[np.ix_(part, rows)]
        order = _greedy(inside, num_values[part], bounds[:, rows], phase[part])
        ordered.append(part[order])
    return np.concatenate([np.zeros(0, dtype=np.int64), *ordered])


def _greedy(
    columns: np.ndarray, num_values: np.ndarray, bounds: np.ndarray, phase: np.ndarray
) -> np.ndarray:
    """Equal columns stay together; distinct ones are tried as the first in parallel lanes."""
    distinct, one, kind = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    phase, phases = phase[one], np.sort(phase[one])
    values = np.bincount(kind.reshape(-1), num_values - 1) + 1
    step = distinct * (values - 1)[:, None].astype(float)
    low, high = np.minimum(step, 0), np.maximum(step, 0)
    num_lanes = min(MAX_LANES, 1 + MAX_LANE_ENTRIES // (distinct.size + 1))
    first = np.flatnonzero(phase == phases[0])[:num_lanes]
    lanes = np.arange(len(first))
    is_left = np.ones((len(first), len(distinct)), dtype=bool)
    orders = np.zeros((len(first), len(distinct)), dtype=np.int64)
    cost, before = np.full(len(first), -np.inf), np.zeros(len(first))
    for position in range(len(distinct)):
        states = _log_states(is_left, low, high, values, bounds)
        states[:, phase > phases[position]] = np.inf
        chosen = first if position == 0 else np.argmin(states, axis=1)
        cost = np.logaddexp(cost, before + np.log(values[chosen]))
        before = states[lanes, chosen]
        orders[:, position] = chosen
        is_left[lanes, chosen] = False
    best = np.empty(len(distinct), dtype=np.int64)
    best[orders[np.argmin(cost)]] = np.arange(len(distinct))
    return np.argsort(best[kind.reshape(-1)], kind="stable")


def _log_states(
    is_left: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    values: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """Log of a bound of the number of states after each column that could come next.

    Per row, what is left must be reachable from both ends; and there are no more states than
    values of the columns before, or of those after.

    Returns:
        ``(lanes, q)``, infinite for columns that are used already.
    """
    low_left = (is_left @ low)[:, None] - low
    high_left = (is_left @ high)[:, None] - high
    low_used, high_used = low.sum(axis=0) - low_left, high.sum(axis=0) - high_left
    least = np.maximum(low_left, bounds[0] - high_used)
    largest = np.minimum(high_left, bounds[1] - low_used)
    by_rows = np.log(np.maximum(largest - least, 0) + 1).sum(axis=-1)
    log_values = np.log(values)
    after = (is_left @ log_values)[:, None] - log_values
    states = np.minimum(by_rows, np.minimum(after, log_values.sum() - after))
    return np.where(is_left, states, np.inf)
