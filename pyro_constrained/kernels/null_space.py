"""Orthonormal null-space bases as Householder reflections, never as n x (n - r) matrices.

A reflector H maps r unit vectors onto the span of the rows, so that its other n - r columns N are
an orthonormal basis of their null space. Applying one costs O(n r); O(n) for one row or groups.
"""

from abc import ABC, abstractmethod

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.structure import reflection_signs
from pyro_constrained.kernels.groups import Groups
from pyro_constrained.kernels.linalg import matvec

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
    def embed(self, coordinates: Tensor) -> Tensor:
        """``N coordinates``: ``(..., n - r)`` to ``(..., n)``."""

    @abstractmethod
    def extract(self, vector: Tensor) -> Tensor:
        """``N' vector``: ``(..., n)`` to ``(..., n - r)``."""


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


class DenseNullSpace(NullSpace):
    """N as a matrix ``(n, n - r)``, where r is most of n."""

    def __init__(self, basis: Tensor) -> None:
        self.basis = basis

    def embed(self, coordinates: Tensor) -> Tensor:
        return matvec(self.basis, coordinates)

    def extract(self, vector: Tensor) -> Tensor:
        return matvec(self.basis.T, vector)


class BlockNullSpace(NullSpace):
    """H = I - Y K Y' with Y ``(*batch, n, r)`` and K ``(*batch, r, r)``."""

    def __init__(self, vectors: Tensor, kernel: Tensor) -> None:
        self.vectors, self.kernel = vectors, kernel
        self.rank = kernel.shape[-1]

    @classmethod
    @ignore_jit_warnings()
    def of(cls, rows: Tensor) -> "BlockNullSpace":
        """The null space of independent rows ``(*batch, r, n)``, differentiable in them."""
        rank = rows.shape[-2]
        orthonormal, _ = torch.linalg.qr(rows.mT)
        top = orthonormal[..., :rank, :].detach().cpu().numpy()
        signs = torch.as_tensor(reflection_signs(top)).to(rows)
        identity = torch.eye(rows.shape[-1], rank, dtype=rows.dtype, device=rows.device)
        vectors = identity - orthonormal * signs[..., None, :]
        return cls(vectors, torch.linalg.inv(vectors[..., :rank, :].mT))

    def embed(self, coordinates: Tensor) -> Tensor:
        inner = matvec(self.vectors[..., self.rank :, :].mT, coordinates)
        return pad(coordinates, (self.rank, 0)) - matvec(self.vectors, matvec(self.kernel, inner))

    def extract(self, vector: Tensor) -> Tensor:
        inner = matvec(self.kernel.mT, matvec(self.vectors.mT, vector))
        return vector[..., self.rank :] - matvec(self.vectors[..., self.rank :, :], inner)
