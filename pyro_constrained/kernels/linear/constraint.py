"""The constraint ``A x = k``, bound to tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from constrained_core import GroupSum
from constrained_core.sparse import SparseMatrix
from pyro_constrained.kernels.arrays.compiled import while_current
from pyro_constrained.kernels.arrays.in_place import Unchanged, detached
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.arrays.tracing import constant
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.null_space import NullSpace

__all__ = ["LinearConstraint", "default_tolerance"]


MANY = 2**14
"""Variables from which a look at a result costs less than a pass over A."""


def default_tolerance(dtype: torch.dtype) -> float:
    """Relative tolerance of support checks: 1e-6 in float64, 1e-4 in float32."""
    return 1e-6 if dtype == torch.float64 else 1e-4


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearConstraint:
    """``A x = k`` in the dtype and on the device of a law.

    Attributes:
        A, k: as given, as tensors (A may be a ``GroupSum``, or a ``SparseMatrix`` of a tensor).
        matrix: what A alone says.
        scaled_k: ``(*batch, r)`` right-hand sides of the scaled rows.
        is_fixed: whether A is the same whenever the law is made again, so that coordinates of its
            null space mean the same.
        made_of: A and k, as they are.
        is_current: in a compiled step, whether A still has the values that were planned.
    """

    A: Tensor | GroupSum | SparseMatrix
    k: Tensor
    matrix: BoundMatrix
    scaled_k: Tensor
    is_fixed: bool
    made_of: Unchanged
    is_current: Tensor | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, see ``detached``."""
        parts = {name: detached(state[name]) for name in ("A", "k")}
        made_of = Unchanged(parts).without_gradient()
        self.__dict__.update(state | parts | {"made_of": made_of})

    @property
    def rank(self) -> int | Tensor:
        return self.matrix.rank

    @property
    def real_rank(self) -> Any:
        return self.matrix.real_rank

    @property
    def num_variables(self) -> int:
        return self.matrix.num_variables

    @property
    def free_size(self) -> Any:
        return self.matrix.free_size

    @property
    def has_basis(self) -> bool:
        """Whether coordinates in an orthonormal basis of the null space mean the same whenever the
        law is made again."""
        return self.is_fixed and not self.matrix.is_sparse

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return self.A.ndim == 1

    @property
    def is_differentiated(self) -> bool:
        """Whether gradients reach A or k, so that the subspace can move."""
        values = self.A.values if isinstance(self.A, SparseMatrix) else self.A
        return self.k.requires_grad or (isinstance(values, Tensor) and values.requires_grad)

    @property
    def batch_shape(self) -> torch.Size:
        matrix_batch = self.A.shape[:-2]
        k_batch = self.k.shape if self.is_vector else self.k.shape[:-1]
        return broadcast_shapes(matrix_batch, k_batch)

    def residual(self, value: Tensor) -> Tensor:
        """``A value - k``, in the rows of A."""
        total = self.matrix.given.sums(value)
        return (total[..., 0] if self.is_vector else total) - self.k

    def contains(self, value: Tensor, tolerance: float) -> Tensor:
        """Whether ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row."""
        with torch.set_grad_enabled(False):
            gap = self.residual(value).abs()
            if self.num_variables >= MANY:  # where |k| alone is large enough, |A| is not read
                holds = gap <= tolerance * self.k.abs()
                if are_known(holds) and bool(holds.all()):
                    return holds if self.is_vector else holds.all(-1)
            holds = self.while_current(gap <= tolerance * self._size(value))
            return holds if self.is_vector else holds.all(-1)

    def contains_solution(self, value: Tensor) -> Tensor:
        """Whether the rows hold at a point that other rows determine: each of its entries has the
        rounding errors of the largest, those that should be zero above all."""
        with torch.no_grad():
            eps = torch.finfo(value.dtype).eps
            largest = value.abs().amax(-1, keepdim=True).expand(value.shape)
            rounding = 64 * value.shape[-1] * eps * self._size(largest)
            tolerated = default_tolerance(value.dtype) * self._size(value) + rounding
            holds = self.residual(value).abs() <= tolerated
            return holds if self.is_vector else holds.all(-1)

    def _size(self, value: Tensor) -> Tensor:
        """``|A| |x| + |k|``."""
        size = self.matrix.given.magnitude(value)
        return (size[..., 0] if self.is_vector else size) + self.k.abs()

    def gap(self, value: Tensor) -> Tensor:
        """``k - A value`` in the scaled rows, as exactly as the dtype allows."""
        return self.matrix.gap(self.scaled_k, value)

    def excess(self, value: Tensor) -> Tensor:
        """The gap, 0 where it is rounding."""
        gap, rows = self.gap(value), self.matrix.scaled_rows
        size = rows.absolute().apply(value.abs()) + self.scaled_k.abs()
        return gap.masked_fill(gap.abs() <= 2 * torch.finfo(value.dtype).eps * size, 0.0)

    @property
    def _pins(self) -> tuple[Tensor, Tensor] | None:
        """The variables that the constraint alone determines, and where it holds them at zero."""
        index = self.matrix.determined
        if index is None:
            return None
        return index, self.matrix.determined_values(self.scaled_k.detach()) == 0

    def pin(self, value: Tensor, correction: Tensor) -> Tensor:
        """The correction of a value, made exact where the constraint alone holds a variable at
        zero: a rounding error has no scale there to be small against."""
        pins = self._pins
        if pins is None:
            return correction
        index, is_zero = pins
        exact = torch.where(is_zero, -value[..., index], correction[..., index])
        return correction.index_copy(-1, index, exact)

    def while_current(self, answer: Tensor) -> Tensor:
        """The answer, of the A that was planned only."""
        return while_current(self.is_current, answer)

    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""
        return self.matrix.null_space()

    def embed(self, coordinates: Tensor) -> Tensor:
        """The point of the subspace with these coordinates ``(..., n - r)`` in the null space;
        zeros are the point nearest to the origin."""
        origin = self.matrix.shortest(self.scaled_k)
        return self.settle(origin + self.null_space().embed(coordinates))

    def settle(
        self, value: Tensor, closing: Callable[[Tensor], Tensor] | None = None, count: int = 1
    ) -> Tensor:
        """Move a point beside the subspace onto it to the last bits; no gradient.

        Args:
            value: ``(*sample, *batch, n)``.
            closing: from a point to a step that closes its gap; the shortest unless given.
            count: how many steps.
        """
        closing = self._closing if closing is None else closing
        for _ in range(count):
            value = value + self._correction(value.detach(), closing)
        return value

    @constant
    def _correction(self, point: Tensor, closing: Callable[[Tensor], Tensor]) -> Tensor:
        return self.pin(point, closing(point))

    def _closing(self, value: Tensor) -> Tensor:
        return self.matrix.shortest(self.gap(value))

    def own_step(self, value: Tensor) -> Tensor:
        """A step of variables of one row each that closes the gap of a value."""
        assert self.matrix.own is not None
        variables, entries = self.matrix.own
        steps = (self.gap(value) / entries).to(value.dtype)
        return torch.zeros_like(value).index_copy(-1, variables, steps)

    def nearest(self, value: Tensor) -> Tensor:
        """The point of the subspace nearest to ``value``."""
        return self.settle(value + self._closing(value))
