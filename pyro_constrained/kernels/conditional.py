"""Location-scale laws conditioned on ``B x = c``.

For x = loc + L e with white noise e, the constraint is S e = c - B loc with S = B L. Conditioning
a draw is kriging (Matheron's rule): e - S' F^-1 S e with F = S S'. Nothing here depends on the
value that is scored, so each law computes it once.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from pyro_constrained.kernels.constraint import LinearConstraint
from pyro_constrained.kernels.linalg import (
    add_matvec,
    cholesky,
    matvec,
    solve_lower,
    solve_lower_adjoint,
    sum_of_squares,
)
from pyro_constrained.kernels.null_space import NullSpace
from pyro_constrained.kernels.rows import Balanced, Rows

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
    loc: Tensor
    mean: Tensor
    half_log_det: Tensor
    constraint_half_log_det: Tensor
    noise_size: int

    @property
    @abstractmethod
    def surprise(self) -> Tensor:
        """``(*batch,)`` (c - B loc)' F^-1 (c - B loc)."""

    @cached_property
    def settled_mean(self) -> Tensor:
        """``(*batch, n)`` the mean, on the subspace to the last bits."""
        with torch.enable_grad():
            return self.settle(self.mean)

    @abstractmethod
    def deviation(self, noise: Tensor) -> Tensor:
        """Draw of x - mean from white noise ``(..., noise_size)``."""

    def draw(self, noise: Tensor) -> Tensor:
        """Draw of x from white noise, on the subspace to the last bits."""
        return self.settle(self.mean + self.deviation(noise))

    @abstractmethod
    def gain(self, mismatch: Tensor) -> Tensor:
        """Sigma B' F^-1 mismatch: what to add to a point that misses c by ``mismatch``."""

    @abstractmethod
    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Squared length of a deviation in the metric of the conditional covariance."""

    def distance(self, value: Tensor) -> Tensor:
        """Squared length of ``value - mean`` in that metric."""
        return self.mahalanobis(value - self.mean)

    @abstractmethod
    def variance(self) -> Tensor:
        """``(*batch, n)`` diagonal of the conditional covariance."""

    @abstractmethod
    def covariance_matvec(self, vector: Tensor) -> Tensor:
        """Conditional covariance times ``vector``."""

    @abstractmethod
    def precision_trace(self, other: "Conditional") -> Tensor:
        """Trace of this law's inverse covariance times the covariance of ``other``."""

    @abstractmethod
    def tangent(self, coordinates: Tensor) -> Tensor:
        """Draw of x - mean from exactly n - r white-noise entries."""

    @abstractmethod
    def coordinates(self, deviation: Tensor) -> Tensor:
        """Inverse of ``tangent``."""

    def covariance(self) -> Tensor:
        """``(*batch, n, n)`` conditional covariance."""
        identity = _leading_identity(self.loc.shape[-1], self.loc)
        return self.covariance_matvec(identity).movedim(0, -2)

    def settle(self, value: Tensor) -> Tensor:
        """Move a draw onto the subspace to the last bits, within the covariance; no gradient."""
        with torch.no_grad():
            correction = self.gain(self.constraint.mismatch(value))
            correction = self.constraint.pin(value, correction)
        return value + correction


class _WhitenedConditional(Conditional):
    """Sigma = L L' with an invertible L that the subclass multiplies and divides by."""

    def __init__(
        self,
        loc: Tensor,
        rows: Rows,
        balanced: Balanced,
        log_det: Tensor,
        constraint: LinearConstraint,
    ) -> None:
        self.constraint, self.whitened_rows, self.balanced = constraint, rows, balanced
        self.rows, self.gram = balanced.rows, balanced.gram
        self.noise_size = loc.shape[-1]
        self.constraint_half_log_det = self.balanced.log_det + self.gram.half_log_det
        self.half_log_det = log_det - self.constraint_half_log_det + constraint.log_volume
        self.mismatch = self.balanced.reduce(constraint.target - constraint.rows.apply(loc))
        self.loc = loc

    # What a call may not need is made when it is asked for, within the graph.

    @cached_property
    def multipliers(self) -> Tensor:
        """``(*batch, r)`` F^-1 mismatch."""
        with torch.enable_grad():
            return self.gram.solve(self.mismatch)

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        with torch.enable_grad():
            return self._multiply_add(self.loc, self.rows.adjoint(self.multipliers))

    @cached_property
    def surprise(self) -> Tensor:
        with torch.enable_grad():
            return (self.mismatch * self.multipliers).sum(-1)

    @abstractmethod
    def _multiply(self, vector: Tensor) -> Tensor:
        """``L vector``."""

    @abstractmethod
    def _multiply_add(self, base: Tensor, vector: Tensor) -> Tensor:
        """``base + L vector``."""

    @abstractmethod
    def _multiply_adjoint(self, vector: Tensor) -> Tensor:
        """``L' vector``."""

    @abstractmethod
    def _divide(self, vector: Tensor) -> Tensor:
        """``L^-1 vector``."""

    def deviation(self, noise: Tensor) -> Tensor:
        multipliers = self.gram.solve(-self.rows.apply(noise))
        return self._multiply(self.rows.add_adjoint(noise, multipliers))

    def draw(self, noise: Tensor) -> Tensor:
        multipliers = self.gram.solve(self.mismatch - self.rows.apply(noise))
        white = self.rows.add_adjoint(noise, multipliers)
        return self.settle(self._multiply_add(self.loc, white))

    def gain(self, mismatch: Tensor) -> Tensor:
        multipliers = self.gram.solve(self.balanced.reduce(mismatch))
        return self._multiply(self.rows.adjoint(multipliers))

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        return sum_of_squares(self._divide(deviation))

    def distance(self, value: Tensor) -> Tensor:
        white = self._divide(value - self.loc)
        return sum_of_squares(self.rows.add_adjoint(white, -self.multipliers))

    @cached_property
    def null_space(self) -> NullSpace:
        """Orthonormal basis of the white noises that keep the constraint."""
        with torch.enable_grad():
            return self.whitened_rows.null_space()

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        return self.deviation(self._multiply_adjoint(vector))

    def tangent(self, coordinates: Tensor) -> Tensor:
        return self._multiply(self.null_space.embed(coordinates))

    def coordinates(self, deviation: Tensor) -> Tensor:
        return self.null_space.extract(self._divide(deviation))


class DiagonalConditional(_WhitenedConditional):
    """Sigma = diag(scale^2), scale ``(*batch, n)``."""

    def __init__(self, loc: Tensor, scale: Tensor, constraint: LinearConstraint) -> None:
        self.scale = scale
        rows, log_det = constraint.rows.scaled(scale), scale.log().sum(-1)
        super().__init__(loc, rows, rows.balanced(), log_det, constraint)

    def _multiply(self, vector: Tensor) -> Tensor:
        return self.scale * vector

    def _multiply_add(self, base: Tensor, vector: Tensor) -> Tensor:
        return torch.addcmul(base, self.scale, vector)

    def _multiply_adjoint(self, vector: Tensor) -> Tensor:
        return self.scale * vector

    def _divide(self, vector: Tensor) -> Tensor:
        return vector / self.scale

    def variance(self) -> Tensor:
        free = 1 - self.rows.leverage(self.gram)
        return self.scale.square() * _above_rounding(free, self.constraint)

    def precision_trace(self, other: Conditional) -> Tensor:
        return (other.variance() / self.scale.square()).sum(-1)


class UniformConditional(DiagonalConditional):
    """Sigma = scale^2 I, scale ``(*batch, 1)``.

    All that is factored is the constraint, which was when it was analysed, whatever the scale.
    """

    def __init__(self, loc: Tensor, scale: Tensor, constraint: LinearConstraint) -> None:
        self.scale = scale
        rows, log_det = constraint.rows, loc.shape[-1] * scale.log()[..., 0]
        balanced = Balanced(rows, constraint.gram).times(scale)
        _WhitenedConditional.__init__(self, loc, rows, balanced, log_det, constraint)

    @cached_property
    def null_space(self) -> NullSpace:
        with torch.enable_grad():
            return self.constraint.null_space()

    def settle(self, value: Tensor) -> Tensor:
        return self.constraint.settle(value)


class DenseConditional(_WhitenedConditional):
    """Sigma = L L' with lower triangular L ``(*batch, n, n)``."""

    def __init__(self, loc: Tensor, scale_tril: Tensor, constraint: LinearConstraint) -> None:
        self.scale_tril = scale_tril
        log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        rows = constraint.rows.transform(scale_tril)
        super().__init__(loc, rows, rows.balanced(), log_det, constraint)

    def _multiply(self, vector: Tensor) -> Tensor:
        return matvec(self.scale_tril, vector)

    def _multiply_add(self, base: Tensor, vector: Tensor) -> Tensor:
        return add_matvec(base, self.scale_tril, vector)

    def _multiply_adjoint(self, vector: Tensor) -> Tensor:
        return matvec(self.scale_tril.mT, vector)

    def _divide(self, vector: Tensor) -> Tensor:
        return solve_lower(self.scale_tril, vector)

    def variance(self) -> Tensor:
        variance = self.scale_tril.square().sum(-1)
        free = 1 - self.rows.transform(self.scale_tril.mT).leverage(self.gram) / variance
        return variance * _above_rounding(free, self.constraint)

    def precision_trace(self, other: Conditional) -> Tensor:
        unit_noise = _leading_identity(other.noise_size, other.loc)
        return self.mahalanobis(other.deviation(unit_noise)).sum(0)


def _above_rounding(free: Tensor, constraint: LinearConstraint) -> Tensor:
    """Share of a variance that is left; exactly 0 where the constraint determines the variable."""
    floor = 8 * (constraint.rank + 1) * torch.finfo(free.dtype).eps
    return torch.where(free > floor, free, 0.0) if constraint.free_size else 0.0 * free


def _leading_identity(size: int, like: Tensor) -> Tensor:
    """``(size, 1, ..., 1, size)``: unit vectors as samples of a law whose loc is ``like``."""
    identity = torch.eye(size, dtype=like.dtype, device=like.device)
    return identity.reshape((size,) + (1,) * (like.ndim - 1) + (size,))


class LowRankConditional(Conditional):
    """Sigma = W W' + diag(scale^2), W ``(*batch, n, q)``; nothing is n x n, F stays structured.

    With x = z + W e and z diagonal, conditioning z, then the q entries of e, gives a constrained
    diagonal law plus a low-rank part whose loadings lie inside the subspace.
    """

    def __init__(
        self, loc: Tensor, cov_factor: Tensor, scale: Tensor, constraint: LinearConstraint
    ) -> None:
        self.constraint = constraint
        self.loc = loc
        self.diagonal = diagonal = DiagonalConditional(loc, scale, constraint)
        self.noise_size = loc.shape[-1] + cov_factor.shape[-1]
        cov_factor = cov_factor.reshape((1,) * (loc.ndim + 1 - cov_factor.ndim) + cov_factor.shape)
        loadings = cov_factor.movedim(-1, 0)
        moved = diagonal.balanced.reduce(constraint.rows.apply(loadings))
        multipliers = diagonal.gram.solve(moved)
        free = (loadings - scale * diagonal.rows.adjoint(multipliers)).movedim(0, -2)
        moved = moved.movedim(0, -2)
        posterior = _capacitance(moved @ multipliers.movedim(0, -1))
        self.loadings = torch.linalg.solve_triangular(posterior, free, upper=False)
        self.scaled_loadings = self.loadings / scale[..., None, :]
        self.capacitance = _capacitance(self.scaled_loadings @ self.scaled_loadings.mT)
        self.shift = solve_lower(posterior, matvec(moved, diagonal.multipliers))
        self.mean = diagonal.mean + matvec(self.loadings.mT, self.shift)
        self.half_log_det = diagonal.half_log_det + _half_log_det(self.capacitance)
        self.constraint_half_log_det = diagonal.constraint_half_log_det + _half_log_det(posterior)

    @cached_property
    def surprise(self) -> Tensor:
        with torch.enable_grad():
            return self.diagonal.surprise - sum_of_squares(self.shift)

    def deviation(self, noise: Tensor) -> Tensor:
        num_variables = self.loc.shape[-1]
        low_rank = matvec(self.loadings.mT, noise[..., num_variables:])
        return self.diagonal.deviation(noise[..., :num_variables]) + low_rank

    def gain(self, mismatch: Tensor) -> Tensor:
        return self.diagonal.gain(mismatch)

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        scaled = deviation / self.diagonal.scale
        half = solve_lower(self.capacitance, matvec(self.scaled_loadings, scaled))
        factors = solve_lower_adjoint(self.capacitance, half)
        rest = scaled - matvec(self.scaled_loadings.mT, factors)
        return sum_of_squares(rest) + sum_of_squares(factors)

    def variance(self) -> Tensor:
        return self.diagonal.variance() + self.loadings.square().sum(-2)

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        low_rank = matvec(self.loadings.mT, matvec(self.loadings, vector))
        return self.diagonal.covariance_matvec(vector) + low_rank

    def precision_trace(self, other: Conditional) -> Tensor:
        explaining = torch.linalg.solve_triangular(
            self.capacitance, self.scaled_loadings / self.diagonal.scale[..., None, :], upper=False
        )
        columns = explaining.movedim(-2, 0)
        explained = (columns * other.covariance_matvec(columns)).sum((0, -1))
        return self.diagonal.precision_trace(other) - explained

    # A square root of I + Z Z' is I + Z M Z' with M = (I + C)^-1 and C C' = I + Z' Z; its inverse
    # is I - Z (I + C')^-1 C^-1 Z'. Here Z' holds the scaled loadings, all inside the subspace.

    def tangent(self, coordinates: Tensor) -> Tensor:
        white = self.diagonal.null_space.embed(coordinates)
        factors = solve_lower(self._shifted(), matvec(self.scaled_loadings, white))
        return self.diagonal.scale * (white + matvec(self.scaled_loadings.mT, factors))

    def coordinates(self, deviation: Tensor) -> Tensor:
        scaled = deviation / self.diagonal.scale
        half = solve_lower(self.capacitance, matvec(self.scaled_loadings, scaled))
        factors = solve_lower_adjoint(self._shifted(), half)
        white = scaled - matvec(self.scaled_loadings.mT, factors)
        return self.diagonal.null_space.extract(white)

    def _shifted(self) -> Tensor:
        size = self.capacitance.shape[-1]
        identity = torch.eye(size, dtype=self.mean.dtype, device=self.mean.device)
        return identity + self.capacitance


def _capacitance(product: Tensor) -> Tensor:
    """Cholesky factor of ``I + Z Z'`` from Z Z' ``(*batch, q, q)``."""
    identity = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    return cholesky(identity + product, "the capacitance of cov_factor")


def _half_log_det(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
