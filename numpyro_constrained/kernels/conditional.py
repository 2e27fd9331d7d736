"""Location-scale laws conditioned on ``B x = c``.

For x = loc + L e with white noise e, the constraint is S e = c - B loc with S = B L. Conditioning
a draw is kriging (Matheron's rule): e - S' F^-1 S e with F = S S'. Nothing here depends on the
value that is scored, so each law computes it once. All arrays of a law have its batch rank.
"""

from abc import ABC, abstractmethod

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from numpyro_constrained.kernels.constraint import LinearConstraint
from numpyro_constrained.kernels.leaves import folded
from numpyro_constrained.kernels.linalg import (
    cholesky,
    lift,
    matmul,
    matvec,
    solve_lower,
    solve_lower_adjoint,
    solve_lower_matrix,
)
from numpyro_constrained.kernels.null_space import NullSpace
from numpyro_constrained.kernels.rows import Balanced, Rows

__all__ = [
    "Conditional",
    "DenseConditional",
    "DiagonalConditional",
    "LowRankConditional",
    "UniformConditional",
]


class Conditional(ABC):
    """x given B x = c, for covariance (or scale matrix) Sigma.

    Attributes:
        constraint: the constraint B x = c.
        loc: ``(*batch, n)`` of the law without the constraint.
        mean: ``(*batch, n)``, on the subspace up to rounding; ``settled_mean`` to the last bits.
        half_log_det: ``(*batch,)`` 1/2 log pdet of the conditional covariance.
        constraint_half_log_det: ``(*batch,)`` 1/2 log det F.
        noise_size: white-noise entries of one draw.
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
        parts = self.loc, self.half_log_det, self.constraint.target
        return any(isinstance(part, Tracer) for part in parts)

    # What is computed when asked for is not kept: it may be asked for inside a trace.

    @property
    @abstractmethod
    def surprise(self) -> Array:
        """``(*batch,)`` (c - B loc)' F^-1 (c - B loc)."""

    @property
    def settled_mean(self) -> Array:
        """``(*batch, n)`` the mean, on the subspace to the last bits."""
        return self.settle(self.mean)

    @abstractmethod
    def deviation(self, noise: Array) -> Array:
        """Draw of x - mean from white noise ``(..., noise_size)``."""

    def draw(self, noise: Array) -> Array:
        """Draw of x from white noise, on the subspace to the last bits."""
        deviation = self.deviation(noise)
        return self.settle(lift(self.mean, deviation.ndim) + deviation)

    @abstractmethod
    def gain(self, mismatch: Array) -> Array:
        """Sigma B' F^-1 mismatch: what to add to a point that misses c by ``mismatch``."""

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

    @abstractmethod
    def tangent(self, coordinates: Array) -> Array:
        """Draw of x - mean from exactly n - r white-noise entries."""

    @abstractmethod
    def coordinates(self, deviation: Array) -> Array:
        """Inverse of ``tangent``."""

    def covariance(self) -> Array:
        """``(*batch, n, n)`` conditional covariance."""
        identity = _leading_identity(self.loc.shape[-1], self)
        return jnp.moveaxis(self.covariance_matvec(identity), 0, -2)

    def settle(self, value: Array) -> Array:
        """Move a draw onto the subspace to the last bits, within the covariance; no gradient."""
        fixed = stop_gradient(value)
        correction = self.gain(self.constraint.mismatch(fixed))
        return value + stop_gradient(self.constraint.pin(fixed, correction))


class _WhitenedConditional(Conditional):
    """Sigma = L L' with an invertible L that the subclass multiplies and divides by."""

    def __init__(
        self,
        loc: Array,
        rows: Rows,
        balanced: Balanced,
        log_det: Array,
        constraint: LinearConstraint,
    ) -> None:
        self.constraint, self.whitened_rows, self.balanced = constraint, rows, balanced
        self.rows, self.gram = balanced.rows, balanced.gram
        self.noise_size = loc.shape[-1]
        self.constraint_half_log_det = self.balanced.log_det + self.gram.half_log_det
        log_volume = lift(constraint.log_volume, log_det.ndim)
        self.half_log_det = log_det - self.constraint_half_log_det + log_volume
        mismatch = lift(constraint.target, loc.ndim) - constraint.rows.apply(loc)
        self.mismatch = self.balanced.reduce(mismatch)
        self.multipliers = self.gram.solve(self.mismatch)
        self.loc = loc

    @property
    @folded
    def mean(self) -> Array:  # type: ignore[override]
        return self.loc + self._multiply(self.rows.adjoint(self.multipliers))

    @property
    def surprise(self) -> Array:
        return (self.mismatch * self.multipliers).sum(-1)

    @abstractmethod
    def _multiply(self, vector: Array) -> Array:
        """``L vector``."""

    @abstractmethod
    def _multiply_adjoint(self, vector: Array) -> Array:
        """``L' vector``."""

    @abstractmethod
    def _divide(self, vector: Array) -> Array:
        """``L^-1 vector``."""

    def deviation(self, noise: Array) -> Array:
        explained = self.rows.adjoint(self.gram.solve(self.rows.apply(noise)))
        return self._multiply(noise - explained)

    def draw(self, noise: Array) -> Array:
        mismatch = lift(self.mismatch, noise.ndim) - self.rows.apply(noise)
        white = noise + self.rows.adjoint(self.gram.solve(mismatch))
        return self.settle(lift(self.loc, noise.ndim) + self._multiply(white))

    def gain(self, mismatch: Array) -> Array:
        return self._multiply(self.rows.adjoint(self.gram.solve(self.balanced.reduce(mismatch))))

    def mahalanobis(self, deviation: Array) -> Array:
        return jnp.square(self._divide(deviation)).sum(-1)

    def distance(self, value: Array) -> Array:
        white = self._divide(value - lift(self.loc, value.ndim))
        explained = folded(self.rows.adjoint)(self.multipliers)
        return jnp.square(white - lift(explained, white.ndim)).sum(-1)

    @property
    @folded
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the white noises that keep the constraint."""
        return self.whitened_rows.null_space()

    def covariance_matvec(self, vector: Array) -> Array:
        return self.deviation(self._multiply_adjoint(vector))

    def tangent(self, coordinates: Array) -> Array:
        return self._multiply(self.null_space.embed(coordinates))

    def coordinates(self, deviation: Array) -> Array:
        return self.null_space.extract(self._divide(deviation))


class DiagonalConditional(_WhitenedConditional):
    """Sigma = diag(scale^2), scale ``(*batch, n)``."""

    def __init__(self, loc: Array, scale: Array, constraint: LinearConstraint) -> None:
        self.scale = scale
        rows, log_det = constraint.rows.scaled(scale), jnp.log(scale).sum(-1)
        super().__init__(loc, rows, rows.balanced(), log_det, constraint)

    def _multiply(self, vector: Array) -> Array:
        return lift(self.scale, vector.ndim) * vector

    def _multiply_adjoint(self, vector: Array) -> Array:
        return lift(self.scale, vector.ndim) * vector

    def _divide(self, vector: Array) -> Array:
        return vector / lift(self.scale, vector.ndim)

    def variance(self) -> Array:
        free = _above_rounding(1 - self.rows.leverage(self.gram), self.constraint)
        return jnp.square(self.scale) * lift(free, self.scale.ndim)

    def precision_trace(self, other: Conditional) -> Array:
        variance = lift(other.variance(), self.scale.ndim)
        return (variance / lift(jnp.square(self.scale), variance.ndim)).sum(-1)


class UniformConditional(DiagonalConditional):
    """Sigma = scale^2 I, scale ``(*batch, 1)``.

    All that is factored is the constraint, which was when it was analysed, whatever the scale.
    """

    def __init__(self, loc: Array, scale: Array, constraint: LinearConstraint) -> None:
        self.scale = scale
        rows, log_det = constraint.rows, loc.shape[-1] * jnp.log(scale)[..., 0]
        balanced = Balanced(rows, constraint.gram).times(scale)
        _WhitenedConditional.__init__(self, loc, rows, balanced, log_det, constraint)

    @property
    def null_space(self) -> NullSpace:
        return self.constraint.null_space()

    def settle(self, value: Array) -> Array:
        return self.constraint.settle(value)


class DenseConditional(_WhitenedConditional):
    """Sigma = L L' with lower triangular L ``(*batch, n, n)``."""

    def __init__(self, loc: Array, scale_tril: Array, constraint: LinearConstraint) -> None:
        self.scale_tril = scale_tril
        log_det = jnp.log(jnp.diagonal(scale_tril, axis1=-2, axis2=-1)).sum(-1)
        rows = constraint.rows.transform(scale_tril)
        super().__init__(loc, rows, rows.balanced(), log_det, constraint)

    def _multiply(self, vector: Array) -> Array:
        return matvec(self.scale_tril, vector)

    def _multiply_adjoint(self, vector: Array) -> Array:
        return matvec(self.scale_tril.mT, vector)

    def _divide(self, vector: Array) -> Array:
        return solve_lower(self.scale_tril, vector)

    def variance(self) -> Array:
        variance = jnp.square(self.scale_tril).sum(-1)
        free = 1 - self.rows.transform(self.scale_tril.mT).leverage(self.gram) / variance
        return variance * _above_rounding(free, self.constraint)

    def precision_trace(self, other: Conditional) -> Array:
        unit_noise = _leading_identity(other.noise_size, other, self)
        return self.mahalanobis(other.deviation(unit_noise)).sum(0)


def _above_rounding(free: Array, constraint: LinearConstraint) -> Array:
    """Share of a variance that is left; exactly 0 where the constraint determines the variable."""
    floor = 8 * (constraint.rank + 1) * float(jnp.finfo(free.dtype).eps)
    return jnp.where(free > floor, free, 0.0) if constraint.free_size else 0.0 * free


def _leading_identity(size: int, *laws: Conditional) -> Array:
    """``(size, 1, ..., 1, size)``: unit vectors as samples of ``laws``."""
    batch_dims = max(law.loc.ndim for law in laws) - 1
    identity = jnp.eye(size, dtype=laws[0].loc.dtype)
    return identity.reshape((size,) + (1,) * batch_dims + (size,))


class LowRankConditional(Conditional):
    """Sigma = W W' + diag(scale^2), W ``(*batch, n, q)``; nothing is n x n, F stays structured.

    With x = z + W e and z diagonal, conditioning z, then the q entries of e, gives a constrained
    diagonal law plus a low-rank part whose loadings lie inside the subspace.
    """

    def __init__(
        self, loc: Array, cov_factor: Array, scale: Array, constraint: LinearConstraint
    ) -> None:
        self.constraint = constraint
        self.loc = loc
        self.diagonal = diagonal = DiagonalConditional(loc, scale, constraint)
        self.noise_size = loc.shape[-1] + cov_factor.shape[-1]
        loadings = jnp.moveaxis(cov_factor, -1, 0)
        moved = diagonal.balanced.reduce(constraint.rows.apply(loadings))
        multipliers = diagonal.gram.solve(moved)
        explained = lift(scale, loadings.ndim) * diagonal.rows.adjoint(multipliers)
        free = jnp.moveaxis(loadings - explained, 0, -2)
        moved = jnp.moveaxis(moved, 0, -2)
        posterior = _capacitance(matmul(moved, jnp.moveaxis(multipliers, 0, -1)))
        self.loadings = solve_lower_matrix(posterior, free)
        self.scaled_loadings = self.loadings / scale[..., None, :]
        self.capacitance = _capacitance(matmul(self.scaled_loadings, self.scaled_loadings.mT))
        self.shift = solve_lower(posterior, matvec(moved, diagonal.multipliers))
        self.mean = diagonal.mean + matvec(self.loadings.mT, self.shift)
        self.half_log_det = diagonal.half_log_det + _half_log_det(self.capacitance)
        self.constraint_half_log_det = diagonal.constraint_half_log_det + _half_log_det(posterior)

    @property
    def surprise(self) -> Array:
        return self.diagonal.surprise - jnp.square(self.shift).sum(-1)

    def deviation(self, noise: Array) -> Array:
        num_variables = self.loc.shape[-1]
        low_rank = matvec(self.loadings.mT, noise[..., num_variables:])
        return self.diagonal.deviation(noise[..., :num_variables]) + low_rank

    def gain(self, mismatch: Array) -> Array:
        return self.diagonal.gain(mismatch)

    def mahalanobis(self, deviation: Array) -> Array:
        scaled = deviation / lift(self.diagonal.scale, deviation.ndim)
        half = solve_lower(self.capacitance, matvec(self.scaled_loadings, scaled))
        factors = solve_lower_adjoint(self.capacitance, half)
        rest = scaled - matvec(self.scaled_loadings.mT, factors)
        return jnp.square(rest).sum(-1) + jnp.square(factors).sum(-1)

    def variance(self) -> Array:
        return self.diagonal.variance() + jnp.square(self.loadings).sum(-2)

    def covariance_matvec(self, vector: Array) -> Array:
        low_rank = matvec(self.loadings.mT, matvec(self.loadings, vector))
        return self.diagonal.covariance_matvec(vector) + low_rank

    def precision_trace(self, other: Conditional) -> Array:
        scaled = self.scaled_loadings / self.diagonal.scale[..., None, :]
        explaining = solve_lower_matrix(self.capacitance, scaled)
        columns = jnp.moveaxis(lift(explaining, other.loc.ndim + 1), -2, 0)
        explained = (columns * other.covariance_matvec(columns)).sum((0, -1))
        return self.diagonal.precision_trace(other) - explained

    # A square root of I + Z Z' is I + Z M Z' with M = (I + C)^-1 and C C' = I + Z' Z; its inverse
    # is I - Z (I + C')^-1 C^-1 Z'. Here Z' holds the scaled loadings, all inside the subspace.

    def tangent(self, coordinates: Array) -> Array:
        white = self.diagonal.null_space.embed(coordinates)
        factors = solve_lower(self._shifted(), matvec(self.scaled_loadings, white))
        white = white + matvec(self.scaled_loadings.mT, factors)
        return lift(self.diagonal.scale, white.ndim) * white

    def coordinates(self, deviation: Array) -> Array:
        scaled = deviation / lift(self.diagonal.scale, deviation.ndim)
        half = solve_lower(self.capacitance, matvec(self.scaled_loadings, scaled))
        factors = solve_lower_adjoint(self._shifted(), half)
        white = scaled - matvec(self.scaled_loadings.mT, factors)
        return self.diagonal.null_space.extract(white)

    def _shifted(self) -> Array:
        return self.capacitance + _identity_like(self.capacitance)


def _capacitance(product: Array) -> Array:
    """Cholesky factor of ``I + Z Z'`` from Z Z' ``(*batch, q, q)``."""
    return cholesky(product + _identity_like(product), "the capacitance of cov_factor")


def _identity_like(matrix: Array) -> Array:
    return lift(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.ndim)


def _half_log_det(factor: Array) -> Array:
    return jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
