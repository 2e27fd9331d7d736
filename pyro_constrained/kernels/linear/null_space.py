"""Orthonormal null-space bases as Householder reflections, never as n x (n - r) matrices.

A reflector H maps r unit vectors onto the span of the rows, so that its other n - r columns N are
an orthonormal basis of their null space. Applying one costs O(n r); O(n) for one row or groups.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.linalg import matvec, positive_qr, take

__all__ = [
    "BlockNullSpace",
    "DenseNullSpace",
    "GroupNullSpace",
    "NullSpace",
    "PlacedNullSpace",
    "SingleNullSpace",
    "complementary_basis",
]


class NullSpace(ABC):
    """The columns N of a reflector."""

    @abstractmethod
    def embed(self, coordinates: Tensor) -> Tensor:
        """``N coordinates``: ``(..., n - r)`` to ``(..., n)``."""

    @abstractmethod
    def extract(self, vector: Tensor) -> Tensor:
        """``N' vector``: ``(..., n)`` to ``(..., n - r)``."""


# With the sign of the first entry nothing cancels. It is the sign of a weight of A, which a
# positive scale cannot flip, so that bases move smoothly with scales.
def _reflection_vector(unit: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """First entry of ``unit + sign(first) e`` and the factor ``2 / norm^2``, for a unit vector."""
    sign = torch.where(first >= 0, 1.0, -1.0).to(first)
    return first + sign, 1 / (1 + first.abs())


class SingleNullSpace(NullSpace):
    """One row of weights ``(*batch, n)``; the first variable is the reflected one."""

    def __init__(self, weights: Tensor) -> None:
        unit = weights / torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
        first, self.factor = _reflection_vector(unit, unit[..., :1])
        self.vector = torch.cat([first, unit[..., 1:]], -1)

    def embed(self, coordinates: Tensor) -> Tensor:
        inner = (self.vector[..., 1:] * coordinates).sum(-1, keepdim=True)
        return pad(coordinates, (1, 0)) - self.vector * (self.factor * inner)

    def extract(self, vector: Tensor) -> Tensor:
        inner = (self.vector * vector).sum(-1, keepdim=True)
        return vector[..., 1:] - self.vector[..., 1:] * (self.factor * inner)


class GroupNullSpace(NullSpace):
    """One reflection per group, of weights ``(*batch, n)``."""

    def __init__(self, groups: Groups, pivots: Tensor, free: Tensor, weights: Tensor) -> None:
        self.groups, self.pivots, self.free = groups, pivots, free
        unit = weights / groups.members(groups.totals(weights * weights).sqrt())
        first, self.factor = _reflection_vector(unit, unit.index_select(-1, pivots))
        self.vector = unit.index_copy(-1, pivots, first)

    def _reflect(self, vector: Tensor) -> Tensor:
        inner = self.factor * self.groups.totals(self.vector * vector)
        return vector - self.vector * self.groups.members(inner)

    def embed(self, coordinates: Tensor) -> Tensor:
        padded = coordinates.new_zeros(coordinates.shape[:-1] + self.groups.index.shape)
        return self._reflect(padded.index_copy(-1, self.free, coordinates))

    def extract(self, vector: Tensor) -> Tensor:
        return self._reflect(vector).index_select(-1, self.free)


class PlacedNullSpace(NullSpace):
    """A basis for the variables in the order of pivots, then the others.

    Args:
        place: ``(*batch, n)`` the place of every variable in that order.
        order: ``(*batch, n)`` its inverse, the variable at every place.
    """

    def __init__(self, basis: NullSpace, place: Tensor, order: Tensor) -> None:
        self.basis, self.place, self.order = basis, place, order

    def embed(self, coordinates: Tensor) -> Tensor:
        return take(self.basis.embed(coordinates), self.place)

    def extract(self, vector: Tensor) -> Tensor:
        return self.basis.extract(take(vector, self.order))


def complementary_basis(followers: Tensor) -> NullSpace:
    """An orthonormal basis of ``{(p, f): p = -F f}``, for followers F ``(*batch, r, n - r)``.

    It is continuous in F: the triangles of the factorisations have a positive diagonal.
    """
    rank, free_size = followers.shape[-2:]
    batch = followers.shape[:-2]
    if free_size < rank:
        identity = torch.eye(free_size, dtype=followers.dtype, device=followers.device)
        identity = identity.expand(*batch, free_size, free_size)
        return DenseNullSpace(positive_qr(torch.cat([-followers, identity], -2)))
    identity = torch.eye(rank, dtype=followers.dtype, device=followers.device)
    spanning = torch.cat([identity.expand(*batch, rank, rank), followers.mT], -2)
    vectors = positive_qr(spanning) + torch.eye(
        rank + free_size, rank, dtype=followers.dtype, device=followers.device
    )
    return BlockNullSpace(vectors, torch.linalg.inv(vectors[..., :rank, :].mT))


class DenseNullSpace(NullSpace):
    """N as a matrix ``(*batch, n, n - r)``, where r is most of n."""

    def __init__(self, basis: Tensor) -> None:
        self.basis = basis

    def embed(self, coordinates: Tensor) -> Tensor:
        return matvec(self.basis, coordinates)

    def extract(self, vector: Tensor) -> Tensor:
        return matvec(self.basis.mT, vector)


class BlockNullSpace(NullSpace):
    """The last columns of H = I - Y K Y' with Y ``(*batch, n, r)`` and K ``(*batch, r, r)``."""

    def __init__(self, vectors: Tensor, kernel: Tensor) -> None:
        self.vectors, self.kernel = vectors, kernel
        self.rank = kernel.shape[-1]

    def embed(self, coordinates: Tensor) -> Tensor:
        inner = matvec(self.vectors[..., self.rank :, :].mT, coordinates)
        return pad(coordinates, (self.rank, 0)) - matvec(self.vectors, matvec(self.kernel, inner))

    def extract(self, vector: Tensor) -> Tensor:
        inner = matvec(self.kernel.mT, matvec(self.vectors.mT, vector))
        return vector[..., self.rank :] - matvec(self.vectors[..., self.rank :, :], inner)
