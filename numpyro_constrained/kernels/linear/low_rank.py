"""A diagonal plus low-rank law conditioned on ``A x = k``."""

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import (
    diagonal,
    gram_root,
    identity_like,
    lift,
    matvec,
    solve_lower,
    solve_lower_adjoint,
    solve_lower_matrix,
)
from numpyro_constrained.kernels.linear.conditional import Conditional
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.root_conditional import DiagonalConditional

__all__ = ["LowRankConditional"]


class LowRankConditional(Conditional):
    """Sigma = W W' + diag(scale^2), W ``(*batch, n, q)``; nothing is n x n, F stays structured.

    With x = z + W e and z diagonal, conditioning z, then the q entries of e, gives a constrained
    diagonal law plus a low-rank part whose loadings lie inside the subspace. In white coordinates,
    V = W / scale is split into what the rows explain and what they leave.
    """

    def __init__(
        self, loc: Array, cov_factor: Array, scale: Array, constraint: LinearConstraint
    ) -> None:
        self.constraint, self.loc, self.cov_factor = constraint, loc, cov_factor
        self.diagonal = DiagonalConditional(loc, scale, constraint)
        self.noise_size = loc.shape[-1] + cov_factor.shape[-1]
        loadings = jnp.moveaxis(cov_factor, -1, 0)
        white = loadings / lift(scale, loadings.ndim)
        explained = self.diagonal.whitened.explained(white)
        left = jnp.moveaxis(lift(white, explained.ndim) - explained, 0, -2)
        self._explained = jnp.moveaxis(explained, 0, -2)
        self._posterior = _root_of_one_plus(self._explained)
        self.white_loadings = solve_lower_matrix(self._posterior, left)
        self.loadings = scale[..., None, :] * self.white_loadings
        self.capacitance = _root_of_one_plus(self.white_loadings)
        self.half_log_det = self.diagonal.half_log_det + _half_log_det(self.capacitance)
        self.constraint_half_log_det = self.diagonal.constraint_half_log_det + _half_log_det(
            self._posterior
        )

    @property
    @folded
    def _shift(self) -> Array:
        """``(*batch, q)`` mean of the factors, times the adjoint of their posterior root."""
        return solve_lower(self._posterior, matvec(self._explained, self.diagonal.white_gap))

    @property
    @folded
    def mean(self) -> Array:  # type: ignore[override]
        return self.diagonal.mean + matvec(self.loadings.mT, self._shift)

    @property
    def surprise(self) -> Array:
        # As a sum of squares: a difference of them would lose the small ones.
        factors = solve_lower_adjoint(self._posterior, self._shift)
        rest = self.diagonal.white_gap - matvec(self._explained.mT, factors)
        return jnp.square(rest).sum(-1) + jnp.square(factors).sum(-1)

    def deviation(self, noise: Array) -> Array:
        num_variables = self.loc.shape[-1]
        low_rank = matvec(self.loadings.mT, noise[..., num_variables:])
        return self.diagonal.deviation(noise[..., :num_variables]) + low_rank

    def closing(self, value: Array) -> Array:
        return self.diagonal.closing(value)

    def settle(self, value: Array) -> Array:
        return self.diagonal.whitened.settle(super().settle(value))

    def mahalanobis(self, deviation: Array) -> Array:
        # The least |rest|^2 + |factors|^2, so that an error of the factors counts by its square;
        # but it is as large as the deviation beside the small scales.
        scaled = deviation / lift(self.diagonal.scale, deviation.ndim)
        factors = self._explaining(matvec(self.white_loadings, scaled))
        rest = scaled - matvec(self.white_loadings.mT, factors)
        more = self._explaining(matvec(self.white_loadings, rest) - factors)
        factors, rest = factors + more, rest - matvec(self.white_loadings.mT, more)
        return jnp.square(rest).sum(-1) + jnp.square(factors).sum(-1)

    def _explaining(self, vector: Array) -> Array:
        return solve_lower_adjoint(self.capacitance, solve_lower(self.capacitance, vector))

    @property
    def size(self) -> Array:
        return jnp.sqrt(jnp.square(self.diagonal.scale) + jnp.square(self.cov_factor).sum(-1))

    def variance(self) -> Array:
        loadings = self.completion.fill(jnp.moveaxis(self.loadings, -2, 0))
        low_rank = self.constraint.matrix.without_determined(jnp.square(loadings).sum(0))
        return self.diagonal.variance() + low_rank

    def covariance_matvec(self, vector: Array) -> Array:
        low_rank = matvec(self.loadings.mT, matvec(self.loadings, vector))
        return self.diagonal.covariance_matvec(vector) + low_rank

    def precision_trace(self, other: Conditional) -> Array:
        scaled = self.white_loadings / self.diagonal.scale[..., None, :]
        explaining = solve_lower_matrix(self.capacitance, scaled)
        columns = jnp.moveaxis(lift(explaining, other.loc.ndim + 1), -2, 0)
        explained = (columns * other.covariance_matvec(columns)).sum((0, -1))
        return self.diagonal.precision_trace(other) - explained

    # A square root of I + Z Z' is I + Z M Z' with M = (I + C)^-1 and C C' = I + Z' Z; its inverse
    # is I - Z (I + C')^-1 C^-1 Z'. Here Z' holds the white loadings, all inside the subspace.

    @property
    def base_size(self) -> int:
        return self.diagonal.base_size if self.constraint.has_fixed_basis else self.noise_size

    def from_base(self, noise: Array) -> Array:
        if not self.constraint.has_fixed_basis:
            return self.draw(noise)
        white = self.diagonal.null_space.embed(noise)
        factors = solve_lower(self._shifted(), matvec(self.white_loadings, white))
        white = white + matvec(self.white_loadings.mT, factors)
        return self.settle(
            lift(self.mean, white.ndim) + lift(self.diagonal.scale, white.ndim) * white
        )

    def to_base(self, value: Array) -> Array:
        scaled = (value - lift(self.mean, value.ndim)) / lift(self.diagonal.scale, value.ndim)
        half = solve_lower(self.capacitance, matvec(self.white_loadings, scaled))
        if not self.constraint.has_fixed_basis:
            factors = solve_lower_adjoint(self.capacitance, half)
            rest = scaled - matvec(self.white_loadings.mT, factors)
            return jnp.concatenate([rest, factors], -1)
        factors = solve_lower_adjoint(self._shifted(), half)
        white = scaled - matvec(self.white_loadings.mT, factors)
        return self.diagonal.null_space.extract(white)

    def _shifted(self) -> Array:
        return self.capacitance + identity_like(self.capacitance)


def _root_of_one_plus(tall: Array) -> Array:
    """Lower triangular C with a positive diagonal and ``C C' = I + Z Z'``, Z ``(*batch, q, n)``."""
    size = tall.shape[-2]
    identity = jnp.broadcast_to(jnp.eye(size, dtype=tall.dtype), (*tall.shape[:-2], size, size))
    return gram_root(jnp.concatenate([tall.mT, identity], -2))


def _half_log_det(factor: Array) -> Array:
    return jnp.log(diagonal(factor)).sum(-1)
