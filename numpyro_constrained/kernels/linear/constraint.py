"""The constraint ``A x = k``, bound to arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core import GroupSum, SparseMatrix
from numpyro_constrained.kernels.arrays.leaves import Layout, folded
from numpyro_constrained.kernels.arrays.linalg import if_everywhere, lift
from numpyro_constrained.kernels.linear.matrix import BoundMatrix
from numpyro_constrained.kernels.linear.null_space import NullSpace

__all__ = ["LinearConstraint", "default_tolerance"]


def default_tolerance(dtype: Any) -> float:
    """Relative tolerance of support checks: 1e-6 in float64, 1e-4 in float32."""
    return 1e-6 if dtype == np.float64 else 1e-4


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearConstraint:
    """``A x = k`` in the dtype of a law.

    Attributes:
        layout: how A and k are to be read.
        A, k: as given, as arrays (A may be a ``GroupSum``, or sparse).
        matrix: what A alone says.
        scaled_k: ``(*batch, r)`` right-hand sides of the scaled rows.
    """

    layout: Layout
    A: Any
    k: Array
    matrix: BoundMatrix
    scaled_k: Array

    @property
    def is_traced(self) -> bool:
        """Whether the constraint belongs to a trace."""
        values = self.A.values if isinstance(self.A, SparseMatrix) else self.A
        return isinstance(self.scaled_k, Tracer) or isinstance(values, Tracer)

    @property
    def is_fixed(self) -> bool:
        """Whether A is the same whenever the law is made again, so that coordinates of its null
        space mean the same."""
        return self.layout.is_fixed

    @property
    def has_fixed_basis(self) -> bool:
        """Whether there also is an orthonormal basis of it."""
        return self.is_fixed and self.matrix.has_basis

    @property
    def rank(self) -> Any:
        return self.matrix.rank

    @property
    def num_variables(self) -> int:
        return self.matrix.num_variables

    @property
    def free_size(self) -> Any:
        return self.matrix.free_size

    @property
    def coordinate_size(self) -> int:
        """n - r, for a matrix of which it is known."""
        rank = self.rank if isinstance(self.rank, int) else self.layout.rank
        return self.num_variables - (self.matrix.num_rows if rank is None else rank)

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return self.layout.is_vector

    @property
    def batch_shape(self) -> tuple[int, ...]:
        row_dims = self.layout.row_dims
        matrix_batch = (
            () if isinstance(self.A, GroupSum) else self.A.shape[: self.A.ndim - row_dims]
        )
        k_batch = self.k.shape if self.is_vector else self.k.shape[:-1]
        return jnp.broadcast_shapes(matrix_batch, k_batch)

    def lifted(self, vector: Array) -> Array:
        """``vector`` with at least the rank of a batch of the constraint."""
        return lift(vector, 1 + len(self.batch_shape))

    def residual(self, value: Array) -> Array:
        """``A value - k``, in the rows of A."""
        return self._above_k(self.matrix.given.sums(self.lifted(value)))

    def _above_k(self, totals: Array) -> Array:
        totals = self._as_k(totals)
        return totals - lift(self.k, totals.ndim)

    def _as_k(self, totals: Array) -> Array:
        return totals[..., 0] if self.is_vector else totals

    @folded  # of data that are known, XLA would sum the groups itself: in minutes
    def contains(self, value: Array, tolerance: float) -> Array:
        """Whether ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row."""
        value = stop_gradient(self.lifted(value))
        gap = stop_gradient(jnp.abs(self._above_k(self.matrix.given.apply(value))))

        def exactly() -> Array:
            return gap <= tolerance * stop_gradient(self._size(value))

        if self.matrix.given.is_large:
            # Where a few terms and |k| are large enough, the others are not read.
            least = self._with_k(self.matrix.given.some_terms(jnp.abs(value)))
            holds = gap <= tolerance * stop_gradient(least)
            holds = if_everywhere(holds, lambda: holds, exactly)
        else:
            holds = exactly()
        return holds if self.is_vector else holds.all(-1)

    def contains_solution(self, value: Array) -> Array:
        """Whether the rows hold at a point that other rows determine: each of its entries has the
        rounding errors of the largest, those that should be zero above all."""
        value = stop_gradient(self.lifted(value))
        eps = float(jnp.finfo(value.dtype).eps)
        largest = jnp.broadcast_to(jnp.abs(value).max(-1, keepdims=True), value.shape)
        rounding = 64 * value.shape[-1] * eps * self._size(largest)
        tolerated = default_tolerance(value.dtype) * self._size(value) + rounding
        holds = stop_gradient(jnp.abs(self.residual(value)) <= tolerated)
        return holds if self.is_vector else holds.all(-1)

    def _size(self, value: Array) -> Array:
        """``|A| |x| + |k|``."""
        size = jnp.abs(value)
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = size + jnp.finfo(value.dtype).eps * size.max(-1, keepdims=True)
        return self._with_k(self.matrix.given.magnitude(size))

    def _with_k(self, size: Array) -> Array:
        size = self._as_k(size)
        return size + lift(jnp.abs(self.k), size.ndim)

    def gap(self, value: Array) -> Array:
        """``k - A value`` in the scaled rows, as exactly as the dtype allows."""
        return self.matrix.gap(self.scaled_k, value)

    def excess(self, value: Array) -> Array:
        """The gap, 0 where it is rounding."""
        gap = self.gap(value)
        size = self.matrix.scaled_rows.magnitude(jnp.abs(value))
        size = size + lift(jnp.abs(self.scaled_k), size.ndim)
        return jnp.where(jnp.abs(gap) <= 2 * jnp.finfo(gap.dtype).eps * size, 0.0, gap)

    def pin(self, value: Array, correction: Array) -> Array:
        """The correction of a value, made exact where the constraint alone holds a variable at
        zero: a rounding error has no scale there to be small against."""
        if self.matrix.determined is None:
            return correction
        is_zero = self._holds_at_zero()
        if not isinstance(is_zero, Tracer) and not np.asarray(is_zero).any():
            return correction
        return jnp.where(lift(is_zero, value.ndim), -value, correction)

    @folded
    def _holds_at_zero(self) -> Array:
        """``(*batch, n)`` whether the constraint alone determines a variable, to be zero."""
        is_zero = self.matrix.determined_values(stop_gradient(self.scaled_k)) == 0
        nowhere = jnp.zeros((*is_zero.shape[:-1], self.num_variables), bool)
        return nowhere.at[..., self.matrix.determined].set(is_zero)

    @folded
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""
        return self.matrix.null_space()

    def embed(self, coordinates: Array) -> Array:
        """The point of the subspace with these coordinates ``(..., n - r)`` in the null space;
        zeros are the point nearest to the origin."""
        direction = self.null_space().embed(self.lifted(coordinates))
        origin = folded(self.matrix.shortest)(self.scaled_k)
        return self.settle(lift(origin, direction.ndim) + direction)

    def settle(
        self, value: Array, closing: Callable[[Array], Array] | None = None, count: int = 1
    ) -> Array:
        """Move a point beside the subspace onto it to the last bits; no gradient.

        Args:
            value: ``(*sample, *batch, n)``.
            closing: from a point to a step that closes its gap; the shortest unless given.
            count: how many steps.
        """
        closing = closing or self._closing
        for _ in range(count):
            point = stop_gradient(value)
            value = value + stop_gradient(self.pin(point, closing(point)))
        return value

    def _closing(self, value: Array) -> Array:
        return self.matrix.shortest(self.gap(value))

    def own_step(self, value: Array) -> Array:
        """A step of variables of one row each that closes the gap of a value."""
        assert self.matrix.own is not None
        variables, entries = self.matrix.own
        gap = self.gap(value)
        steps = (gap / lift(entries, gap.ndim)).astype(value.dtype)
        return jnp.zeros_like(value).at[..., variables].set(steps)

    def nearest(self, value: Array) -> Array:
        """The point of the subspace nearest to ``value``."""
        value = self.lifted(value)
        return self.settle(value + self._closing(value))
