"""What the matrix A alone says of ``A x = k``, as arrays: rows to execute and their geometry.

The executed rows B span what the rows of A span and are well conditioned. They come from the scaled
rows R, the independent rows of A times powers of two, in which gaps ``R x`` are exact.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from constrained_core.groups import GroupSum
from constrained_core.linear.plan import AnyPlan, DensePlan, GroupPlan, RowPlan
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.linear.structure import BlockReflector
from numpyro_constrained.kernels.arrays.groups import Groups, plan_groups
from numpyro_constrained.kernels.arrays.leaves import evaluated
from numpyro_constrained.kernels.arrays.linalg import lift, matvec, solve_lower, split_exactly, take
from numpyro_constrained.kernels.arrays.plans import plan_tensor
from numpyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram, Gram, within_range
from numpyro_constrained.kernels.linear.null_space import (
    BlockNullSpace,
    DenseNullSpace,
    NullSpace,
    PlacedNullSpace,
    complementary_basis,
)
from numpyro_constrained.kernels.linear.partition import Partition
from numpyro_constrained.kernels.linear.rows import (
    DenseRows,
    DisjointRows,
    GroupRows,
    Rows,
    SingleRow,
    UnscaledRows,
)

__all__ = ["BoundMatrix", "DenseMatrix", "DisjointMatrix", "bind_plan", "exact_gap"]

MAX_PRODUCTS = 2**22
"""Largest table of products of rows that is kept, so that a batch of scales needs one product."""


class BoundMatrix(ABC):
    """A bound to a dtype.

    Attributes:
        plan: what the arrays were made from, or None.
        num_rows: m.
        given: all m rows of A, for residuals.
        rows: the r rows B.
        scaled_rows: the rows R.
        rank: r; an array where the matrices of a batch differ, or are traced.
        row_scale: ``(*batch, r)`` or ``(r,)`` of the scaled rows R.
        kept: which rows of A they are, or None for all.
        is_kept: ``(*batch, r)`` which rows of B are not zero, where their number is not known.
        log_range_volume: 1/2 log pdet A A'.
        half_log_det: 1/2 log det B B'.
        gram: B B', factored.
        determined: index of the variables that the constraint alone determines, or None.
        partition: the groups of a ``GroupSum``, or None.
        has_basis: whether there is an orthonormal basis of the null space.
        own: for every scaled row a variable that no other has, and its entry; or None.
    """

    plan: AnyPlan | SparsePlan | None = None
    num_rows: int
    given: Rows
    rows: Rows
    scaled_rows: Rows
    rank: int | Array
    row_scale: Any
    kept: np.ndarray | None = None
    is_kept: Array | None = None
    log_range_volume: Any
    half_log_det: Any
    gram: Gram
    determined: np.ndarray | None = None
    partition: Partition | None = None
    has_basis = True
    own: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def num_variables(self) -> int:
        return self.rows.num_variables

    @property
    def free_size(self) -> Any:
        """n - r, the dimension of the subspace, as what the rank is."""
        return self.num_variables - self.rank

    def scale_k(self, k: Array) -> Array:
        """Right-hand sides ``(*batch, m)`` of A as those of R."""
        if self.kept is not None:
            k = k[..., self.kept]
        ndim = max(k.ndim, self.row_scale.ndim)
        return lift(k, ndim) * lift(self.row_scale, ndim)

    @abstractmethod
    def agrees(self, k: Array, scaled_k: Array) -> Array:
        """``(*batch, m)`` whether the k of redundant rows is what other rows imply."""

    @abstractmethod
    def gap(self, scaled_k: Array, value: Array) -> Array:
        """``scaled_k - R value``, as exactly as the dtype allows."""

    @abstractmethod
    def reduce(self, gap: Array) -> Array:
        """A gap of R as that of B."""

    def shortest(self, gap: Array) -> Array:
        """The shortest step that closes a gap of R."""
        return self.rows.adjoint(self.gram.solve(self.reduce(gap)))

    @property
    def exact_rows(self) -> Rows:
        """Independent rows with the fewest rounding errors."""
        return self.rows

    @property
    def exact_half_log_det(self) -> Any:
        """1/2 log det of their Gram matrix."""
        return self.half_log_det

    def reduce_exactly(self, gap: Array) -> Array:
        """A gap of R as that of these rows."""
        return self.reduce(gap)

    def padded(self, square: Array) -> Array:
        """An r x r matrix made of the rows, with ones on the diagonal for those that are zero."""
        return square

    def disjoint_gram(self, rows: DisjointRows) -> DiagonalGram:
        """The Gram matrix of rows that share no variable, made of these."""
        return DiagonalGram(within_range(rows.squared_lengths()))

    def full_rank_rows(self) -> DenseRows | None:
        """Independent rows, with the fewest rounding errors; None if their number differs."""
        return None

    @abstractmethod
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""

    @abstractmethod
    def scaled_null_space(self, scale: Array) -> NullSpace:
        """Orthonormal basis of the null space of A diag(scale), continuous in positive scales."""

    @abstractmethod
    def elimination(self) -> tuple[Any, Any]:
        """Variables ``(*batch, n - r)`` that are free, and the null vectors ``(*batch, n, n - r)``
        of which one of them is 1, the others 0."""

    def determined_values(self, scaled_k: Array) -> Array:
        """Values of the determined variables, up to factors."""
        return scaled_k

    def without_determined(self, share: Array) -> Array:
        """``(*batch, n)`` variances, 0 for variables that the constraint alone determines."""
        return share if self.determined is None else share.at[..., self.determined].set(0.0)


class DisjointMatrix(BoundMatrix):
    """One row, or rows of disjoint groups, as planned: B is R."""

    plan: RowPlan | GroupPlan
    rows: DisjointRows

    def __init__(self, plan: RowPlan | GroupPlan, given: Rows, like: Any) -> None:
        self.given, self.plan = given, plan
        self.num_rows, self.rank = plan.num_rows, plan.rank
        self.rows = _group_rows(plan, like) if isinstance(plan, GroupPlan) else _row(plan, like)
        self.scaled_rows = self.rows
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.log_range_volume, self.half_log_det = np.asarray(
            (plan.log_range_volume, plan.log_volume), like.dtype
        )
        self.gram = self.rows.gram()
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, np.int32)
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, np.int32)

    def agrees(self, k: Array, scaled_k: Array) -> Any:
        if isinstance(self.plan, RowPlan):
            return _agrees(self.plan, k, scaled_k)
        return lift(plan_tensor(self.plan, "is_kept", k, bool), k.ndim) | (k == 0)  # empty groups

    def gap(self, scaled_k: Array, value: Array) -> Array:
        return lift(scaled_k, value.ndim) - self.rows.sums(value)

    def reduce(self, gap: Array) -> Array:
        return gap

    def null_space(self) -> NullSpace:
        return self.rows.null_space()

    def scaled_null_space(self, scale: Array) -> NullSpace:
        return self.rows.scaled(scale).null_space()

    def elimination(self) -> tuple[Any, Any]:
        return _elimination(self.plan, self.row_scale)

    def determined_values(self, scaled_k: Array) -> Array:
        if isinstance(self.plan, GroupPlan):
            return scaled_k[..., plan_tensor(self.plan, "determined_rows", scaled_k, np.int32)]
        return scaled_k


class DenseMatrix(BoundMatrix):
    """Dense rows as planned: some may be redundant, or executed in an orthonormal basis."""

    plan: DensePlan
    rows: DenseRows
    scaled_rows: DenseRows

    def __init__(self, plan: DensePlan, A: np.ndarray, like: Any) -> None:
        self.plan, self.num_rows, self.rank = plan, plan.num_rows, plan.rank
        products = plan.products_size <= MAX_PRODUCTS
        self.rows = DenseRows(
            plan_tensor(plan, "executed", like),
            plan_tensor(plan, "products", like) if products else None,
        )
        own_rows = plan.triangle is not None
        self.scaled_rows = DenseRows(
            plan_tensor(plan, "stored", like) if own_rows else self.rows.matrix
        )
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.log_range_volume, self.half_log_det = np.asarray(
            (plan.log_range_volume, plan.log_volume), like.dtype
        )
        self.gram = DenseGram(self.half_log_det, plan_tensor(plan, "gram_inverse", like))
        self.given = (
            UnscaledRows(self.scaled_rows, self.row_scale)
            if plan.has_full_row_rank and self.rows.is_large
            else _array_rows(A, like)
        )
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, np.int32)
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, np.int32)

    @property
    def exact_rows(self) -> DenseRows:
        return self.scaled_rows

    @property
    def exact_half_log_det(self) -> Any:
        log_det = self.plan.log_volume + self.plan.log_triangle
        return np.asarray(log_det, self.half_log_det.dtype)

    def reduce_exactly(self, gap: Array) -> Array:
        return gap

    def agrees(self, k: Array, scaled_k: Array) -> Array:
        return _agrees(self.plan, k, scaled_k)

    def gap(self, scaled_k: Array, value: Array) -> Array:
        if self.plan.is_plain:
            return lift(scaled_k, value.ndim) - self.rows.sums(value)
        return exact_gap(self.scaled_rows, scaled_k, value, self.plan.exact_bits)

    def reduce(self, gap: Array) -> Array:
        if self.plan.triangle is None:
            return gap
        return solve_lower(plan_tensor(self.plan, "triangle", gap), gap)

    def shortest(self, gap: Array) -> Array:
        if self.plan.stored.size > MAX_PRODUCTS:  # another array of the size of A
            return super().shortest(gap)
        return matvec(plan_tensor(self.plan, "right_inverse", gap), gap)

    def full_rank_rows(self) -> DenseRows:
        return self.scaled_rows

    def null_space(self) -> NullSpace:
        like, plan = self.row_scale, self.plan
        basis: NullSpace
        if isinstance(plan.null_basis, BlockReflector):
            kernel = plan_tensor(plan, "null_kernel", like)
            basis = BlockNullSpace(plan_tensor(plan, "null_vectors", like), kernel)
        else:
            basis = DenseNullSpace(plan_tensor(plan, "null_matrix", like))
        return self._placed(basis)

    def scaled_null_space(self, scale: Array) -> NullSpace:
        pivots, free = (
            take(scale, plan_tensor(self.plan, name, scale, np.int32))
            for name in ("pivots", "free")
        )
        ratio = free[..., None, :] / pivots[..., :, None]
        followers = lift(plan_tensor(self.plan, "followers", scale), ratio.ndim)
        return self._placed(complementary_basis(followers * ratio))

    def elimination(self) -> tuple[Any, Any]:
        return _elimination(self.plan, self.row_scale)

    def _placed(self, basis: NullSpace) -> NullSpace:
        place, order = (
            plan_tensor(self.plan, name, self.row_scale, np.int32) for name in ("place", "order")
        )
        return PlacedNullSpace(basis, place, order)

    def determined_values(self, scaled_k: Array) -> Array:
        return matvec(plan_tensor(self.plan, "solution", scaled_k), scaled_k)


def exact_gap(rows: Rows, scaled_k: Array, value: Array, bits: int) -> Array:
    """``scaled_k - rows value``, exact for the leading bits of ``value`` where ``bits`` are few."""
    high, low = split_exactly(value, bits)
    gap = lift(scaled_k, value.ndim) - rows.sums(high)
    return gap if low is None else gap - rows.sums(low)


def _elimination(plan: AnyPlan, like: Any) -> tuple[np.ndarray, np.ndarray]:
    return plan_tensor(plan, "free", like, np.int32), plan_tensor(plan, "elimination", like)


def _agrees(plan: RowPlan | DensePlan, k: Array, scaled_k: Array) -> Array:
    coefficients = plan_tensor(plan, "dependence", k)
    dropped = plan_tensor(plan, "dropped", k, np.int32)
    implied = matvec(coefficients, scaled_k)
    size = matvec(abs(coefficients), jnp.abs(scaled_k))
    given = k[..., dropped]
    tolerance = jnp.finfo(k.dtype).eps ** 0.5 * (jnp.abs(given) + size)
    agrees = jnp.abs(given - implied) <= tolerance
    return jnp.ones(k.shape, bool).at[..., dropped].set(agrees)


@evaluated
def bind_plan(plan: AnyPlan, A: np.ndarray | GroupSum, like: Any) -> BoundMatrix:
    """A as planned, in the dtype of ``like``; made once for equal A."""
    is_vector = isinstance(A, np.ndarray) and A.ndim == 1
    key = "jax", is_vector, np.dtype(like.dtype)
    if key not in plan.executions:
        like = np.zeros((), like.dtype)
        matrix: BoundMatrix
        if isinstance(plan, DensePlan):
            assert isinstance(A, np.ndarray)
            matrix = DenseMatrix(plan, A, like)
        else:
            matrix = DisjointMatrix(plan, _given_rows(plan, A, like), like)
        plan.executions[key] = matrix
        if isinstance(A, GroupSum):
            matrix.partition = Partition.of(A, like)
    return plan.executions[key]


def _given_rows(plan: RowPlan | GroupPlan, A: np.ndarray | GroupSum, like: Any) -> Rows:
    if not isinstance(A, GroupSum):
        return _array_rows(A, like)
    if isinstance(plan, GroupPlan):
        return _group_rows(plan, like, prefix="given_")
    index = np.zeros(plan.num_variables, np.int32)
    return GroupRows(Groups(index, plan.num_rows), np.zeros(plan.num_variables, like.dtype))


def _array_rows(A: np.ndarray, like: Any) -> Rows:
    A = A.astype(like.dtype)
    return SingleRow(A) if A.ndim == 1 else DenseRows(A)


def _row(plan: RowPlan, like: Any) -> SingleRow:
    if plan.weights is None:
        return SingleRow(_ones(plan, like), plain=True)
    return SingleRow(plan_tensor(plan, "weights", like))


def _group_rows(plan: GroupPlan, like: Any, prefix: str = "") -> GroupRows:
    plain = plan.weights is None
    return GroupRows(
        plan_groups(plan, prefix + "index", plan.num_rows if prefix else plan.rank, like),
        _ones(plan, like) if plain else plan_tensor(plan, prefix + "weights", like),
        plain,
        plan,
    )


def _ones(plan: AnyPlan, like: Any) -> np.ndarray:
    return np.ones(plan.num_variables, like.dtype)
