"""From what a user gives as A and k to a constraint that is bound to a law."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from constrained_core import GroupSum, SparseMatrix, check_consistency, plan_constraint
from constrained_core.checks.arguments import require_both_sides
from constrained_core.checks.shapes import check_shapes
from constrained_core.checks.sides import infinite_matrix, infinite_sides, row_disagrees
from constrained_core.errors import ParameterError
from constrained_core.linear.plan import DensePlan
from numpyro_constrained.kernels.arrays.inputs import host_or_traced
from numpyro_constrained.kernels.arrays.leaves import Layout, folded, unstacked
from numpyro_constrained.kernels.arrays.sparse_inputs import (
    dense_form,
    is_sparse,
    read_sparse,
    unstacked_matrix,
)
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.matrix import BoundMatrix, bind_plan
from numpyro_constrained.kernels.linear.sparse_matrix import (
    UnanalysedSparseMatrix,
    bind_sparse_plan,
    exact_bits,
)
from numpyro_constrained.kernels.linear.unanalysed import UnanalysedMatrix, UnanalysedRow

__all__ = ["bind_constraint", "rebind_constraint"]

MAX_PIVOTED = 2**22
"""Products of two entries of rows up to which the layout of A knows pivots, for when its values no
longer tell."""


@folded
def bind_constraint(A: Any, k: Any, like: Array, dense: bool = False) -> LinearConstraint:
    """Analyse ``A x = k`` and bind it to the dtype of ``like``.

    An A with known values is analysed once, outside any trace; one that is traced, or a batch, is
    factored where it stands, whatever its rank. Where redundant rows cannot be checked because
    values are traced, all is NaN if they disagree.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or sparse.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        like: an array of the law, whose dtype the constraint takes.
        dense: whether a sparse A takes its dense form, for a law that holds n x n arrays anyway.

    Raises:
        InfeasibleConstraintError: redundant rows disagree.
        ParameterError: k is not finite.
        ConstraintError: shapes do not fit, NaN or infinity in A, a complex A.
    """
    require_both_sides(A, k)
    is_array, has_fixed_k = _is_array(A), not _is_array(k)
    A = _read_matrix(A, dense)
    k = host_or_traced("k", k)
    check_shapes(A.shape, k.shape)
    if not isinstance(k, Tracer) and not np.isfinite(k).all():
        raise ParameterError(infinite_sides(float(k[~np.isfinite(k)][0])))
    if isinstance(A, GroupSum):
        return _bind(A, k, like, Layout(0, 0, k.ndim - 1, True, has_fixed_k))
    # Whole numbers are of no A that is learned or sampled.
    values = A.values if isinstance(A, SparseMatrix) else A
    is_fixed = not isinstance(values, Tracer) and (
        not is_array or bool((values == np.round(values)).all())
    )
    row_dims = min(A.ndim, 2)
    k_batch = k.ndim - (row_dims == 2)
    layout = Layout(row_dims, A.ndim - row_dims, k_batch, is_fixed, has_fixed_k)
    return _bind(A, k, like, layout)


@folded
def rebind_constraint(A: Any, k: Any, like: Array, layout: Layout) -> LinearConstraint:
    """The constraint again from the leaves A and k of a pytree, which ``vmap`` may have stacked.

    Args:
        A, k: the leaves; checked when they were bound.
        like: an array of the law, whose dtype and rank the constraint takes.
        layout: how A and k are to be read.
    """
    k_dims = 0 if layout.is_vector else 1
    matrix_dims = 0 if isinstance(A, GroupSum) else A.ndim - layout.row_dims
    batch_dims = max(like.ndim - 1, matrix_dims, k.ndim - k_dims)
    k = unstacked(_on_host(k), k_dims, layout.k_batch, batch_dims)
    if isinstance(A, SparseMatrix):
        A = SparseMatrix.on(A.pattern, _on_host(A.values))
    elif not isinstance(A, GroupSum):
        A = _on_host(A)
    if matrix_dims:
        A = unstacked_matrix(A, layout.row_dims, layout.matrix_batch, batch_dims)
    return _bind(A, k, like, layout)


def _read_matrix(A: Any, dense: bool) -> Any:
    if isinstance(A, GroupSum):
        return A
    if is_sparse(A):
        return dense_form("A", A) if dense else read_sparse("A", A)
    return host_or_traced("A", A)


def _is_array(value: Any) -> bool:
    """Whether a value is of JAX, so that it may be sampled or learned."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))


def _on_host(leaf: Any) -> Any:
    return leaf if isinstance(leaf, Tracer) else np.asarray(leaf)


def _bind(A: Any, k: Any, like: Array, layout: Layout) -> LinearConstraint:
    is_dense = not isinstance(A, GroupSum | SparseMatrix)
    if is_dense and layout.row_dims == 2 and A.shape[-2] == 0:
        A = np.zeros(A.shape[-2:])  # no row, whatever the values
    matrix, layout = _bind_matrix(A, like, layout)
    rows = k[..., None] if layout.is_vector else k
    scaled_k = _consistent(matrix, rows, jnp.asarray(rows, like.dtype))
    return LinearConstraint(
        layout=layout,
        A=_as_leaf(A, like),
        k=jnp.asarray(k, like.dtype),
        matrix=matrix,
        scaled_k=scaled_k,
    )


def _as_leaf(A: Any, like: Array) -> Any:
    if isinstance(A, SparseMatrix):
        return SparseMatrix.on(A.pattern, jnp.asarray(A.values, like.dtype))
    return A if isinstance(A, GroupSum) else jnp.asarray(A, like.dtype)


def _bind_matrix(A: Any, like: Array, layout: Layout) -> tuple[BoundMatrix, Layout]:
    if isinstance(A, GroupSum):
        plan = plan_constraint(A)
        return bind_plan(plan, A, like), layout._replace(rank=plan.rank)
    if isinstance(A, SparseMatrix):
        return _bind_sparse(A, like, layout)
    if not isinstance(A, Tracer) and A.ndim == layout.row_dims:
        plan = plan_constraint(np.atleast_2d(A))
        layout = layout._replace(rank=plan.rank)
        if not layout.is_vector and A.shape[-1] * plan.rank**2 <= MAX_PIVOTED:
            layout = layout._replace(pivots=tuple(plan.pivots.tolist()))
            if isinstance(plan, DensePlan) and not plan.has_full_row_rank:
                layout = layout._replace(exact_bits=plan.exact_bits)
        return bind_plan(plan, A, like), layout
    if not isinstance(A, Tracer) and not np.isfinite(A).all():
        raise infinite_matrix()
    traced = jnp.asarray(A, like.dtype)
    if layout.is_vector:
        return UnanalysedRow(traced, layout), layout
    matrix = UnanalysedMatrix(traced, layout)
    if isinstance(matrix.rank, int):
        return matrix, layout._replace(rank=matrix.rank)
    return matrix, layout._replace(is_fixed=False)  # whose null spaces have no coordinates


def _bind_sparse(A: SparseMatrix, like: Array, layout: Layout) -> tuple[BoundMatrix, Layout]:
    if not isinstance(A.values, Tracer) and A.values.ndim == 1:
        plan = plan_constraint(A)
        layout = layout._replace(
            rank=plan.rank, dropped=tuple(plan.dropped.tolist()), exact_bits=exact_bits(plan)
        )
        return bind_sparse_plan(plan, A, like), layout
    if not isinstance(A.values, Tracer) and not np.isfinite(A.values).all():
        raise infinite_matrix()
    traced = SparseMatrix.on(A.pattern, jnp.asarray(A.values, like.dtype))
    matrix = UnanalysedSparseMatrix(traced, layout)
    return matrix, layout._replace(rank=matrix.rank)


def _consistent(matrix: BoundMatrix, given: Any, k: Array) -> Array:
    """The scaled right-hand sides, after a check that redundant rows agree; NaN where they do not
    and values are traced."""
    scaled_k = matrix.scale_k(k)
    if isinstance(matrix.rank, int) and matrix.rank == matrix.num_rows:
        return scaled_k
    if matrix.plan is not None and not isinstance(given, Tracer):
        check_consistency(matrix.plan, np.asarray(given))
        return scaled_k
    agrees = jax.lax.stop_gradient(matrix.agrees(k, scaled_k))
    if isinstance(agrees, Tracer):
        return jnp.where(agrees.all(-1, keepdims=True), scaled_k, jnp.nan)
    if not agrees.all():
        where = tuple(int(i) for i in np.argwhere(~np.asarray(agrees))[0])
        raise row_disagrees(where)
    return scaled_k
