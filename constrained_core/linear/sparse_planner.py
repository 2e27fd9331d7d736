"""From a sparse constraint matrix to its plan: nothing r x r or m x n is made dense."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from constrained_core.checks.sides import infinite_matrix
from constrained_core.linear.elimination import Elimination, choose_pivots
from constrained_core.linear.row_space import RowSpace
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.linear.sparse_rank import dependent_rows, part_labels
from constrained_core.linear.structure import (
    cleaned,
    cleaned_sparse,
    log_column_volume,
    power_of_two_scale,
    rounding,
)
from constrained_core.sparse import SparseMatrix, SparsePattern

__all__ = ["make_pattern_plan", "make_sparse_plan"]

BLOCK = 256
"""Dense right-hand sides that are solved for at once."""

CANDIDATE = 1e-3
"""Followers at most so large, beside what rounding could hide, may be zero."""


def make_pattern_plan(pattern: SparsePattern) -> SparsePlan:
    """The plan of rows whose values are not known: all are kept as they are."""
    num_rows, num_variables = pattern.shape
    unknown = np.full(len(pattern.row), np.nan)
    return SparsePlan(
        num_rows=num_rows,
        num_variables=num_variables,
        kept=np.arange(num_rows),
        row_scale=np.ones(num_rows),
        log_volume=float("nan"),
        log_range_volume=float("nan"),
        determined=np.zeros(0, dtype=np.int64),
        dependence=sparse.csr_array((0, num_rows)),
        given=pattern,
        given_values=unknown,
        kept_entries=np.arange(len(pattern.row)),
        pattern=pattern,
        values=unknown,
        chosen_pivots=None,
    )


def make_sparse_plan(matrix: SparseMatrix) -> SparsePlan:
    """Analyse a sparse matrix of known values.

    Raises:
        ConstraintError: NaN or infinity in the matrix.
    """
    values = np.array(matrix.values)
    if not np.isfinite(values).all():
        raise infinite_matrix()
    eps = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    given_values = values.astype(np.float64)
    given, (num_rows, num_variables) = matrix.pattern, matrix.pattern.shape
    rows = sparse.csr_array((given_values, (given.row, given.column)), shape=given.shape)
    rows.eliminate_zeros()
    norms = np.sqrt(np.bincount(given.row, given_values**2, minlength=num_rows))
    scale = power_of_two_scale(norms)
    rows = sparse.csr_array(sparse.diags_array(scale) @ rows)
    dropped = dependent_rows(rows, max(eps, float(np.finfo(np.float64).eps)))
    kept = np.setdiff1d(np.arange(num_rows), dropped)
    space = RowSpace(rows[kept])
    dependence = _dependence(space, rows, kept, dropped)
    dependence = sparse.csr_array(sparse.diags_array(1 / scale[dropped]) @ dependence)
    kept_entries, pattern = _kept_part(given, given_values, kept)
    row_scale = scale[kept]
    log_volume = space.log_volume
    pivots = choose_pivots(space.rows, space.row_order)
    determined = _determined(space.rows, pivots)
    return SparsePlan(
        num_rows=num_rows,
        num_variables=num_variables,
        kept=kept,
        row_scale=row_scale,
        log_volume=log_volume,
        log_range_volume=log_volume + _log_mixing(row_scale, dependence),
        determined=determined,
        dependence=dependence,
        given=given,
        given_values=given_values,
        kept_entries=kept_entries,
        pattern=replace(pattern, settled=determined),
        values=given_values[kept_entries] * row_scale[pattern.row],
        chosen_pivots=pivots,
    )


def _kept_part(
    given: SparsePattern, values: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, SparsePattern]:
    """The entries that are executed, and where they are among the kept rows."""
    position = np.full(given.shape[0], -1)
    position[kept] = np.arange(len(kept))
    entries = np.flatnonzero((position[given.row] >= 0) & (values != 0))
    row, column = position[given.row[entries]], given.column[entries]
    return entries, SparsePattern(row, column, (len(kept), given.shape[1]))


def _dependence(
    space: RowSpace, rows: sparse.csr_array, kept: np.ndarray, dropped: np.ndarray
) -> sparse.csr_array:
    """``(p, r)`` C with ``rows[dropped] = C rows[kept]``, without rounding errors.

    Rows of parts that share no variable are solved for together, as one sum.
    """
    if len(dropped) == 0 or len(kept) == 0:
        return sparse.csr_array((len(dropped), len(kept)))
    part, _ = part_labels(rows)
    blocks = []
    for start in range(0, int(_turns(part[dropped]).max()) + 1, BLOCK):
        turn = _turns(part[dropped]) - start
        is_in = (turn >= 0) & (turn < BLOCK)
        which = np.flatnonzero(is_in)
        solution = _summed_coefficients(space, rows[dropped[which]], turn[which])
        owner = np.full((len(solution), part.max() + 1), -1)
        owner[turn[which], part[dropped[which]]] = which
        row = owner[:, part[kept]]
        place = np.nonzero((row >= 0) & (solution != 0))
        blocks.append((solution[place], row[place], place[1]))
    values, row, column = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return cleaned_sparse(sparse.csr_array((values, (row, column)), (len(dropped), len(kept))))


def _turns(part: np.ndarray) -> np.ndarray:
    """The place of every row among those of its part."""
    order = np.argsort(part, kind="stable")
    _, start, count = np.unique(part[order], return_index=True, return_counts=True)
    turn = np.empty(len(part), dtype=np.int64)
    turn[order] = np.arange(len(part)) - np.repeat(start, count)
    return turn


def _summed_coefficients(space: RowSpace, others: sparse.csr_array, turn: np.ndarray) -> np.ndarray:
    """Coefficients of the sums of rows that have the same turn."""
    size = int(turn.max()) + 1
    sums = sparse.csr_array((np.ones(len(turn)), (turn, np.arange(len(turn)))), (size, len(turn)))
    return space.coefficients((sums @ others).toarray())


def _log_mixing(row_scale: np.ndarray, dependence: sparse.csr_array) -> float:
    """1/2 log det(C'C) for C = [diag(1 / row_scale); dependence], which makes A of scaled rows.

    It is log |D| + 1/2 log det(I + M M') for D = diag(1 / row_scale) and M = dependence D^-1, whose
    rows fall into parts that share no column.
    """
    mixing = sparse.csr_array(dependence @ sparse.diags_array(row_scale))
    part, _ = part_labels(mixing)
    order = np.argsort(part, kind="stable")
    _, start = np.unique(part[order], return_index=True)
    parts = np.split(order, start[1:]) if len(order) else []
    return float(sum((_log_stacked(mixing[p]) for p in parts), -np.log(row_scale).sum()))


def _log_stacked(mixing: sparse.csr_array) -> float:
    """1/2 log det(I + M M'), the volume of [I; M'], rows of which may differ by orders."""
    columns = np.unique(mixing.indices)
    stacked = np.concatenate([np.eye(mixing.shape[0]), mixing[:, columns].toarray().T])
    return log_column_volume(stacked)


def _determined(rows: sparse.csr_array, pivots: np.ndarray) -> np.ndarray:
    """Variables that the constraint alone determines: pivots that follow from no free variable.

    Followers of random values find the candidates. Each is confirmed by the combination of rows
    that gives its unit vector; a coefficient that is small but not zero disproves it.
    """
    rank, num_variables = rows.shape
    free = np.setdiff1d(np.arange(num_variables), pivots)
    if rank in (0, num_variables):
        return pivots
    elimination = Elimination(sparse.csc_array(rows), pivots, free)
    probes = np.random.default_rng(0).normal(size=(4, len(free)))
    moved = np.abs(elimination.complete(np.zeros(rank), probes)).max(axis=0)
    candidates = np.flatnonzero(moved < CANDIDATE)
    confirmed = [
        candidates[start : start + BLOCK][
            _gives_unit(rows, elimination, pivots, candidates[start : start + BLOCK])
        ]
        for start in range(0, len(candidates), BLOCK)
    ]
    return np.sort(pivots[np.concatenate([np.zeros(0, dtype=np.int64), *confirmed])])


def _gives_unit(
    rows: sparse.csr_array, elimination: Elimination, pivots: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """Whether a combination of rows is the unit vector of each of these pivots."""
    place = np.arange(len(which)), which
    unit = np.zeros((len(which), len(pivots)))
    unit[place] = 1.0
    solution = cleaned(elimination.solve(unit, transposed=True))
    gap = solution @ rows
    gap[place[0], pivots[which]] -= 1
    return (np.abs(gap) <= 10 * rounding(len(pivots)) * (np.abs(solution) @ abs(rows))).all(axis=-1)
