"""Orthonormal null-space bases as Householder reflections, never as n x (n - r) matrices.

A reflector H maps r unit vectors onto the span of the rows, so that its other n - r columns N are
an orthonormal basis of their null space. Applying one costs O(n r); O(n) for one row or groups.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.groups import Groups
from numpyro_constrained.kernels.linalg import lift, matvec

__all__ = [
    "BlockNullSpace",
    "DenseNullSpace",
    "GroupNullSpace",
    "NullSpace",
    "SingleNullSpace",
]


class NullSpace(ABC):
    """The columns N of a reflector."""

    @abstractmethod
    def embed(self, coordinates: Array) -> Array:
        """``N coordinates``: ``(..., n - r)`` to ``(..., n)``."""

    @abstractmethod
    def extract(self, vector: Array) -> Array:
        """``N' vector``: ``(..., n)`` to ``(..., n - r)``."""


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


class DenseNullSpace(NullSpace):
    """N as a matrix ``(n, n - r)``, where r is most of n."""

    def __init__(self, basis: Any) -> None:
        self.basis = basis

    def embed(self, coordinates: Array) -> Array:
        return matvec(self.basis, coordinates)

    def extract(self, vector: Array) -> Array:
        return matvec(self.basis.T, vector)


class BlockNullSpace(NullSpace):
    """H = I - Y K Y' with Y ``(*batch, n, r)`` and K ``(*batch, r, r)``."""

    def __init__(self, vectors: Any, kernel: Any) -> None:
        self.vectors, self.kernel = vectors, kernel
        self.rank = kernel.shape[-1]

    @classmethod
    def of(cls, rows: Array) -> "BlockNullSpace":
        """The null space of independent rows ``(*batch, r, n)``, differentiable in them."""
        rank = rows.shape[-2]
        orthonormal, _ = jnp.linalg.qr(rows.mT)
        signs = _reflection_signs(stop_gradient(orthonormal[..., :rank, :]))
        identity = lift(jnp.eye(rows.shape[-1], rank, dtype=rows.dtype), rows.ndim)
        vectors = identity - orthonormal * signs[..., None, :]
        return cls(vectors, jnp.linalg.inv(vectors[..., :rank, :].mT))

    def embed(self, coordinates: Array) -> Array:
        inner = matvec(self.vectors[..., self.rank :, :].mT, coordinates)
        padded = _pad_front(coordinates, self.rank)
        return padded - matvec(self.vectors, matvec(self.kernel, inner))

    def extract(self, vector: Array) -> Array:
        inner = matvec(self.kernel.mT, matvec(self.vectors.mT, vector))
        return vector[..., self.rank :] - matvec(self.vectors[..., self.rank :, :], inner)


def _reflection_signs(top: Array) -> Array:
    """Signs s for which ``I - diag(s) top`` has a stable elimination with pivots >= 1.

    As ``constrained_core.structure.reflection_signs``, for matrices that may be traced.
    """
    later = np.arange(top.shape[-1])

    def eliminate(i, state):
        reduced, signs = state
        row = reduced[..., i, :]
        sign = jnp.where(row[..., i] > 0, -1.0, 1.0).astype(top.dtype)
        row = row.at[..., i].add(-sign)
        factor = reduced[..., :, i] / row[..., i, None]
        factor = jnp.where(lift(later > i, factor.ndim), factor, 0)
        return reduced - factor[..., :, None] * row[..., None, :], signs.at[..., i].set(sign)

    start = top, jnp.ones(top.shape[:-1], top.dtype)
    return jax.lax.fori_loop(0, top.shape[-1], eliminate, start)[1]
