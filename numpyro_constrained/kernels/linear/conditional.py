"""Location-scale laws conditioned on ``A x = k``.

For x = loc + L e with white noise e, the constraint is S e = c - B loc with S = B L. Conditioning
a draw is kriging (Matheron's rule): e - S' F^-1 S e with F = S S'. Nothing here depends on the
value that is scored, so each law computes it once. All arrays of a law have its batch rank.
"""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import (
    if_everywhere,
    lift,
)
from numpyro_constrained.kernels.linear.completion import (
    Completion,
    DenseCompletion,
    DisjointCompletion,
    RankedCompletion,
    SparseCompletion,
)
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.rows import DenseRows, DisjointRows
from numpyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = ["Conditional", "leading_identity"]

EVEN = 1e3
"""Ratio of scales up to which rounding of one variable is none to speak of for another."""


class Conditional(ABC):
    """x given A x = k, for covariance (or scale matrix) Sigma.

    Attributes:
        constraint: the constraint A x = k.
        loc: ``(*batch, n)`` of the law without the constraint.
        mean: ``(*batch, n)``, on the subspace up to rounding; ``settled_mean`` to the last bits.
        half_log_det: ``(*batch,)`` 1/2 log pdet of the conditional covariance.
        constraint_half_log_det: ``(*batch,)`` 1/2 log(det A Sigma A' / det A A').
        noise_size: white-noise entries of one draw.
        base_size: white-noise entries of a reparametrised draw.
    """

    constraint: LinearConstraint
    loc: Array
    mean: Array
    half_log_det: Array
    constraint_half_log_det: Array
    noise_size: int

    @property
    def is_traced(self) -> bool:
        """Whether anything here belongs to a trace."""
        parts = self.loc, self.half_log_det
        return self.constraint.is_traced or any(isinstance(part, Tracer) for part in parts)

    # What is computed when asked for is not kept: it may be asked for inside a trace.

    @property
    @abstractmethod
    def surprise(self) -> Array:
        """``(*batch,)`` (k - A loc)' (A Sigma A')^-1 (k - A loc)."""

    @property
    def settled_mean(self) -> Array:
        """``(*batch, n)`` the mean, on the subspace to the last bits."""
        return self.settle(self.mean)

    def generic_point(self) -> Array:
        """``(*batch, n)`` a point of the subspace that is like no other."""
        probe = jnp.cos(jnp.linspace(0.5, 1.5, self.noise_size, dtype=self.loc.dtype))
        return self.draw(lift(probe, self.loc.ndim))

    @abstractmethod
    def deviation(self, noise: Array) -> Array:
        """Draw of x - mean from white noise ``(..., noise_size)``."""

    def draw(self, noise: Array) -> Array:
        """Draw of x from white noise, on the subspace to the last bits."""
        deviation = self.deviation(noise)
        return self.settle(lift(self.mean, deviation.ndim) + deviation)

    @abstractmethod
    def closing(self, value: Array) -> Array:
        """A step within the covariance from a point beside the subspace to it."""

    @abstractmethod
    def mahalanobis(self, deviation: Array) -> Array:
        """Squared length of a deviation in the metric of the conditional covariance."""

    def distance(self, value: Array) -> Array:
        """Squared length of ``value - mean`` in that metric."""
        return self.mahalanobis(value - lift(self.mean, value.ndim))

    @abstractmethod
    def variance(self) -> Array:
        """``(*batch, n)`` diagonal of the conditional covariance."""

    @abstractmethod
    def covariance_matvec(self, vector: Array) -> Array:
        """Conditional covariance times ``vector``."""

    @abstractmethod
    def precision_trace(self, other: "Conditional") -> Array:
        """Trace of this law's inverse covariance times the covariance of ``other``."""

    # A reparametrised draw is continuous in every parameter for fixed noise. Orthonormal bases of
    # a null space are not, where that turns freely: there conditioning by kriging is.

    @property
    def base_size(self) -> int:
        return self.noise_size

    def from_base(self, noise: Array) -> Array:
        """Draw of x from white noise ``(..., base_size)``."""
        return self.draw(noise)

    @abstractmethod
    def to_base(self, value: Array) -> Array:
        """White noise that ``from_base`` takes to ``value``."""

    @property
    @abstractmethod
    def size(self) -> Array:
        """``(*batch, n)`` standard deviations without the constraint."""

    @property
    @folded
    def completion(self) -> Completion:
        """Variables whose scale dominates a row, from the others."""
        matrix = self.constraint.matrix
        if isinstance(matrix.rows, DisjointRows):
            return DisjointCompletion(matrix.rows, self.size)
        if isinstance(matrix.rows, SparseRows):
            return SparseCompletion(matrix.rows, self.size)
        rows = matrix.full_rank_rows() if isinstance(matrix.rank, int) else None
        if rows is None:
            assert isinstance(matrix.rows, DenseRows) and matrix.is_kept is not None
            return RankedCompletion(matrix.rows, matrix.is_kept, self.size)
        return DenseCompletion(rows, self.size)

    def covariance(self) -> Array:
        """``(*batch, n, n)`` conditional covariance."""
        identity = leading_identity(self.loc.shape[-1], self)
        return self.completion.fill_both(jnp.moveaxis(self.covariance_matvec(identity), 0, -2))

    def num_corrections(self) -> int:
        """Corrections after which a draw obeys the constraint to the last bits."""
        # A step leaves a gap of rounding times the condition of A Sigma A'. Of an A without a plan
        # that is not bounded; in float32 one step may leave too much where scales differ.
        if self.constraint.matrix.plan is None:
            return 3
        return 1 if self.loc.dtype == np.float64 else 2

    def settle(self, value: Array) -> Array:
        """Move a draw onto the subspace to the last bits, within the covariance; no gradient."""
        step, count = self.closing, self.num_corrections()
        if self.constraint.matrix.own is not None:
            step = self._own_step_if_even
        if count == 2 and self.constraint.matrix.rows.is_large:
            value = self.constraint.settle(value, step)
            step, count = self._step_if_uneven, 1
        return self._flushed(self.constraint.settle(value, step, count))

    @property
    def _is_even(self) -> Array:
        """``(*batch,)`` whether scales are of similar size."""
        size = stop_gradient(self.size)
        return size.max(-1) <= EVEN * size.min(-1)

    def _step_if_uneven(self, value: Array) -> Array:
        """A second step, where scales differ: elsewhere the first leaves nothing."""
        return if_everywhere(
            self._is_even, lambda: jnp.zeros_like(value), lambda: self.closing(value)
        )

    def _own_step_if_even(self, value: Array) -> Array:
        """A step that moves a few variables by rounding of their own size, where scales are
        similar; else one within the covariance."""
        own_step = self.constraint.own_step
        return if_everywhere(self._is_even, lambda: own_step(value), lambda: self.closing(value))

    def _flushed(self, value: Array) -> Array:
        """Exact zeros, where only rounding tells that the constraint holds a variable there."""
        if self.constraint.matrix.plan is not None:
            return value
        size = lift(self.size, value.ndim) + lift(jnp.abs(self.loc), value.ndim)
        # A step that closes the gap of rounding in n others has again rounding errors of its own.
        eps = 4 * value.shape[-1] * float(jnp.finfo(value.dtype).eps) ** 2
        return jnp.where(jnp.abs(value) <= eps * size, 0.0, value)


def leading_identity(size: int, *laws: Conditional) -> Array:
    """``(size, 1, ..., 1, size)``: unit vectors as samples of ``laws``."""
    batch_dims = max(law.loc.ndim for law in laws) - 1
    return _samples_of_identity(size, batch_dims, laws[0].loc.dtype)


@partial(as_one, static_argnums=(0, 1, 2))
def _samples_of_identity(size: int, batch_dims: int, dtype: Any) -> Array:
    return jnp.eye(size, dtype=dtype).reshape((size,) + (1,) * batch_dims + (size,))
