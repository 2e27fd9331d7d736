"""Variables that dominate a row, from all others.

What a constraint leaves of a variable whose scale is far above that of the others in its rows is a
small difference of large numbers. It follows without loss from the others: a tangent vector v with
B v = 0 has ``v_p = -F v_f`` for the dominating variables p, the pivots, and the other ones f.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.linalg import diagonal, identity_like, matvec, solve, take
from pyro_constrained.kernels.linear.rows import DenseRows, DisjointRows
from pyro_constrained.kernels.linear.sparse_rows import SparseRows

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
    def fill(self, tangent: Tensor) -> Tensor:
        """A tangent vector ``(*sample, *batch, n)``, with pivots from its other entries."""

    @abstractmethod
    def free_share(self) -> Tensor:
        """``(*batch, n)`` share of variance that independent variables of these sizes keep."""

    def fill_both(self, covariance: Tensor) -> Tensor:
        """A covariance ``(*batch, n, n)`` of tangent vectors, with pivots from the others."""
        rows = self.fill(covariance.movedim(-2, 0)).movedim(0, -2)
        return self.fill(rows.movedim(-1, 0)).movedim(0, -1)


class DisjointCompletion(Completion):
    """One variable of each row that has more than half of its variance."""

    def __init__(self, rows: DisjointRows, size: Tensor) -> None:
        self.rows, self.white = rows, rows.scaled(size)
        share = self.white.share()
        self.dominates = share.detach() > 0.5

    def _others(self, vector: Tensor) -> Tensor:
        return vector.masked_fill(self.dominates, 0.0)

    def fill(self, tangent: Tensor) -> Tensor:
        weights = self.rows.weights
        total = self.rows.members(self.rows.apply(self._others(tangent)))
        return torch.where(
            self.dominates, -total / torch.where(self.dominates, weights, 1.0), tangent
        )

    def free_share(self) -> Tensor:
        left = self._others(self.white.weights.square())
        total = self.white.members(self.white.totals(self.white.weights.square()))
        others = self.white.members(self.white.totals(left))
        return torch.where(self.dominates, others / total, 1 - self.white.share())


class SparseCompletion(Completion):
    """No variable is filled in: what is solved for with the saddle-point matrix keeps the small
    ones."""

    def __init__(self, rows: SparseRows, size: Tensor) -> None:
        self.white, self._size = rows.scaled(size), size

    def fill(self, tangent: Tensor) -> Tensor:
        return tangent

    def free_share(self) -> Tensor:
        return self.white.gram().free_share().to(self._size)


class DenseCompletion(Completion):
    """Pivots of a factorisation of ``B diag(size)``, for which F is of modest size.

    Args:
        rows: B, of full rank.
        size: ``(*batch, n)``.
    """

    def __init__(self, rows: DenseRows, size: Tensor) -> None:
        self.rank, self.size = rows.size, size
        white = rows.scaled(size).dense()
        self.order = pivots_first(white.detach())
        self.place = torch.argsort(self.order, -1)
        white = white.gather(-1, self.order[..., None, :].expand(white.shape))
        pivots, others = white.split([self.rank, white.shape[-1] - self.rank], -1)
        self.followers = solve(pivots, others)

    def fill(self, tangent: Tensor) -> Tensor:
        white = take(tangent / self.size, self.order)
        pivots = -matvec(self.followers, white[..., self.rank :])
        return self.size * take(torch.cat([pivots, white[..., self.rank :]], -1), self.place)

    def free_share(self) -> Tensor:
        return take(torch.cat(_shares(self.followers), -1), self.place)


class RankedCompletion(Completion):
    """The same where the number of independent rows differs in a batch: the other rows, the last
    ones, are zero. What stands in the places of their pivots are variables like all others.

    Args:
        rows: ``(*batch, m, n)`` B.
        is_kept: ``(*batch, m)`` which rows are not zero.
        size: ``(*batch, n)``.
    """

    def __init__(self, rows: DenseRows, is_kept: Tensor, size: Tensor) -> None:
        self.size, self.is_kept = size, is_kept
        white = rows.scaled(size).dense()
        self.order = pivots_first(white.detach())
        self.place = torch.argsort(self.order, -1)
        white = white.gather(-1, self.order[..., None, :].expand(white.shape))
        first, rest = self._split(white)
        is_pivot = is_kept[..., None, :]
        pivots = torch.where(is_pivot, first, identity_like(first))
        others = torch.cat([first.masked_fill(is_pivot, 0.0), rest], -1)
        self.followers = solve(pivots, others)

    def _split(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        num_rows = self.is_kept.shape[-1]
        return vector[..., :num_rows], vector[..., num_rows:]

    def fill(self, tangent: Tensor) -> Tensor:
        first, rest = self._split(take(tangent / self.size, self.order))
        others = torch.cat([first.masked_fill(self.is_kept, 0.0), rest], -1)
        first = torch.where(self.is_kept, -matvec(self.followers, others), first)
        return self.size * take(torch.cat([first, rest], -1), self.place)

    def free_share(self) -> Tensor:
        left, others = _shares(self.followers)
        first, rest = self._split(others)
        return take(torch.cat([torch.where(self.is_kept, left, first), rest], -1), self.place)


def _shares(followers: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of variance that are left of pivots, and of the variables that they follow."""
    squares = followers @ followers.mT
    inverse = torch.linalg.inv(identity_like(squares) + squares)
    explained = (followers * (inverse @ followers)).sum(-2)
    return diagonal(inverse @ squares), 1 - explained


def factor_by_size(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Elimination of the adjoint of ``(*batch, r, n)`` rows with partial pivoting.

    Returns:
        The packed triangles, and ``(*batch, n)`` the variables, those first whose columns are
        large and independent.
    """
    packed, swaps, _ = torch.linalg.lu_factor_ex(rows.mT)
    swaps = swaps.long() - 1
    order = torch.arange(rows.shape[-1], device=rows.device).expand(swaps.shape[:-1] + (-1,))
    for place in range(swaps.shape[-1]):  # LAPACK tells row exchanges, one after another
        other = swaps[..., place : place + 1]
        here, there = order[..., place : place + 1], order.gather(-1, other)
        order = order.scatter(-1, other, here).slice_scatter(there, -1, place, place + 1)
    return packed, order


def pivots_first(rows: Tensor) -> Tensor:
    """``(*batch, n)`` the variables, those first whose columns of ``(*batch, r, n)`` rows are large
    and independent."""
    return factor_by_size(rows)[1]
