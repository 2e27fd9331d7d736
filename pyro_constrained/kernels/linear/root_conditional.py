"""Laws conditioned on ``A x = k`` whose covariance is L L', by the root L.

The constraint is that of white noise: S e = c - B loc for x = loc + L e and S = B L.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import (
    add_matvec,
    diagonal,
    gram_root,
    matvec,
    solve_lower,
    solve_lower_adjoint,
    take,
)
from pyro_constrained.kernels.arrays.long_vectors import standardised, sum_of_squares
from pyro_constrained.kernels.linear.conditional import Conditional, leading_identity
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.null_space import NullSpace
from pyro_constrained.kernels.linear.whitening import BalancedRows, UniformRows, WhiteRows, whiten

__all__ = ["DenseConditional", "DiagonalConditional", "UniformConditional"]


class _WhitenedConditional(Conditional):
    """Sigma = L L' with an invertible L that the subclass multiplies and divides by."""

    def __init__(
        self, loc: Tensor, whitened: WhiteRows, log_det: Tensor, constraint: LinearConstraint
    ) -> None:
        self.constraint, self.whitened, self.loc = constraint, whitened, loc
        self.rows, self.gram = whitened.rows, whitened.gram
        self.noise_size = loc.shape[-1]
        self.half_log_det = log_det - whitened.half_log_det
        self.gap = whitened.gap(loc)

    @property
    def constraint_half_log_det(self) -> Tensor:  # type: ignore[override]
        return self.whitened.half_log_det

    # What a call may not need is made when it is asked for, within the graph.

    @lazy_property
    def white_excess(self) -> Tensor:
        """``(*batch, n)`` minus the shortest white step that closes the gap of loc: what a density
        adds to a deviation, without a derivative that changes its sign."""
        return self.gram.closing(self.rows, -self.gap)

    @property
    def white_gap(self) -> Tensor:
        """``(*batch, n)`` that step."""
        return -self.white_excess

    @lazy_property
    def mean(self) -> Tensor:
        return self._multiply_add(self.loc, self.white_gap)

    @lazy_property
    def surprise(self) -> Tensor:
        return sum_of_squares(self.white_excess)

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

    def _standardised(self, value: Tensor) -> Tensor:
        """``L^-1 (value - loc)``."""
        return self._divide(value - self.loc)

    def _projected(self, noise: Tensor) -> Tensor:
        """The noise, less what the constraint determines of it."""
        return self.gram.projected(self.rows, noise)

    def deviation(self, noise: Tensor) -> Tensor:
        return self._multiply(self._projected(noise))

    def draw(self, noise: Tensor) -> Tensor:
        white = self.gram.kriged(self.rows, noise, self.gap)
        return self.settle(self._multiply_add(self.loc, white))

    def closing(self, value: Tensor) -> Tensor:
        return self._multiply(self.gram.closing(self.rows, self.whitened.gap(value)))

    def settle(self, value: Tensor) -> Tensor:
        if isinstance(self.constraint.rank, int) and self.constraint.free_size == 0:
            return self._flushed(self.constraint.settle(value, count=3))  # one point for any scales
        return self.whitened.settle(super().settle(value))

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        return sum_of_squares(self._divide(deviation))

    def white_deviation(self, value: Tensor) -> Tensor:
        """``(*batch, n)`` L^-1 (value - mean)."""
        return self._standardised(value) + self.white_excess

    def distance(self, value: Tensor) -> Tensor:
        return sum_of_squares(self.white_deviation(value))

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        return self.deviation(self._multiply_adjoint(vector))

    def to_base(self, value: Tensor) -> Tensor:
        return self._projected(self._divide(value - self.mean))

    def num_corrections(self) -> int:
        if isinstance(self.whitened, BalancedRows):
            # Accelerators solve by inverses of blocks, which leave a larger gap.
            return 2 if self.loc.device.type == "cpu" else 3
        count = super().num_corrections()
        return 1 if count == 2 and self.is_even() else count


class _ScaledConditional(_WhitenedConditional):
    """Sigma = diag(scale^2), for n scales or one."""

    scale: Tensor

    def _multiply(self, vector: Tensor) -> Tensor:
        return self.scale * vector

    def _multiply_add(self, base: Tensor, vector: Tensor) -> Tensor:
        return base + self.scale * vector

    def _multiply_adjoint(self, vector: Tensor) -> Tensor:
        return self.scale * vector

    def _divide(self, vector: Tensor) -> Tensor:
        return vector / self.scale

    def _standardised(self, value: Tensor) -> Tensor:
        return standardised(value, self.loc, self.scale)

    def variance(self) -> Tensor:
        share = self.completion.free_share()
        return self.scale.square() * self.constraint.matrix.without_determined(share)

    def precision_trace(self, other: Conditional) -> Tensor:
        return (other.variance() / self.scale.square()).sum(-1)

    @property
    @abstractmethod
    def null_space(self) -> NullSpace | None:
        """Orthonormal basis of the white noises that keep the constraint, continuous in the scale;
        None where that cannot be, under a matrix that itself moves, or would not be sparse."""

    @property
    def base_size(self) -> int:
        return self.noise_size if self.null_space is None else self.constraint.free_size

    def from_base(self, noise: Tensor) -> Tensor:
        if self.null_space is None:
            return self.draw(noise)
        return self.settle(self._multiply_add(self.mean, self.null_space.embed(noise)))

    def to_base(self, value: Tensor) -> Tensor:
        if self.null_space is None:
            return super().to_base(value)
        return self.null_space.extract(self._divide(value - self.mean))


class DiagonalConditional(_ScaledConditional):
    """Sigma = diag(scale^2), scale ``(*batch, n)``."""

    def __init__(self, loc: Tensor, scale: Tensor, constraint: LinearConstraint) -> None:
        self.scale = scale
        whitened = whiten(constraint, lambda rows: rows.scaled(scale), lambda: scale)
        super().__init__(loc, whitened, scale.log().sum(-1), constraint)

    @property
    def size(self) -> Tensor:
        return self.scale

    @lazy_property
    def null_space(self) -> NullSpace | None:
        if not self.constraint.has_basis:
            return None
        return self.constraint.matrix.scaled_null_space(self.scale)


class UniformConditional(_ScaledConditional):
    """Sigma = scale^2 I, scale ``(*batch, 1)``.

    All that is factored is the constraint, which was when it was analysed, whatever the scale.
    """

    def __init__(self, loc: Tensor, scale: Tensor, constraint: LinearConstraint) -> None:
        self.scale = scale
        whitened = UniformRows(constraint, scale)
        log_det = loc.shape[-1] * scale.log()[..., 0]
        super().__init__(loc, whitened, log_det, constraint)

    @property
    def size(self) -> Tensor:
        return self.scale.expand(self.scale.shape[:-1] + self.loc.shape[-1:])

    def settle(self, value: Tensor) -> Tensor:
        own = self.constraint.matrix.own is not None
        step = self.constraint.own_step if own else None
        return self._flushed(self.constraint.settle(value, step, self.num_corrections()))

    @lazy_property
    def null_space(self) -> NullSpace | None:
        return self.constraint.null_space() if self.constraint.has_basis else None


class DenseConditional(_WhitenedConditional):
    """Sigma = L L' with lower triangular L ``(*batch, n, n)``."""

    def __init__(self, loc: Tensor, scale_tril: Tensor, constraint: LinearConstraint) -> None:
        self.scale_tril = scale_tril
        whitened = whiten(constraint, lambda rows: rows.transform(scale_tril), lambda: self.size)
        super().__init__(loc, whitened, diagonal(scale_tril).log().sum(-1), constraint)

    def _multiply(self, vector: Tensor) -> Tensor:
        return matvec(self.scale_tril, vector)

    def _multiply_add(self, base: Tensor, vector: Tensor) -> Tensor:
        return add_matvec(base, self.scale_tril, vector)

    def _multiply_adjoint(self, vector: Tensor) -> Tensor:
        return matvec(self.scale_tril.mT, vector)

    def _divide(self, vector: Tensor) -> Tensor:
        return solve_lower(self.scale_tril, vector)

    @property
    def size(self) -> Tensor:
        return torch.linalg.vector_norm(self.scale_tril, dim=-1)

    def variance(self) -> Tensor:
        rows = self._multiply_adjoint(leading_identity(self.noise_size, self))
        left = self._projected(rows)
        columns = self.completion.fill(left.movedim(0, -1).movedim(-2, 0))
        return self.constraint.matrix.without_determined(columns.square().sum(0))

    @lazy_property
    def _reduced(self) -> tuple[Tensor, Tensor, Tensor]:
        """Free variables, the basis of the null space in which they are the coordinates, and a
        triangular root of the precision in it: continuous in L, as its diagonal is positive."""
        free, basis = self.constraint.matrix.elimination()
        white = torch.linalg.solve_triangular(
            self.scale_tril, basis.expand(self.scale_tril.shape[:-1] + (-1,)), upper=False
        )
        return free, basis, gram_root(white)

    @property
    def base_size(self) -> int:
        return self.constraint.free_size if self.constraint.is_fixed else self.noise_size

    def from_base(self, noise: Tensor) -> Tensor:
        if not self.constraint.is_fixed:
            return self.draw(noise)
        _, basis, root = self._reduced
        return self.settle(add_matvec(self.mean, basis, solve_lower_adjoint(root, noise)))

    def to_base(self, value: Tensor) -> Tensor:
        if not self.constraint.is_fixed:
            return super().to_base(value)
        free, _, root = self._reduced
        return matvec(root.mT, take(value - self.mean, free))

    def precision_trace(self, other: Conditional) -> Tensor:
        unit_noise = leading_identity(other.noise_size, other, self)
        return self.mahalanobis(other.deviation(unit_noise)).sum(0)
