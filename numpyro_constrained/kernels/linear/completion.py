"""Variables that dominate a row, from all others.

What a constraint leaves of a variable whose scale is far above that of the others in its rows is a
small difference of large numbers. It follows without loss from the others: a tangent vector v with
B v = 0 has ``v_p = -F v_f`` for the dominating variables p, the pivots, and the other ones f.
"""

from abc import ABC, abstractmethod
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.linalg import (
    diagonal,
    identity_like,
    lift,
    matmul,
    matvec,
    take,
)
from numpyro_constrained.kernels.linear.rows import DenseRows, DisjointRows
from numpyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = [
    "Completion",
    "DenseCompletion",
    "DisjointCompletion",
    "RankedCompletion",
    "SparseCompletion",
    "factor_by_size",
    "pivots_first",
]


class Completion(ABC):
    """Pivots that follow from the others, for variables of given sizes."""

    @abstractmethod
    def fill(self, tangent: Array) -> Array:
        """A tangent vector ``(*sample, *batch, n)``, with pivots from its other entries."""

    @abstractmethod
    def free_share(self) -> Array:
        """``(*batch, n)`` share of variance that independent variables of these sizes keep."""

    def fill_both(self, covariance: Array) -> Array:
        """A covariance ``(*batch, n, n)`` of tangent vectors, with pivots from the others."""
        rows = jnp.moveaxis(self.fill(jnp.moveaxis(covariance, -2, 0)), 0, -2)
        return jnp.moveaxis(self.fill(jnp.moveaxis(rows, -1, 0)), 0, -1)


class DisjointCompletion(Completion):
    """One variable of each row that has more than half of its variance."""

    def __init__(self, rows: DisjointRows, size: Array) -> None:
        self.rows, self.white = rows, rows.scaled(size)
        self.share = self.white.share()
        self.dominates = stop_gradient(self.share) > 0.5

    def _others(self, vector: Array) -> Array:
        return jnp.where(lift(self.dominates, vector.ndim), 0.0, vector)

    def fill(self, tangent: Array) -> Array:
        dominates = lift(self.dominates, tangent.ndim)
        weights = jnp.where(dominates, lift(self.rows.weights, tangent.ndim), 1.0)
        total = self.rows.members(self.rows.apply(self._others(tangent)))
        return jnp.where(dominates, -total / weights, tangent)

    def free_share(self) -> Array:
        squares = jnp.square(self.white.weights)
        total, others = (
            self.white.members(self.white.totals(part)) for part in (squares, self._others(squares))
        )
        total = jnp.where(self.dominates, total, 1.0)
        return jnp.where(self.dominates, others / total, 1 - self.share)


class SparseCompletion(Completion):
    """No variable is filled in: what is left of each is an entry of an inverse, no difference."""

    def __init__(self, rows: SparseRows, size: Array) -> None:
        self.rows, self.size = rows, size

    def fill(self, tangent: Array) -> Array:
        return tangent

    def free_share(self) -> Array:
        return self.rows.scaled(self.size).gram().free_share()


class DenseCompletion(Completion):
    """Pivots of a factorisation of ``B diag(size)``, for which F is of modest size.

    Args:
        rows: B, of full rank.
        size: ``(*batch, n)``.
    """

    def __init__(self, rows: DenseRows, size: Array) -> None:
        self.rank, self.size = rows.size, size
        self.order, self.place, self.followers = _followers(rows.scaled(size).dense(), self.rank)

    def fill(self, tangent: Array) -> Array:
        size = lift(self.size, tangent.ndim)
        others = take(tangent / size, self.order)[..., self.rank :]
        white = jnp.concatenate([-matvec(self.followers, others), others], -1)
        return size * take(white, self.place)

    def free_share(self) -> Array:
        return take(jnp.concatenate(_shares(self.followers), -1), self.place)


class RankedCompletion(Completion):
    """The same where the number of independent rows is not known: the other rows, the last ones,
    are zero. What stands in the places of their pivots are variables like all others.

    Args:
        rows: ``(*batch, m, n)`` B.
        is_kept: ``(*batch, m)`` which rows are not zero.
        size: ``(*batch, n)``.
    """

    def __init__(self, rows: DenseRows, is_kept: Array, size: Array) -> None:
        self.size, self.num_rows = size, rows.size
        white = rows.scaled(size).dense()
        self.is_kept = lift(is_kept, white.ndim - 1)
        self.order = pivots_first(stop_gradient(white))
        self.place = jnp.argsort(self.order, -1)
        white = take(white, self.order[..., None, :])
        first, is_pivot = white[..., : self.num_rows], self.is_kept[..., None, :]
        pivots = jnp.where(is_pivot, first, identity_like(first))
        others = [jnp.where(is_pivot, 0.0, first), white[..., self.num_rows :]]
        self.followers = jnp.linalg.solve(pivots, jnp.concatenate(others, -1))

    def fill(self, tangent: Array) -> Array:
        size = lift(self.size, tangent.ndim)
        white = take(tangent / size, self.order)
        first, rest = white[..., : self.num_rows], white[..., self.num_rows :]
        is_pivot = lift(self.is_kept, first.ndim)
        others = jnp.concatenate([jnp.where(is_pivot, 0.0, first), rest], -1)
        first = jnp.where(is_pivot, -matvec(self.followers, others), first)
        return size * take(jnp.concatenate([first, rest], -1), self.place)

    def free_share(self) -> Array:
        left, others = _shares(self.followers)
        first = jnp.where(self.is_kept, left, others[..., : self.num_rows])
        return take(jnp.concatenate([first, others[..., self.num_rows :]], -1), self.place)


@partial(as_one, static_argnums=(1,))
def _followers(white: Array, rank: int) -> tuple[Array, Array, Array]:
    """The variables, pivots first; the place of each; and F, for ``(*batch, r, n)`` rows."""
    order = pivots_first(stop_gradient(white))
    white = take(white, order[..., None, :])
    return order, jnp.argsort(order, -1), jnp.linalg.solve(white[..., :rank], white[..., rank:])


@as_one
def _shares(followers: Array) -> tuple[Array, Array]:
    """Shares of variance that are left of pivots, and of the variables that they follow."""
    squares = matmul(followers, followers.mT)
    inverse = jnp.linalg.inv(identity_like(squares) + squares)
    explained = (followers * matmul(inverse, followers)).sum(-2)
    return diagonal(matmul(inverse, squares)), 1 - explained


def factor_by_size(rows: Array) -> tuple[Array, Array]:
    """Elimination of the adjoint of ``(*batch, r, n)`` rows with partial pivoting.

    Returns:
        The packed triangles, and ``(*batch, n)`` the variables, those first whose columns are
        large and independent.
    """
    packed, _, order = jax.lax.linalg.lu(rows.mT)
    return packed, order


def pivots_first(rows: Array) -> Array:
    """``(*batch, n)`` the variables, those first whose columns of ``(*batch, r, n)`` rows are large
    and independent."""
    return factor_by_size(rows)[1]
