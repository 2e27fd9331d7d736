"""Rows of a constraint from which variables were eliminated, those of the largest scale first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.linear.plan import DensePlan
from numpyro_constrained.kernels.arrays.held import held
from numpyro_constrained.kernels.arrays.linalg import (
    identity_like,
    lift,
    power_of_two_below,
    solve_lower,
    solve_lower_matrix,
    take,
)
from numpyro_constrained.kernels.arrays.plans import plan_tensor
from numpyro_constrained.kernels.linear.completion import factor_by_size
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.matrix import BoundMatrix
from numpyro_constrained.kernels.linear.rows import DenseRows

__all__ = ["Balancing"]


class Balancing(NamedTuple):
    """Independent rows R = T E, where the rows E follow from R by elimination of variables, the
    largest first: what is said of variables of 1e-6 does not drown in what is said of 1e6.

    The triangle T is a constant: nothing that the row space determines depends on it.

    Attributes:
        rows: ``(*batch, r, n)`` E.
        triangle: ``(*batch, r, r)`` T.
        upper: ``(*batch, r, r)`` what E has of the eliminated variables, scaled.
        place: ``(*batch, n)`` of every variable in the order of elimination.
        scale: ``(*batch, n)`` powers of two, by which products and quotients are exact.
    """

    rows: Array
    triangle: Array
    upper: Array
    place: Array
    scale: Array

    @classmethod
    def of(cls, matrix: BoundMatrix, size: Array) -> "Balancing":
        """Of the rows with the fewest rounding errors, for variables of sizes ``(*batch, n)``."""
        scale = _scale(size)
        given = matrix.exact_rows
        exact = held(given.matrix, size) if isinstance(given, DenseRows) else given.dense()
        exact = exact.astype(scale.dtype)
        ndim = max(exact.ndim, scale.ndim + 1)
        exact, wide = lift(exact, ndim), lift(scale, ndim - 1)[..., None, :]
        packed, order = factor_by_size(stop_gradient(exact) * wide)
        place, packed = jnp.argsort(order, -1), packed[..., : exact.shape[-2], :].mT
        triangle = matrix.padded(jnp.tril(packed))
        # Scaled first: a constant of the size of the batch would be kept for derivatives.
        rows = solve_lower_matrix(triangle, exact * wide) / wide
        # What was eliminated is zero, whatever rounding left of it; derivatives stay.
        step = np.arange(rows.shape[-2])[:, None]
        is_noise = place[..., None, :] < lift(step, place.ndim + 1)
        rows = rows - jnp.where(is_noise, stop_gradient(rows), 0.0)
        upper = jnp.triu(packed, 1) + identity_like(packed)
        return cls(rows.astype(size.dtype), triangle, upper, place, scale)

    @classmethod
    def planned(cls, plan: DensePlan, size: Array) -> "Balancing":
        """The executed rows of a plan, of which no variable was eliminated."""
        scale = _scale(size)
        batch_shape, identity = scale.shape[:-1], np.eye(plan.rank, dtype=scale.dtype)
        triangle = identity if plan.triangle is None else plan_tensor(plan, "triangle", scale)
        rows = held(plan_tensor(plan, "executed", size), size)
        parts = rows, triangle, identity, np.arange(plan.num_variables)
        batch = [jnp.broadcast_to(part, batch_shape + part.shape) for part in parts]
        return cls(batch[0], batch[1], batch[2], batch[3], scale)

    def reduce(self, matrix: BoundMatrix, gap: Array) -> Array:
        """A gap of the scaled rows as that of E."""
        gap = matrix.reduce_exactly(gap)
        return solve_lower(self.triangle, gap.astype(self.triangle.dtype))

    def target(self, constraint: LinearConstraint) -> Array:
        """Right-hand sides of E."""
        return self.reduce(constraint.matrix, constraint.scaled_k).astype(self.rows.dtype)

    def step(self, gap: Array) -> Array:
        """A step of the eliminated variables that closes a gap of E."""
        pivots = solve_lower(self.upper[..., ::-1, ::-1], gap[..., ::-1])[..., ::-1]
        zeros = jnp.zeros((*pivots.shape[:-1], self.scale.shape[-1] - pivots.shape[-1]))
        step = take(jnp.concatenate([pivots, zeros.astype(pivots.dtype)], -1), self.place)
        return lift(self.scale, step.ndim) * step

    def settle(self, constraint: LinearConstraint, value: Array) -> Array:
        """The value, moved onto the subspace by the eliminated variables; no gradient."""

        # What is rounding in eliminated rows may be more than that in those of A. A gap that is
        # rounding there stays: to close it would move small variables.
        def step(point: Array) -> Array:
            gap = self.reduce(constraint.matrix, constraint.excess(point))
            return self.step(gap).astype(point.dtype)

        return constraint.settle(value, step, 3)


def _scale(size: Array) -> Array:
    dtype = jax.dtypes.canonicalize_dtype(np.float64)  # float32 unless x64 is enabled
    return power_of_two_below(size.astype(dtype))
