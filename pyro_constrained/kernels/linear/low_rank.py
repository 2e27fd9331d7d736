"""A diagonal plus low-rank law conditioned on ``A x = k``."""

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import (
    diagonal,
    gram_root,
    identity_like,
    matvec,
    solve_lower,
    solve_lower_adjoint,
)
from pyro_constrained.kernels.arrays.long_vectors import sum_of_squares
from pyro_constrained.kernels.linear.conditional import Conditional, leading_rows
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.root_conditional import DiagonalConditional

__all__ = ["LowRankConditional"]


class LowRankConditional(Conditional):
    """Sigma = W W' + diag(scale^2), W ``(*batch, n, q)``; nothing is n x n, F stays structured.

    With x = z + W e and z diagonal, conditioning z, then the q entries of e, gives a constrained
    diagonal law plus a low-rank part whose loadings lie inside the subspace. In white coordinates,
    V = W / scale is split into what the rows explain and what they leave.
    """

    def __init__(
        self, loc: Tensor, cov_factor: Tensor, scale: Tensor, constraint: LinearConstraint
    ) -> None:
        self.constraint, self.loc, self.cov_factor = constraint, loc, cov_factor
        self.diagonal = DiagonalConditional(loc, scale, constraint)
        self.noise_size = loc.shape[-1] + cov_factor.shape[-1]
        cov_factor = cov_factor.reshape((1,) * (loc.ndim + 1 - cov_factor.ndim) + cov_factor.shape)
        rows, gram = self.diagonal.rows, self.diagonal.gram
        white = cov_factor.movedim(-1, 0) / scale
        explained = gram.closing(rows, rows.apply(white))
        left = (white - explained).movedim(0, -2)
        self._explained = explained.movedim(0, -2)
        self._posterior = _root_of_one_plus(self._explained)
        self.white_loadings = torch.linalg.solve_triangular(self._posterior, left, upper=False)
        self.loadings = scale[..., None, :] * self.white_loadings
        self.capacitance = _root_of_one_plus(self.white_loadings)
        self.half_log_det = self.diagonal.half_log_det + _half_log_det(self.capacitance)
        explained_half_log_det = _half_log_det(self._posterior)
        self.constraint_half_log_det = (
            self.diagonal.constraint_half_log_det + explained_half_log_det
        )

    @lazy_property
    def _white_gap(self) -> Tensor:
        """``(*batch, n)`` the shortest white step that closes the gap of loc."""
        return self.diagonal.white_gap

    @lazy_property
    def _shift(self) -> Tensor:
        """``(*batch, q)`` mean of the factors, times the adjoint of their posterior root."""
        return solve_lower(self._posterior, matvec(self._explained, self._white_gap))

    @lazy_property
    def mean(self) -> Tensor:
        return self.diagonal.mean + matvec(self.loadings.mT, self._shift)

    @lazy_property
    def surprise(self) -> Tensor:
        # As a sum of squares: a difference of them would lose the small ones.
        factors = solve_lower_adjoint(self._posterior, self._shift)
        rest = self._white_gap - matvec(self._explained.mT, factors)
        return sum_of_squares(rest) + sum_of_squares(factors)

    def deviation(self, noise: Tensor) -> Tensor:
        num_variables = self.loc.shape[-1]
        low_rank = matvec(self.loadings.mT, noise[..., num_variables:])
        return self.diagonal.deviation(noise[..., :num_variables]) + low_rank

    def closing(self, value: Tensor) -> Tensor:
        return self.diagonal.closing(value)

    def settle(self, value: Tensor) -> Tensor:
        return self.diagonal.whitened.settle(super().settle(value))

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        # The least |rest|^2 + |factors|^2, so that an error of the factors counts by its square;
        # but it is as large as the deviation beside the small scales.
        scaled = deviation / self.diagonal.scale
        factors = self._explaining(matvec(self.white_loadings, scaled))
        rest = scaled - matvec(self.white_loadings.mT, factors)
        more = self._explaining(matvec(self.white_loadings, rest) - factors)
        factors, rest = factors + more, rest - matvec(self.white_loadings.mT, more)
        return sum_of_squares(rest) + sum_of_squares(factors)

    def _explaining(self, vector: Tensor) -> Tensor:
        return solve_lower_adjoint(self.capacitance, solve_lower(self.capacitance, vector))

    @property
    def size(self) -> Tensor:
        return (self.diagonal.scale.square() + self.cov_factor.square().sum(-1)).sqrt()

    def variance(self) -> Tensor:
        loadings = self.completion.fill(self.loadings.movedim(-2, 0))
        low_rank = self.constraint.matrix.without_determined(loadings.square().sum(0))
        return self.diagonal.variance() + low_rank

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        low_rank = matvec(self.loadings.mT, matvec(self.loadings, vector))
        return self.diagonal.covariance_matvec(vector) + low_rank

    def precision_trace(self, other: Conditional) -> Tensor:
        explaining = torch.linalg.solve_triangular(
            self.capacitance, self.white_loadings / self.diagonal.scale[..., None, :], upper=False
        )
        columns = leading_rows(explaining, self, other)
        explained = (columns * other.covariance_matvec(columns)).sum((0, -1))
        return self.diagonal.precision_trace(other) - explained

    # A square root of I + Z Z' is I + Z M Z' with M = (I + C)^-1 and C C' = I + Z' Z; its inverse
    # is I - Z (I + C')^-1 C^-1 Z'. Here Z' holds the white loadings, all inside the subspace.

    @property
    def base_size(self) -> int:
        if self.diagonal.null_space is None:
            return self.noise_size
        return self.diagonal.base_size

    def from_base(self, noise: Tensor) -> Tensor:
        if self.diagonal.null_space is None:
            return self.draw(noise)
        white = self.diagonal.null_space.embed(noise)
        factors = solve_lower(self._shifted(), matvec(self.white_loadings, white))
        white = white + matvec(self.white_loadings.mT, factors)
        return self.settle(self.mean + self.diagonal.scale * white)

    def to_base(self, value: Tensor) -> Tensor:
        deviation = value - self.mean
        scaled = deviation / self.diagonal.scale
        half = solve_lower(self.capacitance, matvec(self.white_loadings, scaled))
        if self.diagonal.null_space is None:
            factors = solve_lower_adjoint(self.capacitance, half)
            return torch.cat([scaled - matvec(self.white_loadings.mT, factors), factors], -1)
        factors = solve_lower_adjoint(self._shifted(), half)
        white = scaled - matvec(self.white_loadings.mT, factors)
        return self.diagonal.null_space.extract(white)

    def _shifted(self) -> Tensor:
        return identity_like(self.capacitance) + self.capacitance


def _root_of_one_plus(tall: Tensor) -> Tensor:
    """Lower triangular C with a positive diagonal and ``C C' = I + Z Z'``, Z ``(*batch, q, n)``."""
    size = tall.shape[-2]
    identity = torch.eye(size, dtype=tall.dtype, device=tall.device)
    identity = identity.expand(tall.shape[:-2] + (size, size))
    return gram_root(torch.cat([tall.mT, identity], -2))


def _half_log_det(factor: Tensor) -> Tensor:
    return diagonal(factor).log().sum(-1)
