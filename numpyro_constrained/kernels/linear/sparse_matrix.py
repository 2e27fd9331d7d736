"""What a sparse matrix A alone says of ``A x = k``; B is R, the scaled independent rows."""

from functools import lru_cache
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse

from constrained_core import SparseMatrix
from constrained_core.checks.sides import dependent_rows
from constrained_core.errors import ConstraintError, ParameterError
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparsePattern
from numpyro_constrained.kernels.arrays.leaves import Layout, evaluated
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.plans import plan_tensor
from numpyro_constrained.kernels.linear.matrix import BoundMatrix, exact_gap
from numpyro_constrained.kernels.linear.sparse_rows import SparseGram, SparseRows

__all__ = ["PlannedSparseMatrix", "SparseBoundMatrix", "UnanalysedSparseMatrix", "bind_sparse_plan"]


class SparseBoundMatrix(BoundMatrix):
    """Sparse rows."""

    given: SparseRows
    rows: SparseRows
    rank: int
    gram: SparseGram
    has_basis = False
    _exact_bits: int

    def gap(self, scaled_k: Array, value: Array) -> Array:
        if self.rank == self.num_rows:
            total = self.rows.apply(value)
            return lift(scaled_k, total.ndim) - total
        return exact_gap(self.rows, scaled_k, value, self._exact_bits)

    def reduce(self, gap: Array) -> Array:
        return gap

    def shortest(self, gap: Array) -> Array:
        return self.gram.shortest(gap)

    def determined_values(self, scaled_k: Array) -> Array:
        return self.gram.shortest(scaled_k)[..., self.determined]

    def null_space(self) -> NoReturn:
        raise ConstraintError(
            "A: expected a dense matrix for an orthonormal basis of its null space, got a sparse "
            'one, whose basis would be dense; use basis="elimination", or the dense form of A.'
        )

    def scaled_null_space(self, scale: Array) -> NoReturn:
        self.null_space()

    def elimination(self) -> NoReturn:
        self.null_space()


class PlannedSparseMatrix(SparseBoundMatrix):
    """Sparse rows as planned."""

    plan: SparsePlan

    def __init__(self, plan: SparsePlan, A: SparseMatrix, like: Any) -> None:
        self.plan, self.num_rows, self.rank = plan, plan.num_rows, plan.rank
        self.given = SparseRows(A.pattern, np.asarray(A.values, like.dtype))
        self.rows = SparseRows(plan.pattern, plan_tensor(plan, "values", like))
        self.scaled_rows = self.rows
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.log_range_volume, self.half_log_det = np.asarray(
            (plan.log_range_volume, plan.log_volume), like.dtype
        )
        self.gram = self.rows.gram()
        self._exact_bits = exact_bits(plan)
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, np.int32)
        if plan.has_own:
            variables = plan_tensor(plan, "own_variables", like, np.int32)
            self.own = variables, plan_tensor(plan, "own_entries", like)
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, np.int32)

    def agrees(self, k: Array, scaled_k: Array) -> Array:
        entries = sparse.coo_array(self.plan.dependence)
        pattern = SparsePattern(entries.row, entries.col, entries.shape)
        dependence = SparseRows(pattern, entries.data.astype(k.dtype))
        implied = dependence.apply(scaled_k)
        size = dependence.magnitude(jnp.abs(scaled_k))
        dropped = plan_tensor(self.plan, "dropped", k, np.int32)
        given = k[..., dropped]
        tolerance = jnp.finfo(k.dtype).eps ** 0.5 * (jnp.abs(given) + size)
        agrees = jnp.abs(given - implied) <= tolerance
        return jnp.ones(k.shape, bool).at[..., dropped].set(agrees)


class UnanalysedSparseMatrix(SparseBoundMatrix):
    """Sparse rows whose values are traced, or a batch.

    All rows are taken to be independent, but for those that were redundant where A was given.

    Args:
        A: with values ``(*batch, nnz)``.
        layout: what was known of A where it was given.
    """

    def __init__(self, A: SparseMatrix, layout: Layout) -> None:
        self.num_rows, values = A.pattern.shape[0], A.values
        entries, pattern = _without(A.pattern, layout.dropped)
        self.rank, self._exact_bits = pattern.shape[0], layout.exact_bits
        self.given = SparseRows(A.pattern, values)
        self.rows = self.scaled_rows = SparseRows(pattern, values[..., entries])
        self.row_scale = jnp.ones(self.rank, values.dtype)
        try:
            self.gram = self.rows.gram()
        except ParameterError as error:
            raise ParameterError(dependent_rows()) from error
        self.half_log_det = self.gram.half_log_det
        self._dropped = np.asarray(layout.dropped, np.int32)
        if layout.dropped:
            self.kept = np.setdiff1d(np.arange(self.num_rows, dtype=np.int32), self._dropped)

    @property
    def log_range_volume(self) -> Array:
        if not len(self._dropped):
            return self.half_log_det
        dependence = self._dependence()
        identity = jnp.eye(len(self._dropped), dtype=dependence.dtype)
        gram = identity + dependence @ dependence.mT
        return self.half_log_det + 0.5 * jnp.linalg.slogdet(gram)[1]

    def _dependence(self) -> Array:
        """``(*batch, m - r, r)`` the redundant rows in terms of the others."""
        dropped = jnp.moveaxis(self.given.dense()[..., self._dropped, :], -2, 0)
        return jnp.moveaxis(self.gram.solve(self.rows.apply(dropped)), 0, -2)

    def agrees(self, k: Array, scaled_k: Array) -> Array:
        # The rows that were redundant hold at a point that the others determine, if they still are
        # and k is right; and at a generic one that is moved along the others' null space.
        point = self.gram.shortest(scaled_k)
        probe = jnp.cos(jnp.arange(self.num_variables, dtype=k.dtype))
        moved = point + lift(self.gram.projected(probe), point.ndim)
        holds = [self._holds(value, k) for value in (point, moved)]
        return (holds[0] & holds[1]) | self._is_kept()

    def _is_kept(self) -> np.ndarray:
        return ~np.isin(np.arange(self.num_rows), self._dropped)

    def _holds(self, value: Array, k: Array) -> Array:
        total = self.given.apply(value)
        gap = jnp.abs(total - lift(k, total.ndim))
        size = self.given.magnitude(jnp.abs(value)) + lift(jnp.abs(k), total.ndim)
        return gap <= jnp.finfo(k.dtype).eps ** 0.5 * size


@lru_cache(maxsize=64)
def _without(pattern: SparsePattern, rows: tuple[int, ...]) -> tuple[np.ndarray, SparsePattern]:
    """The entries that are not in these rows, and their pattern with rows renumbered."""
    is_kept = ~np.isin(np.arange(pattern.shape[0]), rows)
    entries = np.flatnonzero(is_kept[pattern.row])
    number = np.cumsum(is_kept) - 1
    shape = int(is_kept.sum()), pattern.shape[1]
    return entries, SparsePattern(number[pattern.row[entries]], pattern.column[entries], shape)


def exact_bits(plan: SparsePlan) -> int:
    """Bits beyond those of a vector of integers that exact products with the rows need; 0 where no
    row is redundant, so that none is asked for."""
    if plan.has_full_row_rank or plan.rank == 0:
        return 0
    mantissa, exponent = np.frexp(plan.values)
    integer = np.ldexp(mantissa, 53).astype(np.int64)
    _, trailing = np.frexp((integer & -integer).astype(np.float64))
    last_bit = np.full(plan.rank, np.iinfo(np.int32).max, np.int64)
    np.minimum.at(last_bit, plan.pattern.row, exponent - 54 + trailing)
    total = np.bincount(plan.pattern.row, np.abs(plan.values), minlength=plan.rank)
    return int((np.frexp(total)[1] - last_bit).max())


@evaluated
def bind_sparse_plan(plan: SparsePlan, A: SparseMatrix, like: Any) -> PlannedSparseMatrix:
    """A as planned, in the dtype of ``like``; made once for equal A."""
    key = "jax", np.dtype(like.dtype)
    if key not in plan.executions:
        plan.executions[key] = PlannedSparseMatrix(plan, A, np.zeros((), like.dtype))
    return plan.executions[key]
