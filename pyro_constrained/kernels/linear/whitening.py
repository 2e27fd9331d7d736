"""The rows of a constraint in white coordinates: S = B L for x = loc + L e.

Their Gram matrix F = S S' is the covariance of B x. Where rows of S are at narrow angles, because
a variable of large scale dominates several of them, F would lose the others to rounding; then
balanced rows take the place of B.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_constrained.kernels.arrays.linalg import (
    diagonal,
    power_of_two_below,
    solve_lower,
    take,
)
from pyro_constrained.kernels.linear.completion import factor_by_size
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.gram import DenseGram, Gram, within_range
from pyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, Rows
from pyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = ["BalancedRows", "PlainRows", "UniformRows", "WhiteRows", "whiten"]

TimesRoot = Callable[[Rows], Rows]
"""Multiplies rows by L from the right."""


class WhiteRows(ABC):
    """Rows S that span what the constraint restricts of white noise.

    Attributes:
        constraint: the constraint.
        rows: S.
        gram: F = S S'.
        half_log_det: 1/2 log(det B Sigma B' / det B B'), whatever rows B are taken.
    """

    constraint: LinearConstraint
    rows: Rows
    gram: Gram
    half_log_det: Tensor

    @abstractmethod
    def gap(self, value: Tensor) -> Tensor:
        """What a value misses, in the rows that S was made from."""

    def settle(self, value: Tensor) -> Tensor:
        """The value, after what a row may need beyond steps within the covariance; no gradient."""
        return value


class PlainRows(WhiteRows):
    """S = B L."""

    def __init__(self, constraint: LinearConstraint, rows: Rows, gram: Gram) -> None:
        self.constraint, self.rows, self.gram = constraint, rows, gram
        self.half_log_det = gram.half_log_det - constraint.matrix.half_log_det

    def gap(self, value: Tensor) -> Tensor:
        return self.constraint.matrix.reduce(self.constraint.gap(value))


class UniformRows(WhiteRows):
    """L = scale I, scale ``(*batch, 1)``: all that is factored is the constraint; S is B."""

    def __init__(self, constraint: LinearConstraint, scale: Tensor) -> None:
        self.constraint, self.scale = constraint, scale
        self.rows, self.gram = constraint.matrix.rows, constraint.matrix.gram
        self.half_log_det = constraint.real_rank * scale.log()[..., 0]

    def gap(self, value: Tensor) -> Tensor:
        return self.constraint.matrix.reduce(self.constraint.gap(value)) / self.scale


class BalancedRows(WhiteRows):
    """Rows that follow from those with the fewest rounding errors by elimination of variables, the
    largest first: what is said of variables of 1e-6 does not drown in what is said of 1e6.

    The triangle T of the elimination is a constant: nothing that the row space determines depends
    on it.

    Args:
        constraint: the constraint.
        times_root: multiplies rows by L from the right.
        size: ``(*batch, n)`` lengths of the rows of L, the scales of the variables.
        variances: ``(*batch, r)`` of B x, NaN where there is no law.
    """

    def __init__(
        self,
        constraint: LinearConstraint,
        times_root: TimesRoot,
        size: Tensor,
        variances: Tensor,
    ) -> None:
        self.constraint, matrix = constraint, constraint.matrix
        # Powers of two, by which products and quotients are exact, on accelerators too.
        self._scale = power_of_two_below(size.to(torch.float64))
        exact = matrix.exact_rows.dense().to(torch.float64)
        packed, order = factor_by_size(exact.detach() * self._scale[..., None, :])
        self._place = torch.argsort(order, -1)
        self._top = packed[..., : matrix.exact_rows.size, :].mT
        self._triangle = matrix.padded(self._top.tril())
        self._eliminated = DenseRows(self._eliminate_rows(exact).to(size.dtype))
        self._target = self._eliminate(constraint.scaled_k).to(size.dtype)
        self.rows = rows = times_root(self._eliminated)
        assert isinstance(rows, DenseRows)
        is_law = variances.detach().isnan().logical_not_().all(-1)
        gram_matrix = matrix.padded(rows.gram_matrix())
        self.gram = DenseGram.of(torch.where(is_law[..., None, None], gram_matrix, torch.nan))
        log_det = diagonal(self._triangle).abs().log().sum(-1).to(size.dtype)
        self.half_log_det = self.gram.half_log_det + log_det - matrix.exact_half_log_det

    def _eliminate_rows(self, exact: Tensor) -> Tensor:
        rows = torch.linalg.solve_triangular(self._triangle, exact, upper=False)
        # What was eliminated is zero, whatever rounding left of it; derivatives stay.
        step = torch.arange(rows.shape[-2], device=rows.device)[:, None]
        return rows - rows.detach().masked_fill(self._place[..., None, :] >= step, 0.0)

    def _eliminate(self, gap: Tensor) -> Tensor:
        gap = self.constraint.matrix.reduce_exactly(gap)
        return solve_lower(self._triangle, gap.to(torch.float64))

    def gap(self, value: Tensor) -> Tensor:
        return self._target - self._eliminated.sums(value)

    def settle(self, value: Tensor) -> Tensor:
        # What is rounding in eliminated rows may be more than that in those of A. A gap that is
        # rounding there stays: to close it would move small variables.
        return self.constraint.settle(value, self._closing, 3)

    def _closing(self, value: Tensor) -> Tensor:
        """A step of the variables that were eliminated."""
        gap = self._eliminate(self.constraint.excess(value))[..., None]
        pivots = torch.linalg.solve_triangular(self._top, gap, upper=True, unitriangular=True)
        step = pad(pivots[..., 0], (0, self._scale.shape[-1] - pivots.shape[-2]))
        return (self._scale * take(step, self._place)).to(value.dtype)


def whiten(
    constraint: LinearConstraint, times_root: TimesRoot, size: Callable[[], Tensor]
) -> WhiteRows:
    """S for the root L of a covariance, balanced where that is needed or cannot be known.

    Args:
        constraint: the constraint.
        times_root: multiplies rows by L from the right.
        size: ``(*batch, n)`` lengths of the rows of L.
    """
    rows = times_root(constraint.matrix.rows)
    # Rows that share no variable are orthogonal under any scales; those of a saddle-point matrix
    # are not squared.
    if isinstance(rows, DisjointRows):
        return PlainRows(constraint, rows, constraint.matrix.disjoint_gram(rows))
    if isinstance(rows, SparseRows):
        return PlainRows(constraint, rows, rows.gram())
    assert isinstance(rows, DenseRows)
    matrix = constraint.matrix.padded(rows.gram_matrix())
    variances = within_range(diagonal(matrix))
    gram = DenseGram.if_safe(matrix)
    if gram is None:
        return BalancedRows(constraint, times_root, size(), variances)
    return PlainRows(constraint, rows, gram)
