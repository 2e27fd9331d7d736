"""Orthonormal null-space bases as Householder reflections, never as n x (n - r) matrices.

A reflector H maps r unit vectors onto the span of the rows, so that its other n - r columns N are
an orthonormal basis of their null space. Applying one costs O(n r); O(n) for one row or groups.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained.kernels.arrays.groups import Groups
from numpyro_constrained.kernels.arrays.linalg import lift, matvec, positive_qr, take

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
    def embed(self, coordinates: Array) -> Array:
        """``N coordinates``: ``(..., n - r)`` to ``(..., n)``."""

    @abstractmethod
    def extract(self, vector: Array) -> Array:
        """``N' vector``: ``(..., n)`` to ``(..., n - r)``."""


# With the sign of the first entry nothing cancels. It is the sign of a weight of A, which a
# positive scale cannot flip, so that bases move smoothly with scales.
def _reflection_vector(unit: Array, first: Array) -> tuple[Array, Array]:
    """First entry of ``unit + sign(first) e`` and the factor ``2 / norm^2``, for a unit vector."""
    sign = jnp.where(first >= 0, 1.0, -1.0).astype(first.dtype)
    return first + sign, 1 / (1 + jnp.abs(first))


def _pad_front(vector: Array, size: int) -> Array:
    return jnp.concatenate([jnp.zeros(vector.shape[:-1] + (size,), vector.dtype), vector], -1)


class SingleNullSpace(NullSpace):
    """One row of weights ``(*batch, n)``; the first variable is the reflected one."""

    def __init__(self, weights: Array) -> None:
        unit = weights / jnp.linalg.vector_norm(weights, axis=-1, keepdims=True)
        first, self.factor = _reflection_vector(unit, unit[..., :1])
        self.vector = jnp.concatenate([first, unit[..., 1:]], -1)

    def embed(self, coordinates: Array) -> Array:
        vector, factor = (lift(part, coordinates.ndim) for part in (self.vector, self.factor))
        inner = (vector[..., 1:] * coordinates).sum(-1, keepdims=True)
        return _pad_front(coordinates, 1) - vector * (factor * inner)

    def extract(self, vector: Array) -> Array:
        normal, factor = (lift(part, vector.ndim) for part in (self.vector, self.factor))
        inner = (normal * vector).sum(-1, keepdims=True)
        return vector[..., 1:] - normal[..., 1:] * (factor * inner)


class GroupNullSpace(NullSpace):
    """One reflection per group, of weights ``(*batch, n)``."""

    def __init__(
        self, groups: Groups, pivots: np.ndarray, free: np.ndarray, weights: Array
    ) -> None:
        self.groups, self.pivots, self.free = groups, pivots, free
        unit = weights / groups.members(jnp.sqrt(groups.totals(weights * weights)))
        first, self.factor = _reflection_vector(unit, unit[..., pivots])
        self.vector = unit.at[..., pivots].set(first)

    def _reflect(self, vector: Array) -> Array:
        normal, factor = (lift(part, vector.ndim) for part in (self.vector, self.factor))
        inner = factor * self.groups.totals(normal * vector)
        return vector - normal * self.groups.members(inner)

    def embed(self, coordinates: Array) -> Array:
        padded = jnp.zeros(coordinates.shape[:-1] + self.groups.index.shape, coordinates.dtype)
        return self._reflect(padded.at[..., self.free].set(coordinates))

    def extract(self, vector: Array) -> Array:
        return self._reflect(vector)[..., self.free]


class PlacedNullSpace(NullSpace):
    """A basis for the variables in the order of pivots, then the others.

    Args:
        place: ``(*batch, n)`` the place of every variable in that order.
        order: ``(*batch, n)`` its inverse, the variable at every place.
    """

    def __init__(self, basis: NullSpace, place: Any, order: Any) -> None:
        self.basis, self.place, self.order = basis, place, order

    def embed(self, coordinates: Array) -> Array:
        return take(self.basis.embed(coordinates), self.place)

    def extract(self, vector: Array) -> Array:
        return self.basis.extract(take(vector, self.order))


def complementary_basis(followers: Array) -> NullSpace:
    """An orthonormal basis of ``{(p, f): p = -F f}``, for followers F ``(*batch, r, n - r)``.

    It is continuous in F: the triangles of the factorisations have a positive diagonal.
    """
    rank, free_size = followers.shape[-2:]
    batch, dtype = followers.shape[:-2], followers.dtype
    if free_size < rank:
        identity = jnp.broadcast_to(jnp.eye(free_size, dtype=dtype), (*batch, free_size, free_size))
        return DenseNullSpace(positive_qr(jnp.concatenate([-followers, identity], -2)))
    identity = jnp.broadcast_to(jnp.eye(rank, dtype=dtype), (*batch, rank, rank))
    spanning = jnp.concatenate([identity, followers.mT], -2)
    vectors = positive_qr(spanning) + lift(
        jnp.eye(rank + free_size, rank, dtype=dtype), spanning.ndim
    )
    return BlockNullSpace(vectors, jnp.linalg.inv(vectors[..., :rank, :].mT))


class DenseNullSpace(NullSpace):
    """N as a matrix ``(*batch, n, n - r)``, where r is most of n."""

    def __init__(self, basis: Any) -> None:
        self.basis = basis

    def embed(self, coordinates: Array) -> Array:
        return matvec(self.basis, coordinates)

    def extract(self, vector: Array) -> Array:
        return matvec(self.basis.mT, vector)


class BlockNullSpace(NullSpace):
    """The last columns of H = I - Y K Y' with Y ``(*batch, n, r)`` and K ``(*batch, r, r)``."""

    def __init__(self, vectors: Any, kernel: Any) -> None:
        self.vectors, self.kernel = vectors, kernel
        self.rank = kernel.shape[-1]

    def embed(self, coordinates: Array) -> Array:
        inner = matvec(self.vectors[..., self.rank :, :].mT, coordinates)
        moved = matvec(self.vectors, matvec(self.kernel, inner))
        return lift(_pad_front(coordinates, self.rank), moved.ndim) - moved

    def extract(self, vector: Array) -> Array:
        inner = matvec(self.kernel.mT, matvec(self.vectors.mT, vector))
        moved = matvec(self.vectors[..., self.rank :, :], inner)
        return lift(vector, moved.ndim)[..., self.rank :] - moved
