"""Coordinates of the subspace by elimination: some variables are free, the others, pivots, follow.

x = x0 + W u with u the free variables themselves: W has the entries that the structure of A allows,
and u is read off x without an error. Volumes are stretched by a constant.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse
from scipy.linalg import solve_triangular

from constrained_core.errors import ConstraintError
from constrained_core.linear.plan import DensePlan, GroupPlan, RowPlan
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparsePattern
from numpyro_constrained.kernels.arrays.host import HostFunction, host_call
from numpyro_constrained.kernels.arrays.leaves import evaluated, folded
from numpyro_constrained.kernels.arrays.linalg import lift, matvec
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.matrix import BoundMatrix, exact_gap
from numpyro_constrained.kernels.linear.rows import DenseRows, Rows
from numpyro_constrained.kernels.linear.saddle import is_known
from numpyro_constrained.kernels.linear.sparse_rows import SPARSE, SparseRows

__all__ = ["Elimination", "elimination_of"]

MAX_INVERSE = 1024
"""Rows up to which the inverse of the pivots' columns is made, so that programs need no host."""


class Elimination(ABC):
    """Free variables and pivots of the solutions of ``A x = k``.

    Attributes:
        pivots, free: ``(r,)`` and ``(n - r,)`` variables.
        log_volume: 1/2 log det W'W, what the map from u to x does to volumes.
    """

    _followers: Rows | None = None

    def __init__(self, plan: Any) -> None:
        self.pivots, self.free = plan_index(plan, "pivots"), plan_index(plan, "free")
        self._place = np.argsort(np.concatenate([self.pivots, self.free]))
        self.log_volume: float = 0.0

    @abstractmethod
    def solve(self, matrix: BoundMatrix, gap: Array) -> Array:
        """``(..., r)`` the step of the pivots that closes a gap of the scaled rows."""

    def embed(self, constraint: LinearConstraint, coordinates: Array) -> Array:
        """The point ``(..., n)`` whose free variables are these ``(..., n - r)``."""

        def step(point: Array) -> Array:
            pivots = self.solve(constraint.matrix, self._gap(constraint, point))
            return self._whole(pivots, jnp.zeros((*pivots.shape[:-1], len(self.free)), point.dtype))

        value = self._point(constraint, coordinates)
        return constraint.settle(value, step, count=1 if value.dtype == np.float64 else 2)

    def _gap(self, constraint: LinearConstraint, value: Array) -> Array:
        """What the last steps close: none that is rounding, of variables that may be small."""
        return constraint.excess(value)

    def _point(self, constraint: LinearConstraint, coordinates: Array) -> Array:
        """That point, up to rounding."""
        coordinates = constraint.lifted(coordinates)
        if self._followers is not None:
            origin = folded(self.solve)(constraint.matrix, constraint.scaled_k)
            moved = self._followers.apply(coordinates)
            return self._whole(lift(origin, moved.ndim) - moved, coordinates)
        zeros = jnp.zeros((*coordinates.shape[:-1], len(self.pivots)), coordinates.dtype)
        gap = constraint.gap(self._whole(zeros, coordinates))
        return self._whole(self.solve(constraint.matrix, gap), coordinates)

    def extract(self, value: Array) -> Array:
        """The free variables of a point."""
        return value[..., self.free]

    def _whole(self, pivots: Array, free: Array) -> Array:
        """``(..., n)`` of pivots and free variables."""
        batch = jnp.broadcast_shapes(pivots.shape[:-1], free.shape[:-1])
        parts = (jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in (pivots, free))
        return jnp.concatenate(list(parts), -1)[..., self._place]


class _DisjointElimination(Elimination):
    """One pivot of every row, in O(n)."""

    def __init__(self, plan: RowPlan | GroupPlan, like: Any) -> None:
        super().__init__(plan)
        weights = np.ones(plan.num_variables) if plan.weights is None else plan.weights
        pivots = weights[plan.pivots]
        self._weights = pivots.astype(like.dtype)
        self.log_volume = plan.log_volume - float(np.log(np.abs(pivots)).sum())

    def solve(self, matrix: BoundMatrix, gap: Array) -> Array:
        return gap / self._weights.reshape((1,) * (gap.ndim - 1) + (-1,))


class _DenseElimination(Elimination):
    """Pivots of the plan."""

    def __init__(self, plan: DensePlan, like: Any) -> None:
        super().__init__(plan)
        columns = plan.basis[:, plan.pivots]
        inverse = np.linalg.inv(columns)
        if plan.triangle is not None:  # of the scaled rows themselves
            inverse = solve_triangular(plan.triangle, inverse.T, lower=True, trans="T").T
        self._inverse = inverse.astype(like.dtype)
        self._followers = DenseRows(plan.followers.astype(like.dtype))
        self._rows, self._exact_bits = _if_sparse(plan, like), plan.exact_bits
        self.log_volume = plan.log_volume - float(np.linalg.slogdet(columns)[1])

    def _gap(self, constraint: LinearConstraint, value: Array) -> Array:
        # The steps are short: pivots have well conditioned columns.
        if self._rows is None:
            return constraint.gap(value)
        return exact_gap(self._rows, constraint.scaled_k, value, self._exact_bits)

    def solve(self, matrix: BoundMatrix, gap: Array) -> Array:
        return matvec(self._inverse, gap)


def _if_sparse(plan: DensePlan, like: Any) -> SparseRows | None:
    """The scaled rows of a network, say, whose gaps take few entries."""
    rows = plan.basis if plan.triangle is None else plan.rows
    if SPARSE * np.count_nonzero(rows) > rows.size:
        return None
    row, column = np.nonzero(rows)
    pattern = SparsePattern(row, column, rows.shape)
    return SparseRows(pattern, rows[row, column].astype(like.dtype))


class _SparseElimination(Elimination):
    """Pivots of the plan, whose columns the host has factored."""

    def __init__(self, plan: SparsePlan, like: Any) -> None:
        super().__init__(plan)
        self._plan, self._columns = plan, _columns(plan, like)
        self.log_volume = plan.log_volume - plan.log_pivot_volume
        self._inverse = _inverse(plan, like) if plan.rank <= MAX_INVERSE else None
        self._followers = None if self._inverse is None else _followers(plan, like)

    def solve(self, matrix: BoundMatrix, gap: Array) -> Array:
        if self._inverse is not None:
            return self._inverse.apply(gap)
        if is_known(gap):
            return self._on_host(False, gap)
        return jax.lax.custom_linear_solve(
            self._columns.apply,
            gap,
            lambda _, vector: self._on_host(False, vector),
            lambda _, vector: self._on_host(True, vector),
        )

    def _on_host(self, transposed: bool, vector: Array) -> Array:
        function = HostFunction(_solve_transposed if transposed else _solve, self._plan)
        return host_call(function, (vector.shape,), vector.dtype, vector)[0]


def _solve(plan: Any, vector: np.ndarray) -> tuple:
    return (plan.complete(vector, np.zeros(plan.free_size)),)


def _solve_transposed(plan: Any, vector: np.ndarray) -> tuple:
    return (plan.complete_adjoint(vector)[0],)


def _columns(plan: SparsePlan, like: Any) -> SparseRows:
    """The pivots' columns of the scaled rows."""
    number = np.full(plan.num_variables, -1)
    number[plan.pivots] = np.arange(plan.rank)
    column = number[plan.pattern.column]
    entries = np.flatnonzero(column >= 0)
    pattern = SparsePattern(plan.pattern.row[entries], column[entries], (plan.rank, plan.rank))
    return SparseRows(pattern, plan.values[entries].astype(like.dtype))


def _inverse(plan: SparsePlan, like: Any) -> SparseRows:
    """The inverse of these columns."""
    inverse = plan.complete(np.eye(plan.rank), np.zeros(plan.free_size)).T
    row, column = np.nonzero(inverse)
    pattern = SparsePattern(row, column, inverse.shape)
    return SparseRows(pattern, inverse[row, column].astype(like.dtype))


def _followers(plan: SparsePlan, like: Any) -> SparseRows | None:
    """What free variables take from the pivots."""
    if plan.followers is None:
        return None
    entries = sparse.coo_array(plan.followers)
    pattern = SparsePattern(entries.row, entries.col, entries.shape)
    return SparseRows(pattern, entries.data.astype(like.dtype))


@evaluated
def elimination_of(matrix: BoundMatrix) -> Elimination:
    """Coordinates by elimination; made once for each plan and dtype.

    Raises:
        ConstraintError: the values of A are not known, or those of a batch.
    """
    plan, like = matrix.plan, matrix.row_scale
    if plan is None:
        raise ConstraintError(
            "A: expected one matrix with known values, to choose variables that are free by, got "
            "one that is sampled, learned or mapped over, or a batch; use reparam.auto_reparam "
            "for the site, or give A as a NumPy array or a scipy.sparse matrix."
        )
    key = "jax elimination", np.dtype(like.dtype)
    if key not in plan.executions:
        plan.executions[key] = _made(plan, like)
    return plan.executions[key]


def _made(plan: Any, like: Any) -> Elimination:
    if isinstance(plan, SparsePlan):
        return _SparseElimination(plan, like)
    if isinstance(plan, DensePlan):
        return _DenseElimination(plan, like)
    return _DisjointElimination(plan, like)
