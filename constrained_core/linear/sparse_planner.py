"""From a sparse constraint matrix to its plan."""

import numpy as np

from constrained_core.errors import ConstraintError
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparseMatrix, SparsePattern

__all__ = ["make_pattern_plan", "make_sparse_plan"]


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
        dependence=np.zeros((0, num_rows)),
        given=pattern,
        given_values=unknown,
        kept_entries=np.arange(len(pattern.row)),
        pattern=pattern,
        values=unknown,
        chosen_pivots=None,
    )


def make_sparse_plan(matrix: SparseMatrix) -> SparsePlan:
    from constrained_core.linear.planner import plan_constraint

    values = np.array(matrix.values, dtype=np.float64)
    dense = plan_constraint(matrix.to_dense())
    position = np.full(dense.num_rows, -1)
    position[dense.kept] = np.arange(dense.rank)
    kept_entries = np.flatnonzero((position[matrix.row] >= 0) & (values != 0))
    row = position[matrix.row[kept_entries]]
    pattern = SparsePattern(row, matrix.column[kept_entries], (dense.rank, dense.num_variables))
    from scipy import sparse

    row_scale = dense.row_scale
    scaled = dense.log_volume + float(getattr(dense, "log_triangle", 0.0))
    return SparsePlan(
        num_rows=dense.num_rows,
        num_variables=dense.num_variables,
        kept=dense.kept,
        row_scale=row_scale,
        log_volume=scaled,
        log_range_volume=dense.log_range_volume,
        determined=dense.determined,
        dependence=sparse.csr_array(dense.dependence),
        given=matrix.pattern,
        given_values=values,
        kept_entries=kept_entries,
        pattern=pattern,
        values=values[kept_entries] * row_scale[row],
        chosen_pivots=dense.pivots,
    )
