"""Laws conditioned on ``A x = k`` whose covariance is L L', by the root L.

The constraint is that of white noise: S e = c - B loc for x = loc + L e and S = B L.
"""

from abc import abstractmethod
from typing import Any

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import (
    diagonal,
    gram_root,
    lift,
    matvec,
    solve_lower,
    solve_lower_adjoint,
    solve_lower_matrix,
    take,
)
from numpyro_constrained.kernels.linear.conditional import Conditional, leading_identity
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.null_space import NullSpace
from numpyro_constrained.kernels.linear.whitening import Root, UniformRows, WhiteRows, whiten

__all__ = ["DenseConditional", "DiagonalConditional", "UniformConditional"]


class _WhitenedConditional(Conditional):
    """Sigma = L L' with an invertible L that the subclass multiplies and divides by."""

    def __init__(
        self, loc: Array, whitened: WhiteRows, log_det: Array, constraint: LinearConstraint
    ) -> None:
        self.constraint, self.whitened, self.loc = constraint, whitened, loc
        self.noise_size = loc.shape[-1]
        half_log_det, self.white_gap = whitened.of_loc(loc)
        self._white_half_log_det = half_log_det
        ndim = max(log_det.ndim, half_log_det.ndim)
        self.half_log_det = lift(log_det, ndim) - lift(half_log_det, ndim)

    @property
    def constraint_half_log_det(self) -> Array:  # type: ignore[override]
        return self._white_half_log_det

    @property
    @folded
    def mean(self) -> Array:  # type: ignore[override]
        return self.loc + self._multiply(self.white_gap)

    @property
    def surprise(self) -> Array:
        return jnp.square(self.white_gap).sum(-1)

    @abstractmethod
    def _multiply(self, vector: Array) -> Array:
        """``L vector``."""

    @abstractmethod
    def _multiply_adjoint(self, vector: Array) -> Array:
        """``L' vector``."""

    @abstractmethod
    def _divide(self, vector: Array) -> Array:
        """``L^-1 vector``."""

    def _projected(self, noise: Array) -> Array:
        """The noise, less what the constraint determines of it."""
        return self.whitened.projected(noise)

    def deviation(self, noise: Array) -> Array:
        return self._multiply(self._projected(noise))

    def draw(self, noise: Array) -> Array:
        white = self.whitened.kriged(noise, self.loc, self.white_gap)
        return self.settle(lift(self.loc, noise.ndim) + self._multiply(white))

    def closing(self, value: Array) -> Array:
        return self._multiply(self.whitened.closing(value))

    def settle(self, value: Array) -> Array:
        if isinstance(self.constraint.rank, int) and self.constraint.free_size == 0:
            return self._flushed(self.constraint.settle(value, count=3))  # one point for any scales
        return self.whitened.settle(super().settle(value))

    def mahalanobis(self, deviation: Array) -> Array:
        return jnp.square(self._divide(deviation)).sum(-1)

    def white_deviation(self, value: Array) -> Array:
        """``(*batch, n)`` L^-1 (value - mean)."""
        white = self._divide(value - lift(self.loc, value.ndim))
        return white - lift(self.white_gap, white.ndim)

    def distance(self, value: Array) -> Array:
        return jnp.square(self.white_deviation(value)).sum(-1)

    def covariance_matvec(self, vector: Array) -> Array:
        return self.deviation(self._multiply_adjoint(vector))

    @property
    def base_size(self) -> int:
        has_basis = self.constraint.has_fixed_basis
        return self.constraint.coordinate_size if has_basis else self.noise_size

    def to_base(self, value: Array) -> Array:
        return self._projected(self._divide(value - lift(self.mean, value.ndim)))


class _ScaledConditional(_WhitenedConditional):
    """Sigma = diag(scale^2), for n scales or one."""

    scale: Array

    def _multiply(self, vector: Array) -> Array:
        return lift(self.scale, vector.ndim) * vector

    def _multiply_adjoint(self, vector: Array) -> Array:
        return lift(self.scale, vector.ndim) * vector

    def _divide(self, vector: Array) -> Array:
        return vector / lift(self.scale, vector.ndim)

    def variance(self) -> Array:
        share = self.constraint.matrix.without_determined(self.completion.free_share())
        return jnp.square(self.scale) * lift(share, self.scale.ndim)

    def precision_trace(self, other: Conditional) -> Array:
        variance = lift(other.variance(), self.scale.ndim)
        return (variance / lift(jnp.square(self.scale), variance.ndim)).sum(-1)

    @property
    @abstractmethod
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the white noises that keep the constraint, smooth in the scale."""

    def from_base(self, noise: Array) -> Array:
        if not self.constraint.has_fixed_basis:
            return self.draw(noise)
        deviation = self._multiply(self.null_space.embed(noise))
        return self.settle(lift(self.mean, deviation.ndim) + deviation)

    def to_base(self, value: Array) -> Array:
        if not self.constraint.has_fixed_basis:
            return super().to_base(value)
        return self.null_space.extract(self._divide(value - lift(self.mean, value.ndim)))


class DiagonalConditional(_ScaledConditional):
    """Sigma = diag(scale^2), scale ``(*batch, n)``."""

    def __init__(self, loc: Array, scale: Array, constraint: LinearConstraint) -> None:
        self.scale = scale
        root = Root(scale, lambda rows, scale: rows.scaled(scale), lambda scale: scale)
        super().__init__(loc, whiten(constraint, root), jnp.log(scale).sum(-1), constraint)

    @property
    def size(self) -> Array:
        return self.scale

    @property
    @folded
    def null_space(self) -> NullSpace:
        return self.constraint.matrix.scaled_null_space(self.scale)


class UniformConditional(_ScaledConditional):
    """Sigma = scale^2 I, scale ``(*batch, 1)``.

    All that is factored is the constraint, which was when it was analysed, whatever the scale.
    """

    def __init__(self, loc: Array, scale: Array, constraint: LinearConstraint) -> None:
        self.scale = scale
        whitened = UniformRows(constraint, scale)
        log_det = loc.shape[-1] * jnp.log(scale)[..., 0]
        super().__init__(loc, whitened, log_det, constraint)

    @property
    def size(self) -> Array:
        return jnp.broadcast_to(self.scale, self.scale.shape[:-1] + self.loc.shape[-1:])

    def settle(self, value: Array) -> Array:
        own = self.constraint.matrix.own is not None
        step = self.constraint.own_step if own else None
        return self._flushed(self.constraint.settle(value, step, self.num_corrections()))

    @property
    def null_space(self) -> NullSpace:
        return self.constraint.null_space()


class DenseConditional(_WhitenedConditional):
    """Sigma = L L' with lower triangular L ``(*batch, n, n)``."""

    def __init__(self, loc: Array, scale_tril: Array, constraint: LinearConstraint) -> None:
        self.scale_tril = scale_tril
        root = Root(scale_tril, lambda rows, matrix: rows.transform(matrix), _lengths)
        log_det = jnp.log(diagonal(scale_tril)).sum(-1)
        super().__init__(loc, whiten(constraint, root), log_det, constraint)

    def _multiply(self, vector: Array) -> Array:
        return matvec(self.scale_tril, vector)

    def _multiply_adjoint(self, vector: Array) -> Array:
        return matvec(self.scale_tril.mT, vector)

    def _divide(self, vector: Array) -> Array:
        return solve_lower(self.scale_tril, vector)

    @property
    def size(self) -> Array:
        return _lengths(self.scale_tril)

    def variance(self) -> Array:
        rows = self._multiply_adjoint(leading_identity(self.noise_size, self))
        left = jnp.moveaxis(self._projected(rows), 0, -1)
        columns = self.completion.fill(jnp.moveaxis(left, -2, 0))
        return self.constraint.matrix.without_determined(jnp.square(columns).sum(0))

    @folded
    def _reduced(self) -> tuple[Any, Any, Array]:
        """Free variables, the basis of the null space in which they are the coordinates, and a
        triangular root of the precision in it: continuous in L, as its diagonal is positive."""
        free, basis = self.constraint.matrix.elimination()
        ndim = max(basis.ndim, self.scale_tril.ndim)
        white = solve_lower_matrix(lift(self.scale_tril, ndim), lift(basis, ndim))
        return free, basis, gram_root(white)

    def from_base(self, noise: Array) -> Array:
        if not self.constraint.has_fixed_basis:
            return self.draw(noise)
        _, basis, root = self._reduced()
        deviation = matvec(basis, solve_lower_adjoint(root, noise))
        return self.settle(lift(self.mean, deviation.ndim) + deviation)

    def to_base(self, value: Array) -> Array:
        if not self.constraint.has_fixed_basis:
            return super().to_base(value)
        free, _, root = self._reduced()
        return matvec(root.mT, take(value - lift(self.mean, value.ndim), free))

    def precision_trace(self, other: Conditional) -> Array:
        unit_noise = leading_identity(other.noise_size, other, self)
        return self.mahalanobis(other.deviation(unit_noise)).sum(0)


@as_one
def _lengths(matrix: Array) -> Array:
    """Of the rows."""
    return jnp.linalg.vector_norm(matrix, axis=-1)
