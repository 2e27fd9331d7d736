"""Matrices that no plan was made of: a batch, or one that gradients or maps reach."""

import torch
from torch import Tensor

from constrained_core.errors import ConstraintError
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import (
    diagonal,
    identity_like,
    matvec,
    power_of_two_below,
    solve,
    take,
)
from pyro_constrained.kernels.linear.completion import pivots_first
from pyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram, within_range
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.null_space import (
    NullSpace,
    PlacedNullSpace,
    complementary_basis,
)
from pyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, SingleRow

__all__ = ["UnanalysedMatrix", "UnanalysedRow"]

SAFE = 1e-3
"""Diagonal of the triangle of rows of unit length from which they count as independent at once."""


class UnanalysedRow(BoundMatrix):
    """One row ``(n,)``; B is R. A row of zeros constrains nothing."""

    is_kept: Tensor
    rows: SingleRow
    num_rows = 1

    def __init__(self, A: Tensor, like: Tensor) -> None:
        given = A.to(like.dtype)
        scale = _power_of_two_scale(given[None])[0]
        self.given, self.rows, self.row_scale = SingleRow(given), SingleRow(given * scale), scale
        self.scaled_rows = self.rows
        self.is_kept = (A != 0).any(-1, keepdim=True)
        self.rank = _rank(self.is_kept)
        self.half_log_det = self.gram.half_log_det
        self.log_range_volume = self.half_log_det - scale[0].log()

    def padded(self, square: Tensor) -> Tensor:
        return square + torch.diag_embed((~self.is_kept).to(square))

    def disjoint_gram(self, rows: DisjointRows) -> DiagonalGram:
        lengths = rows.squared_lengths()
        return DiagonalGram(within_range(lengths + (~self.is_kept).to(lengths)))

    def full_rank_rows(self) -> DenseRows | None:
        """None but for a row of zeros: a vector is held as it is."""
        is_none = isinstance(self.rank, int) and self.rank == 0
        return DenseRows(self.rows.weights.new_zeros(0, self.num_variables)) if is_none else None

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        return self.is_kept | (k == 0)

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        return scaled_k - self.rows.sums(value)

    def reduce(self, gap: Tensor) -> Tensor:
        return gap

    @lazy_property
    def gram(self) -> DiagonalGram:
        return self.disjoint_gram(self.rows)

    def null_space(self) -> NullSpace:
        return self.rows.null_space()

    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        return self.rows.scaled(scale).null_space()

    def elimination(self) -> tuple[Tensor, Tensor]:
        weights = self.rows.weights
        free = torch.arange(1, len(weights), device=weights.device)
        basis = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)[:, 1:]
        return free, basis.index_copy(0, free[:1] * 0, -weights[None, 1:] / weights[0])


class UnanalysedMatrix(BoundMatrix):
    """B = M R for all rows R of A, scaled, with a constant M that makes B orthonormal here.

    Nothing that the row space determines depends on M, so that derivatives need not know how it
    was found. Where rows are redundant, the last rows of B are zero.

    Args:
        A: ``(*batch, m, n)``.
        like: a tensor of the law.
    """

    is_kept: Tensor
    rows: DenseRows
    scaled_rows: DenseRows

    def __init__(self, A: Tensor, like: Tensor) -> None:
        self.num_rows, self.given = A.shape[-2], DenseRows(A.to(like.dtype))
        # In double precision: badly conditioned rows keep the digits that they are given with.
        exact = A.to(torch.float64)
        scale = _power_of_two_scale(exact)
        scaled = exact * scale
        mixing, self.is_kept = _orthonormalising(scaled.detach(), torch.finfo(A.dtype).eps)
        self.scaled_rows = DenseRows(scaled.to(like.dtype))
        self.rows = DenseRows((mixing @ scaled).to(like.dtype))
        self.row_scale = scale[..., 0].to(like.dtype)
        self._mixing = mixing.to(like.dtype)
        self.rank = _rank(self.is_kept)

    def padded(self, square: Tensor) -> Tensor:
        if isinstance(self.rank, int) and self.rank == self.rows.size:
            return square
        return square + torch.diag_embed((~self.is_kept).to(square))

    @lazy_property
    def gram(self) -> DenseGram:
        return DenseGram.of(self.padded(self.rows.gram_matrix()))

    @property
    def half_log_det(self) -> Tensor:  # type: ignore[override]
        return self.gram.half_log_det

    @lazy_property
    def log_range_volume(self) -> Tensor:
        """That of L and of B, where A = L B."""
        mixed = self.given.dense() @ self.rows.matrix.mT @ self.gram.inverse
        return DenseGram.of(self.padded(mixed.mT @ mixed)).half_log_det + self.half_log_det

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        back = self.scaled_rows.matrix.detach() @ self.rows.matrix.detach().mT
        size = scaled_k.abs() + matvec(back.abs() @ self._mixing.abs(), scaled_k.abs())
        gap = scaled_k - matvec(back, self.reduce(scaled_k))
        eps = torch.finfo(gap.dtype).eps
        # Where the others should add up to zero, what is left are the roundings of all of them.
        return gap.abs() <= eps**0.5 * size + 64 * eps * size.sum(-1, keepdim=True)

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        return scaled_k - self.scaled_rows.sums(value)

    def reduce(self, gap: Tensor) -> Tensor:
        return matvec(self._mixing, gap)

    def full_rank_rows(self) -> DenseRows | None:
        if not isinstance(self.rank, int):
            return None
        return DenseRows(self.rows.matrix[..., : self.rank, :])

    def pivot_columns(self) -> tuple[Tensor, Tensor]:
        """Pivots, then the other variables, and the pivots' columns of the independent rows."""
        order, pivots, _ = self._split
        return order, pivots

    @lazy_property
    def _followers(self) -> tuple[Tensor, Tensor]:
        """Pivots, then the other variables, and F: the pivots of a null vector are -F times its
        other entries."""
        order, pivots, others = self._split
        return order, solve(pivots, others)

    @lazy_property
    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pivots, then the other variables, and the columns of both. The values of A choose the
        pivots.

        Raises:
            ConstraintError: the dimension of the null space is not one known number.
        """
        rows = self.full_rank_rows()
        if rows is None:
            raise ConstraintError(
                "A: expected matrices of one rank whose values are known, for coordinates of "
                "their null spaces, got a batch of different ranks or a map over matrices; use "
                "reparam.auto_reparam, or a concrete A."
            )
        order = pivots_first(rows.matrix.detach())
        matrix = rows.matrix.gather(-1, order[..., None, :].expand(rows.matrix.shape))
        pivots, others = matrix.split([rows.size, rows.num_variables - rows.size], -1)
        return order, pivots, others

    def null_space(self) -> NullSpace:
        order, followers = self._followers
        return PlacedNullSpace(complementary_basis(followers), torch.argsort(order, -1), order)

    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        order, followers = self._followers
        pivots, others = take(scale, order).split(list(followers.shape[-2:]), -1)
        followers = followers * (others[..., None, :] / pivots[..., :, None])
        return PlacedNullSpace(complementary_basis(followers), torch.argsort(order, -1), order)

    def elimination(self) -> tuple[Tensor, Tensor]:
        order, followers = self._followers
        identity = identity_like(followers).expand(order.shape[:-1] + (-1, -1))
        basis = torch.cat([-followers, identity], -2)
        place = torch.argsort(order, -1)[..., None].expand(basis.shape)
        return order[..., followers.shape[-2] :], basis.gather(-2, place)


def _power_of_two_scale(matrix: Tensor) -> Tensor:
    """``(*batch, m, 1)`` factors that bring the lengths of rows into [1, 2); 1 for zero rows."""
    norms = torch.linalg.vector_norm(matrix.detach(), dim=-1, keepdim=True)
    return 1 / power_of_two_below(norms)


def _rank(is_kept: Tensor) -> int | Tensor:
    ranks = is_kept.sum(-1)
    if not are_known(ranks):
        return ranks
    if ranks.numel() == 0:
        return is_kept.shape[-1]
    first = int(ranks.reshape(-1)[0])
    return first if bool((ranks == first).all()) else ranks


def _orthonormalising(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """M ``(*batch, min(m, n), m)`` that makes M R orthonormal, and which of its rows are not zero:
    the first ones."""
    num_rows, num_variables = rows.shape[-2:]
    if num_rows <= num_variables and are_known(rows):
        _, triangle = torch.linalg.qr(rows.mT, mode="r")
        if bool((diagonal(triangle).abs() > SAFE).all()):
            identity = identity_like(triangle).expand(triangle.shape)
            mixing = torch.linalg.solve_triangular(triangle.mT, identity, upper=False)
            return mixing, torch.ones_like(diagonal(triangle), dtype=torch.bool)
    left, values, _ = torch.linalg.svd(rows, full_matrices=False)
    largest = values.amax(-1, keepdim=True) if values.shape[-1] else values
    # What rounding leaves of a row that depends on others: of its entries, and of this work.
    is_kept = values > (8 + max(num_rows, num_variables)) * eps * largest
    inverse = torch.where(is_kept, 1 / torch.where(is_kept, values, 1.0), 0.0)
    return inverse[..., None] * left.mT, is_kept
