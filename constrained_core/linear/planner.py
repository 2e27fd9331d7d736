"""From a constraint to its plan. The only place that chooses a method."""

import warnings
from functools import lru_cache
from typing import overload

import numpy as np
from scipy import sparse
from scipy.linalg import lapack, qr, solve_triangular

from constrained_core.cache import Cache, Content
from constrained_core.checks.sides import mostly_zeros
from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from constrained_core.groups import GroupSum
from constrained_core.linear.plan import AnyPlan, DensePlan, GroupPlan, Plan, RowPlan
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.linear.sparse_planner import make_pattern_plan, make_sparse_plan
from constrained_core.linear.structure import (
    cleaned,
    exact_product_bits,
    factor_rows,
    log_column_volume,
    power_of_two_scale,
    rounding,
)
from constrained_core.sparse import SparseMatrix, SparsePattern

__all__ = ["check_consistency", "plan_constraint", "plan_pattern"]

WELL_CONDITIONED = 10.0
"""Rows up to this condition number are executed as they are; others are orthonormalised."""

LARGE, MOSTLY = 10**6, 0.99
"""Dense matrices of so many entries, more than this share of them zeros, get a hint."""

_DENSE_PLANS: Cache[AnyPlan] = Cache(max_entries=32)
_SPARSE_PLANS: Cache[SparsePlan] = Cache(max_entries=32)


@overload
def plan_constraint(matrix: SparseMatrix) -> SparsePlan:
    """Of sparse rows."""


@overload
def plan_constraint(matrix: np.ndarray | GroupSum) -> AnyPlan:
    """Of rows that are dense, or disjoint."""


def plan_constraint(matrix: np.ndarray | GroupSum | SparseMatrix) -> AnyPlan | SparsePlan:
    """Analyse a constraint matrix; the same content is analysed once.

    Args:
        matrix: ``(m, n)`` floats, a ``GroupSum``, or a ``SparseMatrix`` whose values are known.

    Raises:
        ConstraintError: NaN or infinity in the matrix, or a batch of sparse ones.
    """
    if isinstance(matrix, GroupSum):
        return _group_plan(matrix)
    if isinstance(matrix, SparseMatrix):
        return _sparse_plan(matrix)
    matrix = np.ascontiguousarray(matrix)
    return _DENSE_PLANS.get(Content(matrix), lambda: _dense_plan(matrix))


@lru_cache(maxsize=32)
def plan_pattern(pattern: SparsePattern) -> SparsePlan:
    """The plan of a sparse matrix whose values are traced, learned or a batch.

    Its rows are taken to be independent; nothing else is known of them.
    """
    return make_pattern_plan(pattern)


def _sparse_plan(matrix: SparseMatrix) -> SparsePlan:
    if matrix.ndim != 2:
        raise ConstraintError(
            f"A: expected one matrix whose values are known, got shape {matrix.shape}; a batch is "
            "planned by its pattern (plan_pattern)."
        )
    key = matrix.pattern, Content(np.ascontiguousarray(matrix.values))
    return _SPARSE_PLANS.get(key, lambda: make_sparse_plan(matrix))


def _hint_at_sparse(matrix: np.ndarray) -> None:
    if len(matrix) > 1 and matrix.size >= LARGE:
        share = 1 - np.count_nonzero(matrix) / matrix.size
        if share > MOSTLY:
            warnings.warn(mostly_zeros(matrix.shape, share), stacklevel=2)


def _require_finite(matrix: np.ndarray) -> None:
    if not np.isfinite(matrix).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
        raise ConstraintError(
            f"A: expected finite entries, got {matrix[where]} at {where}; check how A is made."
        )


def _dense_plan(matrix: np.ndarray) -> AnyPlan:
    _require_finite(matrix)
    _hint_at_sparse(matrix)
    eps = float(np.finfo(matrix.dtype).eps)
    norms = np.linalg.norm(matrix.astype(np.float64, copy=False), axis=-1)
    scale = power_of_two_scale(norms)
    factor = factor_rows(matrix * scale[:, None], eps)
    if len(factor.kept) == 0:
        return _empty_plan(*matrix.shape)
    order = np.argsort(factor.kept)
    kept = factor.kept[order]
    # Every row of A is a row of `mixing` times an orthonormal basis of the row space.
    mixing = np.concatenate([factor.triangle, factor.dropped_triangle])
    mixing = mixing / scale[np.concatenate([factor.kept, factor.dropped])][:, None]
    shared = {
        "num_rows": matrix.shape[0],
        "num_variables": matrix.shape[1],
        "kept": kept,
        "log_range_volume": log_column_volume(mixing),
    }
    dependence = cleaned(factor.dropped_triangle @ np.linalg.inv(factor.triangle))
    dependence = dependence[:, order] / scale[factor.dropped][:, None]
    rows = matrix[kept].astype(np.float64) * scale[kept][:, None]
    if len(rows) == 1:
        return _row_plan(rows[0], scale[kept], dependence, shared)
    orthonormal, upper = qr(rows.T, mode="economic", check_finite=False)
    determined, solution = _determined(rows, orthonormal, upper.T)
    is_plain, log_volume = _condition(upper.T) <= WELL_CONDITIONED, log_column_volume(upper.T)
    return DensePlan(
        **shared,
        row_scale=scale[kept],
        log_volume=log_volume if is_plain else 0.0,
        stored=_stored(rows, matrix.dtype),
        triangle=None if is_plain else upper.T,
        orthonormal=None if is_plain else orthonormal.T,
        dependence=dependence,
        exact_bits=exact_product_bits(rows),
        determined=determined,
        solution=solution,
    )


def _stored(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The scaled rows in the precision of A, unless one has underflowed there."""
    as_given = rows.astype(dtype)
    return as_given if np.array_equal(as_given, rows) else rows


def _determined(
    rows: np.ndarray, orthonormal: np.ndarray, triangle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variables that the constraint alone determines, and their values as ``solution @ scaled_k``.

    They are those whose unit vector is a combination of rows (``rows = triangle orthonormal'``).
    High leverage finds the candidates; a coefficient that is small but not zero disproves one.
    """
    candidates = np.flatnonzero(1 - np.sum(orthonormal**2, axis=-1) < 1e-6)
    solution = solve_triangular(triangle, orthonormal[candidates].T, lower=True, trans="T").T
    solution = cleaned(solution)
    gap = solution @ rows
    gap[np.arange(len(candidates)), candidates] -= 1
    size = np.abs(solution) @ np.abs(rows) if len(candidates) else gap
    holds = np.abs(gap) <= 10 * rounding(len(rows)) * size
    confirmed = holds.all(axis=-1)
    return candidates[confirmed], solution[confirmed]


def _row_plan(row: np.ndarray, scale: np.ndarray, dependence: np.ndarray, shared: dict) -> AnyPlan:
    is_constant = bool((row == row[0]).all())
    factor = row[0] if is_constant else 1.0
    return RowPlan(
        **shared,
        row_scale=scale / factor,
        log_volume=float(np.log(np.linalg.norm(row / factor))),
        determined=row.nonzero()[0] if np.count_nonzero(row) == 1 else np.zeros(0, dtype=np.int64),
        weights=None if is_constant else row,
        dependence=dependence * factor,
    )


@lru_cache(maxsize=32)
def _group_plan(groups: GroupSum) -> AnyPlan:
    num_rows, num_variables = groups.shape
    weights = np.ones(num_variables) if groups.weights is None else groups.weights
    norms = groups.norms
    kept = np.flatnonzero(norms)
    if len(kept) == 0:
        return _empty_plan(num_rows, num_variables)
    position = np.zeros(num_rows, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    is_plain = bool((weights == 1.0).all())
    scale = np.ones(len(kept)) if is_plain else power_of_two_scale(norms[kept])
    log_range_volume = float(np.log(norms[kept]).sum())
    index = position[groups.index]
    size = np.bincount(groups.index, weights != 0, minlength=num_rows)
    return GroupPlan(
        num_rows=num_rows,
        num_variables=num_variables,
        kept=kept,
        row_scale=scale,
        log_volume=log_range_volume + float(np.log(scale).sum()),
        log_range_volume=log_range_volume,
        determined=np.flatnonzero((size[groups.index] == 1) & (weights != 0)),
        dependence=sparse.csr_array((num_rows - len(kept), len(kept))),
        index=index,
        weights=None if is_plain else weights * scale[index],
    )


def _empty_plan(num_rows: int, num_variables: int) -> AnyPlan:
    """No independent row: the constraint holds everywhere."""
    return DensePlan(
        num_rows=num_rows,
        num_variables=num_variables,
        kept=np.zeros(0, dtype=np.int64),
        row_scale=np.zeros(0),
        log_volume=0.0,
        log_range_volume=0.0,
        stored=np.zeros((0, num_variables)),
        triangle=None,
        orthonormal=None,
        dependence=np.zeros((num_rows, 0)),
        exact_bits=0,
        determined=np.zeros(0, dtype=np.int64),
        solution=np.zeros((0, 0)),
    )


def _condition(triangle: np.ndarray) -> float:
    """Estimated condition number of a lower triangular matrix (one-norm, LAPACK)."""
    reciprocal, _ = lapack.dtrcon(np.asfortranarray(triangle), uplo="L")
    return float(np.inf) if reciprocal == 0 else 1.0 / float(reciprocal)


def check_consistency(plan: Plan, k: np.ndarray) -> None:
    """Check that k obeys the redundant rows.

    Args:
        plan: the plan of A.
        k: ``(*batch, m)``, finite.

    Raises:
        InfeasibleConstraintError: naming the row and the disagreement.
    """
    if plan.has_full_row_rank or k.size == 0:
        return
    k = k.reshape(-1, plan.num_rows)
    scaled = k[:, plan.kept] * plan.row_scale
    given = k[:, plan.dropped]
    dependence = plan.dependence
    implied, size = scaled @ dependence.T, np.abs(scaled) @ abs(dependence).T
    gap = np.abs(given - implied)
    tolerance = np.sqrt(np.finfo(k.dtype).eps) * (np.abs(given) + size)
    if (gap > tolerance).any():
        where = tuple(np.argwhere(gap > tolerance)[0])
        row = int(plan.dropped[where[-1]])
        raise InfeasibleConstraintError(
            f"A x = k has no solution: row {row} of A depends on other rows, which imply "
            f"{implied[where]:.6g} there, but k[{row}] is "
            f"{given[where]:.6g}, a disagreement of {gap[where]:.3g}; correct k, or drop the row."
        )
