"""From what a user gives as A and k to a constraint that is bound to a law."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from constrained_core import ConstraintError, GroupSum, check_consistency, plan_constraint
from constrained_core.checks.arguments import require_both_sides
from constrained_core.checks.shapes import check_matrix_shape, check_shapes
from constrained_core.checks.sides import infinite_matrix, infinite_sides, row_disagrees
from constrained_core.sparse import SparseMatrix
from pyro_constrained.kernels.arrays.compiled import kept_by_a_graph
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.in_place import Unchanged
from pyro_constrained.kernels.arrays.inputs import as_tensor, cast, read_matrix
from pyro_constrained.kernels.arrays.inspection import (
    are_known,
    has_values,
    host_array,
    is_constant,
    unwrapped,
)
from pyro_constrained.kernels.arrays.sparse import (
    as_sparse,
    dense_form,
    entries_in_place,
    is_sparse,
    sparse_index,
)
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.plans import bind_plan
from pyro_constrained.kernels.linear.sparse_matrix import UnanalysedSparseMatrix
from pyro_constrained.kernels.linear.unanalysed import UnanalysedMatrix, UnanalysedRow

__all__ = ["bind_again", "bind_constraint"]


@quiet_under_trace
def bind_constraint(A: Any, k: Any, like: Tensor, dense: bool = False) -> LinearConstraint:
    """Analyse ``A x = k`` and bind it to the dtype and device of ``like``.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        like: a tensor of the law, whose dtype and device the constraint takes.
        dense: whether a sparse A is to be made dense, for a law that is.

    Raises:
        InfeasibleConstraintError: redundant rows disagree.
        ParameterError: k is not finite.
        ConstraintError: shapes do not fit, NaN or infinity in A, a complex A.
    """
    require_both_sides(A, k)
    given, k = _read_matrix(A, like, dense), as_tensor("k", k, like.device)
    A, matrix = given.A, given.matrix
    check_shapes(A.shape, k.shape)
    if are_known(k) and not math.isfinite(float(k.detach().sum())):
        raise TensorParameterError(infinite_sides(float(k[~k.isfinite()][0])))
    rows = k.unsqueeze(-1) if isinstance(A, Tensor) and A.ndim == 1 else k
    scaled_k = _consistent(matrix, rows, cast(rows, like.dtype))
    A, k = _cast_matrix(A, like.dtype), cast(k, like.dtype)
    return LinearConstraint(
        A=A,
        k=k,
        matrix=matrix,
        scaled_k=scaled_k
        if given.is_current is None
        else torch.where(given.is_current, scaled_k, torch.nan),
        is_fixed=given.is_fixed,
        made_of=Unchanged({"A": A, "k": k}),
        is_current=given.is_current,
    )


@quiet_under_trace
def bind_again(constraint: LinearConstraint, like: Tensor) -> LinearConstraint:
    """A constraint in the dtype and on the device of ``like``, by the plan that it has."""
    A, k, plan = constraint.A, constraint.k, constraint.matrix.plan
    if plan is None or torch.compiler.is_compiling():
        return bind_constraint(A, k, like)
    matrix = bind_plan(plan, A, like.dtype, like.device)
    k = k.to(like)
    rows = k.unsqueeze(-1) if constraint.is_vector else k
    return LinearConstraint(
        A=_cast_matrix(A, like.dtype),
        k=k,
        matrix=matrix,
        scaled_k=matrix.scale_k(rows),
        is_fixed=constraint.is_fixed,
        made_of=constraint.made_of,
    )


def _cast_matrix(A: Tensor | GroupSum | SparseMatrix, dtype: torch.dtype) -> Any:
    if isinstance(A, SparseMatrix):
        return A if A.values.dtype == dtype else A.with_values(A.values.to(dtype))
    return A if isinstance(A, GroupSum) else cast(A, dtype)


@dataclass(frozen=True, eq=False)
class _Given:
    """A as given, bound to a dtype and a device.

    Attributes:
        is_fixed: see ``LinearConstraint``.
        is_current: whether A is still what was bound; None if it cannot be otherwise.
        entries: what a compiled step compares with A, see ``entries_in_place``.
    """

    A: Tensor | GroupSum | SparseMatrix
    matrix: BoundMatrix
    is_fixed: bool
    is_current: Tensor | None = None
    entries: Tensor | None = None


def _read_matrix(A: Any, like: Tensor, dense: bool) -> _Given:
    if not torch.compiler.is_compiling():
        return _bind_matrix(A, like.dtype, like.device, dense)
    if isinstance(A, Tensor) and (A.requires_grad or A.ndim > 2):
        check_matrix_shape(A.shape)
        return _Given(A, _unanalysed(A, like), is_fixed=False)
    given = _bind_at_compilation(A, like.dtype, like.device, dense)
    entries = entries_in_place(A)
    if entries is None:
        return given
    assert given.entries is not None
    # The compiled step may run again with other values: it has no plan of them.
    is_current = (given.entries == torch.as_tensor(entries, device=like.device)).all()
    return _Given(given.A, given.matrix, given.is_fixed, is_current)


def _bind_matrix(A: Any, dtype: torch.dtype, device: torch.device, dense: bool) -> _Given:
    if dense:
        A = dense_form(A)
    if is_sparse(A):
        return _bind_sparse(A, dtype, device)
    is_fixed = not isinstance(A, Tensor)
    A = read_matrix(A, device)
    if isinstance(A, GroupSum):
        return _Given(A, bind_plan(plan_constraint(A), A, dtype, device), is_fixed)
    if not has_values(A) and not is_functorch_wrapped_tensor(A):
        raise ConstraintError(
            "A: expected values that can be seen, got a tensor that torch.export has replaced; "
            "give A as a NumPy array, or export with strict=True."
        )
    if A.ndim <= 2 and is_constant(A):
        A = unwrapped(A)
        matrix = bind_plan(plan_constraint(_on_host(A)), A, dtype, device)
        # Nothing that is learned or sampled has whole numbers only.
        return _Given(A, matrix, is_fixed or matrix.is_whole)
    if are_known(A) and not math.isfinite(float(A.detach().sum())):
        raise infinite_matrix()
    matrix = _unanalysed(A, torch.zeros((), dtype=dtype, device=device))
    # Null spaces of different dimensions have no coordinates.
    return _Given(A, matrix, is_fixed and isinstance(matrix.rank, int))


def _bind_sparse(A: Any, dtype: torch.dtype, device: torch.device) -> _Given:
    is_fixed = not isinstance(A.values if isinstance(A, SparseMatrix) else A, Tensor)
    A = as_sparse("A", A, device)
    if A.ndim == 2 and is_constant(A.values):
        A = A.with_values(unwrapped(A.values))
        known = A.with_values(host_array(A.values))
        matrix = bind_plan(plan_constraint(known), A, dtype, device)
        return _Given(A, matrix, is_fixed or matrix.is_whole)
    if are_known(A.values) and not math.isfinite(float(A.values.detach().sum())):
        raise infinite_matrix()
    index = sparse_index(A.pattern, device)
    like = torch.zeros((), dtype=dtype, device=device)
    return _Given(A, UnanalysedSparseMatrix(index, A.values, like), is_fixed=False)


@kept_by_a_graph
def _bind_at_compilation(A: Any, dtype: torch.dtype, device: torch.device, dense: bool) -> _Given:
    """The matrix, with the values that it has when a step is compiled."""
    given = _bind_matrix(A, dtype, device, dense)
    given.matrix.prepare()
    if isinstance(given.A, Tensor):
        given = replace(given, A=given.A.clone())
    entries = entries_in_place(A)
    if entries is not None:
        entries = torch.as_tensor(entries, device=device).clone()
    return replace(given, entries=entries)


def _unanalysed(A: Tensor, like: Tensor) -> BoundMatrix:
    return UnanalysedRow(A, like) if A.ndim == 1 else UnanalysedMatrix(A, like)


def _on_host(A: Tensor) -> np.ndarray:
    return np.atleast_2d(host_array(A))


def _consistent(matrix: BoundMatrix, given: Tensor, k: Tensor) -> Tensor:
    """The scaled right-hand sides, after a check that redundant rows agree; NaN where they do not
    and values cannot be looked at."""
    scaled_k = matrix.scale_k(k)
    if isinstance(matrix.rank, int) and matrix.rank == matrix.num_rows:
        return scaled_k
    if matrix.plan is not None and are_known(given):
        exact = given if given.is_floating_point() else given.double()
        check_consistency(matrix.plan, host_array(exact))
        return scaled_k
    agrees = matrix.agrees(k.detach(), scaled_k.detach())
    if not are_known(agrees):
        return torch.where(agrees.all(-1, keepdim=True), scaled_k, torch.nan)
    if not bool(agrees.all()):
        where = tuple(int(i) for i in (~agrees).nonzero()[0])
        raise row_disagrees(where)
    return scaled_k
