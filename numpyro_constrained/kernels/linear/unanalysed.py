"""Matrices that no plan was made of: a batch, or one that is traced."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.errors import ConstraintError
from numpyro_constrained.kernels.arrays.leaves import Layout
from numpyro_constrained.kernels.arrays.linalg import (
    diagonal,
    identity_like,
    lift,
    matmul,
    matvec,
    power_of_two_below,
    solve_lower_matrix,
    take,
)
from numpyro_constrained.kernels.linear.completion import pivots_first
from numpyro_constrained.kernels.linear.gram import DenseGram, DiagonalGram, within_range
from numpyro_constrained.kernels.linear.matrix import BoundMatrix, exact_gap
from numpyro_constrained.kernels.linear.null_space import (
    NullSpace,
    PlacedNullSpace,
    complementary_basis,
)
from numpyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, SingleRow

__all__ = ["UnanalysedMatrix", "UnanalysedRow"]


class UnanalysedRow(BoundMatrix):
    """One row ``(*batch, n)``; B is R. A row of zeros constrains nothing."""

    is_kept: Array
    rows: SingleRow
    num_rows = 1

    def __init__(self, A: Array, layout: Layout) -> None:
        self._layout, scale = layout, _power_of_two_scale(A)
        self.given, self.rows, self.row_scale = SingleRow(A), SingleRow(A * scale), scale
        self.scaled_rows = self.rows
        self.is_kept = stop_gradient(A != 0).any(-1, keepdims=True)
        self.rank = _rank(self.is_kept)
        self.half_log_det = self.gram.half_log_det
        self.log_range_volume = self.half_log_det - jnp.log(scale)[..., 0]

    def padded(self, square: Array) -> Array:
        return square + _missing(self.is_kept, square[..., 0])[..., None]

    def disjoint_gram(self, rows: DisjointRows) -> DiagonalGram:
        lengths = rows.squared_lengths()
        return DiagonalGram(within_range(lengths + _missing(self.is_kept, lengths)))

    def agrees(self, k: Array, scaled_k: Array) -> Array:
        is_zero = k == 0
        return lift(self.is_kept, is_zero.ndim) | lift(is_zero, self.is_kept.ndim)

    def gap(self, scaled_k: Array, value: Array) -> Array:
        return lift(scaled_k, value.ndim) - self.rows.sums(value)

    def reduce(self, gap: Array) -> Array:
        return gap

    @property
    def gram(self) -> DiagonalGram:  # type: ignore[override]
        return self.disjoint_gram(self.rows)

    def null_space(self) -> NullSpace:
        _require_reference(self.rows.weights, self._layout.rank)
        return self.rows.null_space()

    def scaled_null_space(self, scale: Array) -> NullSpace:
        return self.rows.scaled(scale).null_space()

    def elimination(self) -> tuple[Any, Any]:
        weights = self.rows.weights
        size = weights.shape[-1]
        identity: Any = np.eye(size, dtype=weights.dtype)[1:, 1:]
        followers = (weights[..., 1:] / weights[..., :1])[..., None, :]
        identity = jnp.broadcast_to(identity, (*followers.shape[:-2], size - 1, size - 1))
        return np.arange(1, size, dtype=np.int32), jnp.concatenate([-followers, identity], -2)


class UnanalysedMatrix(BoundMatrix):
    """B = M R for all rows R of A, scaled, with a constant M that makes B orthonormal here.

    Nothing that the row space determines depends on M, so that derivatives need not know how it
    was found. Where rows are redundant, the last rows of B are zero.

    Args:
        A: ``(*batch, m, n)``.
        layout: what was known of A where it was given.
    """

    is_kept: Array
    rows: DenseRows
    scaled_rows: DenseRows

    def __init__(self, A: Array, layout: Layout) -> None:
        self.num_rows, self.given = A.shape[-2], DenseRows(A)
        scale = _power_of_two_scale(A)
        scaled = A * scale
        self._mixing, self.is_kept = _orthonormalising(stop_gradient(scaled))
        self.scaled_rows, self.rows = DenseRows(scaled), DenseRows(matmul(self._mixing, scaled))
        self.row_scale = scale[..., 0]
        self.rank, self._layout = _rank(self.is_kept), layout

    def padded(self, square: Array) -> Array:
        if isinstance(self.rank, int) and self.rank == self.rows.size:
            return square
        return square + _missing(self.is_kept, square[..., 0])[..., None] * identity_like(square)

    @property
    def gram(self) -> DenseGram:  # type: ignore[override]
        return DenseGram.of(self.padded(self.rows.gram_matrix()))

    @property
    def half_log_det(self) -> Array:
        return self.gram.half_log_det

    @property
    def log_range_volume(self) -> Array:
        """That of L and of B, where A = L B."""
        mixed = matmul(matmul(self.given.dense(), self.rows.matrix.mT), self.gram.inverse)
        gram = DenseGram.of(self.padded(matmul(mixed.mT, mixed)))
        return gram.half_log_det + self.half_log_det

    def agrees(self, k: Array, scaled_k: Array) -> Array:
        back = stop_gradient(matmul(self.scaled_rows.matrix, self.rows.matrix.mT))
        size = matvec(matmul(jnp.abs(back), jnp.abs(self._mixing)), jnp.abs(scaled_k))
        gap = scaled_k - matvec(back, self.reduce(scaled_k))
        eps = float(jnp.finfo(gap.dtype).eps)
        # Where the others should add up to zero, what is left are the roundings of all of them.
        rounding = 64 * eps * size.sum(-1, keepdims=True)
        return jnp.abs(gap) <= eps**0.5 * (jnp.abs(scaled_k) + size) + rounding

    def gap(self, scaled_k: Array, value: Array) -> Array:
        return exact_gap(self.scaled_rows, scaled_k, value, self._layout.exact_bits)

    def reduce(self, gap: Array) -> Array:
        return matvec(self._mixing, gap)

    def full_rank_rows(self) -> DenseRows | None:
        rank = self.rank if isinstance(self.rank, int) else self._layout.rank
        return None if rank is None else DenseRows(self.rows.matrix[..., :rank, :])

    def _followers(self) -> tuple[Any, Array]:
        """Pivots, then the other variables, and F: the pivots of a null vector are -F times its
        other entries. The pivots are those of the values that A was given with.

        Raises:
            ConstraintError: A had no values when it was given.
        """
        rows = self.full_rank_rows()
        _require_reference(self.is_kept, self._layout.pivots)
        if rows is None:
            raise ConstraintError(
                "A: expected matrices of one rank, for coordinates of their null spaces, got a "
                "batch of different ranks; use reparam.auto_reparam for the site."
            )
        order: Any
        if self._layout.pivots is None:
            order = pivots_first(rows.matrix)
        else:
            pivots = np.asarray(self._layout.pivots, np.int32)
            free = np.setdiff1d(np.arange(rows.num_variables, dtype=np.int32), pivots)
            order = np.concatenate([pivots, free])
        moved = take(rows.matrix, order if order.ndim == 1 else order[..., None, :])
        return order, jnp.linalg.solve(moved[..., : rows.size], moved[..., rows.size :])

    def null_space(self) -> NullSpace:
        order, followers = self._followers()
        return PlacedNullSpace(complementary_basis(followers), jnp.argsort(order, -1), order)

    def scaled_null_space(self, scale: Array) -> NullSpace:
        order, followers = self._followers()
        moved, size = take(scale, order), followers.shape[-2]
        ratio = moved[..., None, size:] / moved[..., :size, None]
        basis = complementary_basis(lift(followers, ratio.ndim) * ratio)
        return PlacedNullSpace(basis, jnp.argsort(order, -1), order)

    def elimination(self) -> tuple[Any, Any]:
        order, followers = self._followers()
        rank, free_size = followers.shape[-2:]
        identity = jnp.eye(free_size, dtype=followers.dtype)
        identity = jnp.broadcast_to(identity, (*followers.shape[:-2], free_size, free_size))
        basis = jnp.concatenate([-followers, identity], -2)
        place = jnp.argsort(order, -1)
        moved = jnp.swapaxes(
            take(basis.mT, place if place.ndim == 1 else place[..., None, :]), -1, -2
        )
        return order[..., rank:], moved


def _missing(is_kept: Array, like: Array) -> Array:
    """Ones where rows are zero, with the dimensions of ``like``."""
    return lift(~is_kept, like.ndim).astype(like.dtype)


def _require_reference(traced: Array, reference: Any) -> None:
    if reference is None and isinstance(traced, Tracer):
        raise ConstraintError(
            "A: expected a matrix with known values, for coordinates of its null space, got one "
            "that is sampled, learned or mapped over inside a trace: no coordinates are continuous "
            "in it; use reparam.auto_reparam for the site, or give A as a NumPy array."
        )


def _power_of_two_scale(matrix: Array) -> Array:
    """``(*batch, m, 1)`` factors that bring the lengths of rows into [1, 2); 1 for zero rows."""
    norms = jnp.linalg.vector_norm(stop_gradient(matrix), axis=-1, keepdims=True)
    return 1 / power_of_two_below(norms)


def _rank(is_kept: Array) -> int | Array:
    ranks = is_kept.sum(-1)
    if isinstance(ranks, Tracer):
        return ranks
    known = np.unique(np.asarray(ranks))
    if known.size == 1:
        return int(known[0])
    return ranks if known.size else is_kept.shape[-1]


def _orthonormalising(rows: Array) -> tuple[Array, Array]:
    """M ``(*batch, min(m, n), m)`` that makes M R orthonormal, and which of its rows are not zero:
    the first ones. By a factorisation whose pivots reveal the rank."""
    num_rows, num_variables = rows.shape[-2:]
    size = min(num_rows, num_variables)
    _, triangle, order = jax.lax.linalg.qr(rows.mT, pivoting=True, full_matrices=False)
    triangle, pivots = triangle[..., :size], jnp.abs(diagonal(triangle[..., :size]))
    # What rounding leaves of a row that depends on others: of its entries, and of this work.
    rounding = (8 + max(num_rows, num_variables)) * float(jnp.finfo(rows.dtype).eps)
    is_kept = pivots > rounding * jnp.maximum(pivots[..., :1], 1.0)
    pair = is_kept[..., :, None] & is_kept[..., None, :]
    square = jnp.where(pair, triangle, identity_like(triangle))
    identity = jnp.broadcast_to(identity_like(square), square.shape)
    inverse = jnp.where(is_kept[..., None], solve_lower_matrix(square.mT, identity), 0.0)
    chosen = jax.nn.one_hot(order[..., :size], num_rows, dtype=rows.dtype)
    return matmul(inverse * is_kept[..., None, :].astype(rows.dtype), chosen), is_kept
