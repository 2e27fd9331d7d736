"""From a plan to tensors: A in a dtype and on a device."""

import torch
from torch import Tensor

from constrained_core.groups import GroupSum
from constrained_core.linear.plan import AnyPlan, DensePlan, GroupPlan, Plan, RowPlan
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparseMatrix
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.inspection import outside_transforms
from pyro_constrained.kernels.linear.matrix import (
    BoundMatrix,
    DenseMatrix,
    DisjointMatrix,
    group_rows,
)
from pyro_constrained.kernels.linear.partition import Partition
from pyro_constrained.kernels.linear.rows import DenseRows, GroupRows, Rows, SingleRow
from pyro_constrained.kernels.linear.sparse_matrix import SparseBoundMatrix

__all__ = ["bind_plan"]


def bind_plan(
    plan: Plan,
    A: Tensor | GroupSum | SparseMatrix,
    dtype: torch.dtype,
    device: torch.device,
) -> BoundMatrix:
    """A as planned, in a dtype and on a device; made once for equal A."""
    key = "torch", isinstance(A, Tensor) and A.ndim == 1, dtype, device
    if key not in plan.executions:
        # What is kept serves every later law, also one that is trained; an export sees constants.
        with torch.no_grad(), outside_transforms():
            plan.executions[key] = _bound(plan, A, torch.zeros((), dtype=dtype, device=device))
    return plan.executions[key]


def _bound(plan: Plan, A: Tensor | GroupSum | SparseMatrix, like: Tensor) -> BoundMatrix:
    if isinstance(plan, SparsePlan):
        sparse = SparseBoundMatrix(plan, like)
        sparse.is_whole = bool((plan.given_values == plan.given_values.round()).all())
        return sparse
    assert isinstance(plan, DensePlan | RowPlan | GroupPlan) and not isinstance(A, SparseMatrix)
    given = _given_rows(plan, A, like)
    matrix: BoundMatrix = (
        DenseMatrix(plan, given, like)
        if isinstance(plan, DensePlan)
        else DisjointMatrix(plan, given, like)
    )
    if isinstance(A, GroupSum):
        matrix.partition = Partition.of(A, like)
    else:
        matrix.is_whole = bool((A == A.round()).all())
    return matrix


def _given_rows(plan: AnyPlan, A: Tensor | GroupSum, like: Tensor) -> Rows:
    if isinstance(A, Tensor):
        A = A.detach().to(like.dtype, copy=True)
        is_plain = (
            isinstance(plan, RowPlan) and plan.weights is None and bool(plan.row_scale[0] == 1)
        )
        # Every value that is scored is measured by |A|.
        if A.ndim == 1:
            return SingleRow(A, is_plain, None if is_plain else A.abs())
        return DenseRows(A, absolute=A.abs())
    if isinstance(plan, GroupPlan):
        return group_rows(plan, like, prefix="given_")
    index = torch.zeros(plan.num_variables, dtype=torch.int64, device=like.device)
    return GroupRows(Groups(index, plan.num_rows), like.new_zeros(plan.num_variables))
