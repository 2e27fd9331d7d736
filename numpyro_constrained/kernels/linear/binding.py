"""From what a user gives as A and k to a constraint that is bound to a law."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from constrained_core import GroupSum, check_consistency, plan_constraint
from constrained_core.checks import (
    check_shapes,
    infinite_matrix,
    infinite_sides,
    require_both_sides,
    row_disagrees,
)
from constrained_core.errors import ParameterError
from constrained_core.linear.plan import DensePlan
from numpyro_constrained.kernels.arrays.inputs import host_or_traced
from numpyro_constrained.kernels.arrays.leaves import Layout, folded, unstacked
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.matrix import BoundMatrix, bind_plan
from numpyro_constrained.kernels.linear.unanalysed import UnanalysedMatrix, UnanalysedRow

__all__ = ["bind_constraint", "rebind_constraint"]

MAX_PIVOTED = 2**22
"""Entries of a dense A up to which its layout knows pivots, for when its values no longer do."""


@folded
def bind_constraint(A: Any, k: Any, like: Array) -> LinearConstraint:
    """Analyse ``A x = k`` and bind it to the dtype of ``like``.

    An A with known values is analysed once, outside any trace; one that is traced, or a batch, is
    factored where it stands, whatever its rank. Where redundant rows cannot be checked because
    values are traced, all is NaN if they disagree.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        like: an array of the law, whose dtype the constraint takes.

    Raises:
        InfeasibleConstraintError: redundant rows disagree.
        ParameterError: k is not finite.
        ConstraintError: shapes do not fit, NaN or infinity in A, a sparse or complex A.
    """
    require_both_sides(A, k)
    is_array, has_fixed_k = isinstance(A, jax.Array), not _is_array(k)
    A = A if isinstance(A, GroupSum) else host_or_traced("A", A)
    k = host_or_traced("k", k)
    check_shapes(A.shape, k.shape)
    if not isinstance(k, Tracer) and not np.isfinite(k).all():
        raise ParameterError(infinite_sides(float(k[~np.isfinite(k)][0])))
    if isinstance(A, GroupSum):
        return _bind(A, k, like, Layout(0, 0, k.ndim - 1, True, has_fixed_k))
    # Whole numbers are of no A that is learned or sampled.
    is_fixed = not isinstance(A, Tracer) and (not is_array or bool((A == np.round(A)).all()))
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
    k = k if isinstance(k, Tracer) else np.asarray(k)
    k = unstacked(k, k_dims, layout.k_batch, batch_dims)
    if not isinstance(A, GroupSum):
        A = A if isinstance(A, Tracer) else np.asarray(A)
        if matrix_dims:
            A = unstacked(A, layout.row_dims, layout.matrix_batch, batch_dims)
    return _bind(A, k, like, layout)


def _is_array(value: Any) -> bool:
    """Whether a value is of JAX, so that it may be sampled or learned."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))


def _bind(A: Any, k: Any, like: Array, layout: Layout) -> LinearConstraint:
    if not isinstance(A, GroupSum) and layout.row_dims == 2 and A.shape[-2] == 0:
        A = np.zeros(A.shape[-2:])  # no row, whatever the values
    matrix, layout = _bind_matrix(A, like, layout)
    rows = k[..., None] if layout.is_vector else k
    scaled_k = _consistent(matrix, rows, jnp.asarray(rows, like.dtype))
    return LinearConstraint(
        layout=layout,
        A=A if isinstance(A, GroupSum) else jnp.asarray(A, like.dtype),
        k=jnp.asarray(k, like.dtype),
        matrix=matrix,
        scaled_k=scaled_k,
    )


def _bind_matrix(A: Any, like: Array, layout: Layout) -> tuple[BoundMatrix, Layout]:
    if isinstance(A, GroupSum):
        plan = plan_constraint(A)
        return bind_plan(plan, A, like), layout._replace(rank=plan.rank)
    if not isinstance(A, Tracer) and A.ndim == layout.row_dims:
        plan = plan_constraint(np.atleast_2d(A))
        layout = layout._replace(rank=plan.rank)
        if isinstance(plan, DensePlan) and plan.products_size <= MAX_PIVOTED:
            layout = layout._replace(
                pivots=tuple(plan.pivots.tolist()),
                exact_bits=0 if plan.has_full_row_rank else plan.exact_bits,
            )
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
