"""What the matrix A alone says of ``A x = k``, as tensors: rows to execute and their geometry.

The executed rows B span what the rows of A span and are well conditioned. They come from the scaled
rows R, the independent rows of A times powers of two, in which gaps ``R x`` are exact.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from constrained_core.linear.plan import AnyPlan, DensePlan, GroupPlan, Plan, RowPlan
from constrained_core.linear.structure import BlockReflector
from pyro_constrained.kernels.arrays.compiled import constant_of_a_graph
from pyro_constrained.kernels.arrays.groups import plan_groups
from pyro_constrained.kernels.arrays.linalg import matvec, solve_lower, split_exactly
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram, Gram, within_range
from pyro_constrained.kernels.linear.null_space import (
    BlockNullSpace,
    DenseNullSpace,
    NullSpace,
    PlacedNullSpace,
    complementary_basis,
)
from pyro_constrained.kernels.linear.partition import Partition
from pyro_constrained.kernels.linear.rows import (
    DenseRows,
    DisjointRows,
    GroupRows,
    Rows,
    SingleRow,
)

__all__ = ["BoundMatrix", "DenseMatrix", "DisjointMatrix", "group_rows"]

MAX_PRODUCTS = 2**22
"""Largest table of products of rows that is kept, so that a batch of scales needs one product."""


class BoundMatrix(ABC):
    """A bound to a dtype and a device.

    Attributes:
        given: all m rows of A, for residuals.
        rows: the r rows B.
        scaled_rows: the rows R.
        plan: what the tensors were made from, or None.
        num_rows: m.
        rank: r; a tensor where the matrices of a batch differ, or cannot be looked at.
        row_scale: ``(*batch, r)`` or ``(r,)`` of the scaled rows R.
        kept: which rows of A they are, or None for all.
        is_kept: ``(*batch, r)`` which rows of B are not zero, where their number is not known.
        log_range_volume: 1/2 log pdet A A'.
        half_log_det: 1/2 log det B B'.
        gram: B B', factored.
        determined: index of the variables that the constraint alone determines, or None.
        partition: the groups of a ``GroupSum``, or None.
        is_whole: whether A has whole numbers only, as far as it was looked at.
        is_sparse: whether rows are sparse, so that there is no orthonormal basis of the null space.
        own: for every scaled row a variable that no other has, and its entry; or None.
    """

    plan: Plan | None = None
    given: Rows
    rows: Rows
    scaled_rows: Rows
    num_rows: int
    rank: int | Tensor
    row_scale: Tensor
    kept: Tensor | None = None
    is_kept: Tensor | None = None
    log_range_volume: Tensor | float
    half_log_det: Tensor | float
    gram: Gram
    determined: Tensor | None = None
    partition: Partition | None = None
    is_whole: bool = False
    is_sparse: bool = False
    own: tuple[Tensor, Tensor] | None = None

    def prepare(self) -> None:  # noqa: B027  # most have nothing to make
        """Make what the host makes of A: a compiled step cannot."""

    @property
    def num_variables(self) -> int:
        # Under torch.jit.trace a size is a tensor.
        return int(self.rows.num_variables)

    @property
    def real_rank(self) -> Any:
        """r; a tensor in the dtype of the law where it is one."""
        return self.rank.to(self.row_scale) if isinstance(self.rank, Tensor) else self.rank

    @property
    def free_size(self) -> Any:
        """n - r, the dimension of the subspace; a tensor in the dtype of the law where r is one."""
        return self.num_variables - self.real_rank

    def scale_k(self, k: Tensor) -> Tensor:
        """Right-hand sides ``(*batch, m)`` of A as those of R."""
        if self.kept is not None:
            k = k.index_select(-1, self.kept)
        return k * self.row_scale

    @abstractmethod
    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        """``(*batch, m)`` whether the k of redundant rows is what other rows imply."""

    @abstractmethod
    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        """``scaled_k - R value``, as exactly as the dtype allows."""

    @abstractmethod
    def reduce(self, gap: Tensor) -> Tensor:
        """A gap of R as that of B."""

    def shortest(self, gap: Tensor) -> Tensor:
        """The shortest step that closes a gap of R."""
        return self.gram.closing(self.rows, self.reduce(gap))

    @abstractmethod
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""

    @property
    def exact_rows(self) -> Rows:
        """Independent rows with the fewest rounding errors."""
        return self.rows

    @property
    def exact_half_log_det(self) -> Tensor | float:
        """1/2 log det of their Gram matrix."""
        return self.half_log_det

    def reduce_exactly(self, gap: Tensor) -> Tensor:
        """A gap of R as that of these rows."""
        return self.reduce(gap)

    def padded(self, square: Tensor) -> Tensor:
        """An r x r matrix made of the rows, with ones on the diagonal for those that are zero."""
        return square

    def disjoint_gram(self, rows: DisjointRows) -> DiagonalGram:
        """The Gram matrix of rows that share no variable, made of these."""
        return DiagonalGram(within_range(rows.squared_lengths()))

    def determined_values(self, scaled_k: Tensor) -> Tensor:
        """Values of the determined variables, up to factors."""
        return scaled_k

    def without_determined(self, share: Tensor) -> Tensor:
        """``(*batch, n)`` variances, 0 for variables that the constraint alone determines."""
        return share if self.determined is None else share.index_fill(-1, self.determined, 0.0)

    def full_rank_rows(self) -> DenseRows | None:
        """Independent dense rows, with the fewest rounding errors; None if their number differs."""
        return None

    @abstractmethod
    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        """Orthonormal basis of the null space of A diag(scale), continuous in positive scales."""

    @abstractmethod
    def elimination(self) -> tuple[Tensor, Tensor]:
        """Variables ``(*batch, n - r)`` that are free, and the null vectors ``(*batch, n, n - r)``
        of which one of them is 1, the others 0."""


class DisjointMatrix(BoundMatrix):
    """One row, or rows of disjoint groups, as planned: B is R."""

    plan: RowPlan | GroupPlan
    rows: DisjointRows

    def __init__(self, plan: RowPlan | GroupPlan, given: Rows, like: Tensor) -> None:
        self.given, self.plan = given, plan
        self.num_rows, self.rank = plan.num_rows, plan.rank
        self.rows = group_rows(plan, like) if isinstance(plan, GroupPlan) else _row(plan, like)
        self.scaled_rows, self.gram = self.rows, self.rows.gram()
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.log_range_volume, self.half_log_det = plan.log_range_volume, plan.log_volume
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, torch.int64)
            self._is_kept = plan_tensor(plan, "is_kept", like, torch.bool)
            self._dependence = _dependence(plan, like) if isinstance(plan, RowPlan) else None
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, torch.int64)
            if isinstance(plan, GroupPlan):
                self._determined_rows = plan_tensor(plan, "determined_rows", like, torch.int64)

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        if self._dependence is not None:
            return self._dependence.agrees(k, scaled_k)
        return self._is_kept | (k == 0)  # empty groups

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        return scaled_k - self.rows.sums(value)

    def reduce(self, gap: Tensor) -> Tensor:
        return gap

    def null_space(self) -> NullSpace:
        return self.rows.null_space()

    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        return self.rows.scaled(scale).null_space()

    def elimination(self) -> tuple[Tensor, Tensor]:
        return _elimination(self.plan, self.row_scale)

    def determined_values(self, scaled_k: Tensor) -> Tensor:
        if isinstance(self.rows, GroupRows):
            return scaled_k[..., self._determined_rows]
        return scaled_k


class DenseMatrix(BoundMatrix):
    """Dense rows as planned: some may be redundant, or executed in an orthonormal basis."""

    plan: DensePlan
    rows: DenseRows
    scaled_rows: DenseRows
    gram: DenseGram

    def __init__(self, plan: DensePlan, given: Rows, like: Tensor) -> None:
        self.given, self.plan = given, plan
        self.num_rows, self.rank = plan.num_rows, plan.rank
        products = plan.products_size <= MAX_PRODUCTS
        self.rows = DenseRows(
            plan_tensor(plan, "executed", like),
            plan_tensor(plan, "products", like) if products else None,
        )
        is_scaled = plan.triangle is None
        self.scaled_rows = self.rows if is_scaled else DenseRows(plan_tensor(plan, "stored", like))
        self._exact_half_log_det = plan.log_volume + plan.log_triangle
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.is_plain, self._exact_bits = plan.is_plain, plan.exact_bits
        self.log_range_volume, self.half_log_det = plan.log_range_volume, plan.log_volume
        self._triangle = None if plan.triangle is None else plan_tensor(plan, "triangle", like)
        self.gram = DenseGram(
            torch.as_tensor(plan.log_volume, device="cpu").to(like),
            plan_tensor(plan, "gram_inverse", like),
        )
        is_small = plan.stored.size <= MAX_PRODUCTS
        self._right_inverse = plan_tensor(plan, "right_inverse", like) if is_small else None
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, torch.int64)
            self._dependence = _dependence(plan, like)
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, torch.int64)
            self._solution = plan_tensor(plan, "solution", like)

    @property
    def exact_rows(self) -> DenseRows:
        return self.scaled_rows

    @property
    def exact_half_log_det(self) -> float:
        return self._exact_half_log_det

    def reduce_exactly(self, gap: Tensor) -> Tensor:
        return gap

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        return self._dependence.agrees(k, scaled_k)

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        if self.is_plain:
            return scaled_k - self.rows.sums(value)
        high, low = split_exactly(value, self._exact_bits)
        gap = scaled_k - self.scaled_rows.sums(high)
        return gap if low is None else gap - self.scaled_rows.sums(low)

    def reduce(self, gap: Tensor) -> Tensor:
        return gap if self._triangle is None else solve_lower(self._triangle, gap)

    def shortest(self, gap: Tensor) -> Tensor:
        if self._right_inverse is None:  # another array of the size of A
            return super().shortest(gap)
        return matvec(self._right_inverse, gap)

    def full_rank_rows(self) -> DenseRows:
        return self.scaled_rows

    def null_space(self) -> NullSpace:
        like, plan = self.row_scale, self.plan
        basis: NullSpace
        if _has_block_basis(plan):
            kernel = plan_tensor(plan, "null_kernel", like)
            basis = BlockNullSpace(plan_tensor(plan, "null_vectors", like), kernel)
        else:
            basis = DenseNullSpace(plan_tensor(plan, "null_matrix", like))
        return self._placed(basis)

    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        followers = plan_tensor(self.plan, "followers", scale)
        pivots = scale.index_select(-1, plan_tensor(self.plan, "pivots", scale, torch.int64))
        free = scale.index_select(-1, plan_tensor(self.plan, "free", scale, torch.int64))
        return self._placed(
            complementary_basis(followers * (free[..., None, :] / pivots[..., :, None]))
        )

    def elimination(self) -> tuple[Tensor, Tensor]:
        return _elimination(self.plan, self.row_scale)

    def _placed(self, basis: NullSpace) -> NullSpace:
        place, order = (
            plan_tensor(self.plan, name, self.row_scale, torch.int64) for name in ("place", "order")
        )
        return PlacedNullSpace(basis, place, order)

    def determined_values(self, scaled_k: Tensor) -> Tensor:
        return matvec(self._solution, scaled_k)


@constant_of_a_graph
def _has_block_basis(plan: DensePlan) -> bool:
    return isinstance(plan.null_basis, BlockReflector)


def _elimination(plan: AnyPlan, like: Tensor) -> tuple[Tensor, Tensor]:
    return plan_tensor(plan, "free", like, torch.int64), plan_tensor(plan, "elimination", like)


@dataclass(frozen=True, eq=False)
class _Dependence:
    """Redundant rows, and what the scaled rows imply for them."""

    dropped: Tensor
    coefficients: Tensor

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        implied = matvec(self.coefficients, scaled_k)
        size = matvec(self.coefficients.abs(), scaled_k.abs())
        given = k.index_select(-1, self.dropped)
        tolerance = torch.finfo(k.dtype).eps ** 0.5 * (given.abs() + size)
        agrees = (given - implied).abs() <= tolerance
        return torch.ones_like(k, dtype=torch.bool).index_copy(-1, self.dropped, agrees)


def _dependence(plan: RowPlan | DensePlan, like: Tensor) -> _Dependence:
    dropped = plan_tensor(plan, "dropped", like, torch.int64)
    return _Dependence(dropped, plan_tensor(plan, "dependence", like))


def _row(plan: RowPlan, like: Tensor) -> SingleRow:
    if plan.weights is None:
        return SingleRow(_ones(plan, like), plain=True)
    return SingleRow(plan_tensor(plan, "weights", like))


def group_rows(plan: GroupPlan, like: Tensor, prefix: str = "") -> GroupRows:
    """The rows of groups, or with the prefix ``given_`` those of A."""
    plain = plan.weights is None
    return GroupRows(
        plan_groups(plan, prefix + "index", plan.num_rows if prefix else plan.rank, like),
        _ones(plan, like) if plain else plan_tensor(plan, prefix + "weights", like),
        plain,
        plan,
    )


def _ones(plan: AnyPlan, like: Tensor) -> Tensor:
    return like.new_ones(()).expand(plan.num_variables)
