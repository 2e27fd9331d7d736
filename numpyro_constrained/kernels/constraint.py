"""The constraint in executable form: ``B x = c`` from ``A x = k``."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core import (
    ConstraintError,
    GroupSum,
    check_batched_rows,
    check_consistency,
    plan_constraint,
)
from constrained_core.plan import DensePlan, GroupPlan, Plan, RowPlan
from numpyro_constrained.kernels.groups import Groups, plan_groups
from numpyro_constrained.kernels.leaves import Layout, folded, unstacked
from numpyro_constrained.kernels.linalg import lift, matmul, matvec, solve_lower, split_exactly
from numpyro_constrained.kernels.null_space import BlockNullSpace, DenseNullSpace, NullSpace
from numpyro_constrained.kernels.plans import plan_tensor
from numpyro_constrained.kernels.rows import DenseGram, DenseRows, Gram, GroupRows, Rows, SingleRow

__all__ = ["LinearConstraint", "bind_constraint", "default_tolerance", "rebind_constraint"]


def default_tolerance(dtype: Any) -> float:
    """Relative tolerance of support checks: 1e-6 in float64, 1e-4 in float32."""
    return 1e-6 if dtype == np.float64 else 1e-4


class LinearConstraint:
    """``A x = k`` bound to arrays.

    Attributes:
        layout: how A and k are to be read.
        A, k: as given, as arrays (A may be a ``GroupSum``).
        given: all m rows of A, for residuals.
        rows: the r well conditioned rows B that are executed.
        target: ``(*batch, r)`` c.
        log_volume, log_range_volume: 1/2 log det B B', 1/2 log pdet A A'.
        determined: the variables that the constraint alone determines, as an index, and where it
            holds them at zero; None if there are none.
    """

    def __init__(self, layout, A, k, given, rows, target, log_volume, log_range_volume) -> None:
        self.layout: Layout = layout
        self.A: Array | GroupSum = A
        self.k: Array = k
        self.given: Rows = given
        self.rows: Rows = rows
        self.target: Array = target
        self.log_volume: Any = log_volume
        self.log_range_volume: Any = log_range_volume
        self.determined: tuple[np.ndarray, Array] | None = None

    @property
    def is_traced(self) -> bool:
        """Whether the target, and so the constraint, belongs to a trace."""
        return isinstance(self.target, Tracer)

    @property
    def rank(self) -> int:
        return self.rows.size

    @property
    def num_variables(self) -> int:
        return self.rows.num_variables

    @property
    def free_size(self) -> int:
        return self.num_variables - self.rank

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return self.layout.is_vector

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        row_dims = self.layout.row_dims
        matrix_batch = self.A.shape[: self.A.ndim - row_dims] if row_dims else ()
        k_batch = self.k.shape if self.is_vector else self.k.shape[:-1]
        return jnp.broadcast_shapes(matrix_batch, k_batch)

    def lifted(self, vector: Array) -> Array:
        """``vector`` with at least the rank of a batch of the constraint."""
        return lift(vector, 1 + len(self.batch_shape))

    def residual(self, value: Array) -> Array:
        """``A value - k``, in the rows of A."""
        total = self._in_given_rows(self.given, self.lifted(value))
        return total - lift(self.k, total.ndim)

    def _in_given_rows(self, rows: Rows, value: Array) -> Array:
        total = rows.apply(value)
        return total[..., 0] if self.is_vector else total

    def contains(self, value: Array, tolerance: float) -> Array:
        """Whether ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row."""
        value = stop_gradient(self.lifted(value))
        size = jnp.abs(value)
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = size + jnp.finfo(value.dtype).eps * size.max(-1, keepdims=True)
        size = self._in_given_rows(folded(self.given.absolute)(), size)
        size = size + lift(jnp.abs(self.k), size.ndim)
        holds = stop_gradient(jnp.abs(self.residual(value)) <= tolerance * size)
        return holds if self.is_vector else holds.all(-1)

    def mismatch(self, value: Array) -> Array:
        """``c - B value``, as exactly as the dtype allows."""
        return lift(self.target, value.ndim) - self.rows.apply(value)

    def pin(self, value: Array, correction: Array) -> Array:
        """The correction, made exact where the constraint alone holds a variable at zero: a
        rounding error has no scale there to be small against."""
        if self.determined is None:
            return correction
        index, is_zero = self.determined
        is_zero = lift(is_zero, value.ndim)
        exact = jnp.where(is_zero, -value[..., index], correction[..., index])
        return correction.at[..., index].set(exact)

    @folded
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""
        return self.rows.null_space()

    def embed(self, coordinates: Array) -> Array:
        """The point of the subspace with these coordinates ``(..., n - r)`` in the null space;
        zeros are the point nearest to the origin."""
        direction = self.null_space().embed(self.lifted(coordinates))
        origin = folded(self._shortest)(self.target)
        return self.settle(lift(origin, direction.ndim) + direction)

    def settle(self, value: Array) -> Array:
        """Move a point beside the subspace onto it to the last bits; no gradient."""
        fixed = stop_gradient(value)
        return value + stop_gradient(self.pin(fixed, self._shortest_to(fixed)))

    def _shortest_to(self, value: Array) -> Array:
        """The shortest step from a point beside the subspace to it."""
        return self._shortest(self.mismatch(value))

    def nearest(self, value: Array) -> Array:
        """The point of the subspace nearest to ``value``."""
        value = self.lifted(value)
        step = self._shortest(lift(self.target, value.ndim) - self.rows.apply(value))
        return self.settle(value + step)

    def _shortest(self, mismatch: Array) -> Array:
        """The shortest step that changes ``B x`` by ``mismatch``."""
        return self.rows.adjoint(self.gram.solve(mismatch))

    @property
    @folded
    def gram(self) -> Gram:
        """``B B'``, factored."""
        return self.rows.gram()


class _DensePlanConstraint(LinearConstraint):
    """Dense rows that were analysed: some may be redundant, or executed in an orthonormal basis."""

    def __init__(self, plan: DensePlan, scaled_k: Array, *fields: Any) -> None:
        super().__init__(*fields)
        self.plan, self.scaled_k = plan, scaled_k

    def mismatch(self, value: Array) -> Array:
        return _to_basis(self.plan, self._gap(value))

    def _gap(self, value: Array) -> Array:
        """``scaled_k - R value`` for the scaled rows R, as exactly as the dtype allows."""
        if self.plan.is_plain:
            return super().mismatch(value)
        rows = DenseRows(plan_tensor(self.plan, "rows", value))
        return _exact_gap(rows, self.scaled_k, value, self.plan.exact_bits)

    @property
    def gram(self) -> Gram:
        log_volume = np.asarray(self.plan.log_volume, self.target.dtype)
        return DenseGram(log_volume, plan_tensor(self.plan, "gram_inverse", self.target))

    def _shortest_to(self, value: Array) -> Array:
        return matvec(plan_tensor(self.plan, "right_inverse", value), self._gap(value))

    @folded
    def null_space(self) -> NullSpace:
        if self.plan.has_small_null_space:
            return DenseNullSpace(plan_tensor(self.plan, "null_basis", self.target))
        return BlockNullSpace(
            plan_tensor(self.plan, "reflector_vectors", self.target),
            plan_tensor(self.plan, "reflector_kernel", self.target),
        )


class _TracedConstraint(LinearConstraint):
    """Dense rows that could not be analysed, executed in an orthonormal basis."""

    def __init__(self, scaled: DenseRows, scaled_k: Array, triangle: Array, *fields: Any) -> None:
        super().__init__(*fields)
        self.scaled, self.scaled_k, self.triangle = scaled, scaled_k, triangle

    def mismatch(self, value: Array) -> Array:
        gap = _exact_gap(self.scaled, self.scaled_k, value, self.layout.exact_bits)
        return solve_lower(self.triangle, gap)


def _to_basis(plan: DensePlan, vector: Array) -> Array:
    """From scaled rows to the executed basis, ``T^-1 vector``."""
    if plan.triangle is None:
        return vector
    return solve_lower(plan_tensor(plan, "triangle", vector), vector)


def _exact_gap(rows: DenseRows, scaled_k: Array, value: Array, bits: int) -> Array:
    """``scaled_k - rows value``, exact for the leading bits of ``value`` where ``bits`` are few."""
    high, low = split_exactly(value, bits)
    return (lift(scaled_k, value.ndim) - rows.apply(high)) - rows.apply(low)


@folded
def bind_constraint(A: Any, k: Any, like: Array) -> LinearConstraint:
    """Analyse ``A x = k`` and bind it to the dtype of ``like``.

    A concrete A is analysed once, outside any trace. One that is traced, or a batch, is taken to
    have full row rank. The consistency of redundant rows is checked if k is concrete.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        like: an array of the law, whose dtype the constraint takes.

    Raises:
        InfeasibleConstraintError: redundant rows disagree.
        ConstraintError: shapes do not fit, NaN or infinity.
    """
    if A is None or k is None:
        missing = " and ".join(name for name, part in (("A", A), ("k", k)) if part is None)
        raise ConstraintError(f"expected A and k, got no {missing}; give both sides of A x = k.")
    A = A if isinstance(A, GroupSum) else _host_or_traced("A", A)
    k = _host_or_traced("k", k)
    _check_shapes(A, k)
    if not isinstance(k, Tracer) and not np.isfinite(k).all():
        raise ConstraintError(
            f"k: expected finite values, got {k[~np.isfinite(k)][0]}; check how k is made."
        )
    if isinstance(A, GroupSum):
        return _bind_planned(A, k, like, Layout(0, 0, k.ndim - 1))
    row_dims = min(A.ndim, 2)
    layout = Layout(row_dims, A.ndim - row_dims, k.ndim - (row_dims == 2))
    if row_dims == 2 and A.shape[-2] == 0:  # no row, whatever the values
        A = np.zeros(A.shape[-2:])
    if isinstance(A, Tracer) or A.ndim > 2:
        _check_unanalysed(A)
        return _bind_unanalysed(jnp.asarray(A, like.dtype), jnp.asarray(k, like.dtype), layout)
    return _bind_planned(A, k, like, layout)


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
    if isinstance(A, GroupSum):
        return _bind_planned(A, k, like, layout)
    A = A if isinstance(A, Tracer) else np.asarray(A)
    if (layout.row_dims == 2 and A.shape[-2] == 0) or layout.kept == ():
        A = np.zeros((A.shape[-2], A.shape[-1]))
    if isinstance(A, np.ndarray) and matrix_dims == 0:
        plan = plan_constraint(np.atleast_2d(A))
        if plan.rank == (plan.num_rows if layout.kept is None else len(layout.kept)):
            return _bind_planned(A, k, like, layout)
    A = unstacked(A, layout.row_dims, layout.matrix_batch, batch_dims)
    return _bind_unanalysed(jnp.asarray(A, like.dtype), jnp.asarray(k, like.dtype), layout)


def _host_or_traced(name: str, value: Any) -> Any:
    """``value`` as a NumPy array of floats, or as a tracer where it is traced."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        return jnp.asarray(value)
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array if array.dtype.itemsize >= 4 else array.astype(np.float32)
    if array.dtype.kind not in "iub":
        raise ConstraintError(
            f"{name}: expected an array of numbers, got {type(value).__name__}; convert it."
        )
    return array.astype(np.float64)


def _check_shapes(A: Any, k: Any) -> None:
    if not isinstance(A, GroupSum) and A.ndim == 0:
        raise ConstraintError(
            "A: expected shape (*batch, m, n), or (n,) for one row, got a scalar; give one "
            "coefficient per variable."
        )
    if not isinstance(A, GroupSum) and A.ndim == 1:
        return
    m = A.shape[-2]
    if k.ndim == 0 or k.shape[-1] != m:
        raise ConstraintError(
            f"k: expected shape (*batch, {m}) for the {m} rows of A, got {tuple(k.shape)}; give "
            "one value per row."
        )
    matrix_batch = () if isinstance(A, GroupSum) else A.shape[:-2]
    try:
        jnp.broadcast_shapes(matrix_batch, k.shape[:-1])
    except ValueError as error:
        raise ConstraintError(
            f"expected batch shapes of A and k that broadcast together, got {matrix_batch} "
            f"and {k.shape[:-1]}; reshape one."
        ) from error


def _check_unanalysed(A: Any) -> None:
    if A.ndim > 1 and A.shape[-2] > A.shape[-1]:
        raise ConstraintError(
            f"A: expected at most {A.shape[-1]} rows for {A.shape[-1]} variables, as a batched or "
            f"differentiated A must have independent rows, got {A.shape[-2]}; drop rows."
        )
    if not isinstance(A, Tracer):
        check_batched_rows(A)


def _bind_planned(A: Any, k: Any, like: Array, layout: Layout) -> LinearConstraint:
    plan = plan_constraint(A if isinstance(A, GroupSum) else np.atleast_2d(A))
    k_rows = k[..., None] if layout.is_vector else k
    if not plan.has_full_row_rank:
        if isinstance(plan, DensePlan):
            layout = layout._replace(exact_bits=plan.exact_bits)
        if not isinstance(A, GroupSum):
            layout = layout._replace(kept=tuple(plan.kept.tolist()))
        if not isinstance(k, Tracer):
            check_consistency(plan, np.asarray(k_rows))
    scaled_k = jnp.asarray(k_rows, like.dtype)
    if not plan.has_full_row_rank:
        scaled_k = scaled_k[..., plan_tensor(plan, "kept", like, np.int32)]
    scaled_k = scaled_k * lift(plan_tensor(plan, "row_scale", like), scaled_k.ndim)
    given = _given_rows(A, plan, like)
    A = A if isinstance(A, GroupSum) else jnp.asarray(A, like.dtype)
    fields = layout, A, jnp.asarray(k, like.dtype), given
    volumes = np.asarray((plan.log_volume, plan.log_range_volume), like.dtype)
    constraint: LinearConstraint
    if isinstance(plan, RowPlan | GroupPlan):
        constraint = LinearConstraint(*fields, _structured_rows(plan, like), scaled_k, *volumes)
    else:
        basis, target = DenseRows(plan_tensor(plan, "basis", like)), _to_basis(plan, scaled_k)
        constraint = _DensePlanConstraint(plan, scaled_k, *fields, basis, target, *volumes)
    if plan.determined.size:
        index = plan_tensor(plan, "determined", like, np.int32)
        constraint.determined = index, _determined_values(plan, scaled_k) == 0
    return constraint


def _determined_values(plan: Plan, scaled_k: Array) -> Array:
    """Values of the determined variables, up to factors."""
    if isinstance(plan, DensePlan):
        return matvec(plan_tensor(plan, "solution", scaled_k), scaled_k)
    if isinstance(plan, GroupPlan):
        return scaled_k[..., plan_tensor(plan, "determined_rows", scaled_k, np.int32)]
    return scaled_k


def _given_rows(A: Any, plan: Plan, like: Array) -> Rows:
    if not isinstance(A, GroupSum):
        A = A.astype(like.dtype)
        return SingleRow(A) if A.ndim == 1 else DenseRows(A)
    if isinstance(plan, GroupPlan):
        return _group_rows(plan, like, prefix="given_")
    index = np.zeros(plan.num_variables, np.int32)
    return GroupRows(Groups(index, plan.num_rows), jnp.zeros(plan.num_variables, like.dtype))


def _structured_rows(plan: RowPlan | GroupPlan, like: Array) -> Rows:
    if isinstance(plan, GroupPlan):
        return _group_rows(plan, like)
    plain = plan.weights is None
    return SingleRow(_ones(plan, like) if plain else plan_tensor(plan, "weights", like), plain)


def _group_rows(plan: GroupPlan, like: Array, prefix: str = "") -> GroupRows:
    plain = plan.weights is None
    return GroupRows(
        plan_groups(plan, prefix + "index", plan.num_rows if prefix else plan.rank, like),
        _ones(plan, like) if plain else plan_tensor(plan, prefix + "weights", like),
        plain,
        plan,
    )


def _ones(plan: Plan, like: Array) -> Array:
    return jnp.ones(plan.num_variables, like.dtype)


def _bind_unanalysed(A: Array, k: Array, layout: Layout) -> LinearConstraint:
    """A batch of matrices, or one that is traced: its kept rows are taken to be independent."""
    k_rows = k[..., None] if layout.is_vector else k
    rows = A
    if layout.kept is not None:
        kept = np.asarray(layout.kept, np.int32)
        rows, k_rows = A[..., kept, :], k_rows[..., kept]
    norms = stop_gradient(jnp.linalg.vector_norm(rows, axis=-1, keepdims=True))
    _, exponent = jnp.frexp(norms)
    scale = jnp.ldexp(jnp.ones_like(norms), 1 - exponent)  # powers of two, as in a plan
    bind = _bind_traced_row if layout.is_vector else _bind_traced_rows
    return bind(layout, A, k, rows * scale, k_rows, scale)


def _bind_traced_row(layout, A, k, scaled, k_rows, scale) -> LinearConstraint:
    log_volume = jnp.log(jnp.linalg.vector_norm(scaled, axis=-1))
    log_range_volume = log_volume - jnp.log(scale)[..., 0]
    rows, target = SingleRow(scaled), _times(k_rows, scale)
    return LinearConstraint(layout, A, k, SingleRow(A), rows, target, log_volume, log_range_volume)


def _bind_traced_rows(layout, A, k, scaled, k_rows, scale) -> LinearConstraint:
    orthonormal, upper = jnp.linalg.qr(scaled.mT)
    scaled_k = _times(k_rows, scale[..., 0])
    if layout.kept is None:
        log_range_volume = _log_volume(upper) - jnp.log(scale).sum((-2, -1))
    else:
        log_range_volume = _log_volume(jnp.linalg.qr(matmul(A, orthonormal), mode="r"))
    rows, target = DenseRows(orthonormal.mT), solve_lower(upper.mT, scaled_k)
    fields = layout, A, k, DenseRows(A), rows, target
    volumes = jnp.zeros_like(log_range_volume), log_range_volume
    return _TracedConstraint(DenseRows(scaled), scaled_k, upper.mT, *fields, *volumes)


def _times(left: Array, right: Array) -> Array:
    ndim = max(left.ndim, right.ndim)
    return lift(left, ndim) * lift(right, ndim)


def _log_volume(triangle: Array) -> Array:
    return jnp.log(jnp.abs(jnp.diagonal(triangle, axis1=-2, axis2=-1))).sum(-1)
