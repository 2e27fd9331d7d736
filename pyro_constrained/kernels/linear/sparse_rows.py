"""Sparse rows, and their Gram matrix by way of a saddle-point matrix.

With K = [[I, S'], [S, 0]], u of the solution of ``K [u; y] = [e; c]`` is the point of ``S u = c``
that is nearest to e: S S' is never made, and what it would square away is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from constrained_core.checks.entries import INDEPENDENT_ROWS, no_factor
from constrained_core.errors import ParameterError
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.sparse import SparseIndex
from pyro_constrained.kernels.linear.gram import Gram, Products
from pyro_constrained.kernels.linear.rows import Rows
from pyro_constrained.kernels.linear.saddle import saddle_inverse, saddle_log_det, saddle_solve

__all__ = ["SparseGram", "SparseRows", "joined"]


class SparseRows(Rows):
    """Rows with few entries.

    Args:
        index: where the entries are.
        values: ``(*batch, nnz)``, in double precision whatever the law computes in.
        dtype: that of the law.
        factors: values and a scale of the variables whose product ``values`` are, if there is one.
    """

    def __init__(
        self,
        index: SparseIndex,
        values: Tensor,
        dtype: torch.dtype,
        factors: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.index, self.values, self.dtype, self.factors = index, values, dtype, factors
        self.size, self.num_variables = index.pattern.shape

    def exactly(self, vector: Tensor) -> Tensor:
        """``B vector`` in double precision."""
        return self.index.apply(self.values, vector)

    def apply(self, vector: Tensor) -> Tensor:
        return self.exactly(vector).to(self.dtype)

    def adjoint(self, vector: Tensor) -> Tensor:
        return self.index.adjoint(self.values, vector).to(self.dtype)

    def add_adjoint(self, vector: Tensor, multipliers: Tensor) -> Tensor:
        return vector + self.adjoint(multipliers)

    def magnitude(self, value: Tensor) -> Tensor:
        # Rounding at the scale of the largest variable: it counts only where all others are 0.
        size = value.abs()
        if size.shape[-1]:
            largest = size.amax(-1, keepdim=True)
            size = torch.add(size, largest, alpha=torch.finfo(size.dtype).eps)
        return self.absolute().apply(size)

    def scaled(self, scale: Tensor) -> "SparseRows":
        values = self.values * self.index.columns.members(scale)
        return SparseRows(self.index, values, self.dtype, (self.values, scale.to(self.values)))

    def absolute(self) -> "SparseRows":
        return SparseRows(self.index, self.values.abs(), self.dtype)

    def dense(self) -> Tensor:
        return self.index.dense(self.values).to(self.dtype)

    def gram(self) -> "SparseGram":
        """Factor of ``B B'``."""
        return SparseGram(self)


@contextmanager
def _independent(rows: SparseRows) -> Iterator[None]:
    """Rows that the saddle-point matrix shows to depend on each other are named as such."""
    try:
        yield
    except ParameterError as error:
        message = no_factor(INDEPENDENT_ROWS, rows.index.pattern.shape, rows.dtype)
        raise TensorParameterError(message) from error


class SparseGram(Gram):
    """F = S S' for sparse rows S."""

    def __init__(self, rows: SparseRows) -> None:
        self._rows, self._saddle = rows, rows.index.saddle

    @property
    def _ones(self) -> Tensor:
        return torch.ones(self._rows.num_variables, dtype=torch.float64, device="cpu")

    @property
    def _ratio(self) -> Tensor | None:
        """Fixed scales over the scales: one, but for derivatives. None of scales that have none."""
        if self._rows.factors is None or not is_differentiated(self._rows.factors[1]):
            return None
        scale = self._rows.factors[1]
        return scale.detach() / scale

    @lazy_property
    def half_log_det(self) -> Tensor:
        with _independent(self._rows):
            log_det = saddle_log_det(self._saddle, self._ones, self._rows.values)
        return (0.5 * log_det).to(self._rows.values.device, self._rows.dtype)

    def solve(self, vector: Tensor) -> Tensor:
        zeros = vector.new_zeros(vector.shape[:-1] + (self._rows.num_variables,))
        return -self._solve(zeros, vector, self._ratio)[..., self._rows.num_variables :]

    def closing(self, rows: Products, gap: Tensor) -> Tensor:
        zeros = gap.new_zeros(gap.shape[:-1] + (self._rows.num_variables,))
        return self._white(zeros, gap)

    def projected(self, rows: Products, noise: Tensor) -> Tensor:
        return self.kriged(rows, noise, noise.new_zeros(self._rows.size))

    def kriged(self, rows: Products, noise: Tensor, gap: Tensor) -> Tensor:
        return self._white(noise, gap)

    # Derivatives in the scale s pass by the diagonal of Q, not by the entries of S: for a fixed s0,
    # u = (s0/s) U where [(s0/s)^2 U + S0' y; S0 U] = [(s0/s) noise; gap]. Those by S are products
    # with multipliers, and their sums cancel for variables of large scale.

    def _white(self, noise: Tensor, gap: Tensor) -> Tensor:
        """u of ``K^-1 [noise; gap]``."""
        ratio = self._ratio
        solution = self._solve(noise if ratio is None else ratio * noise, gap, ratio)
        found = solution[..., : self._rows.num_variables]
        return found if ratio is None else (ratio * found).to(found)

    def _solve(self, above: Tensor, gap: Tensor, ratio: Tensor | None) -> Tensor:
        q, a = self._ones, self._rows.values
        if ratio is not None:
            assert self._rows.factors is not None
            values, scale = self._rows.factors
            q, a = ratio.square(), values * self._rows.index.columns.members(scale.detach())
        with _independent(self._rows):
            solution = saddle_solve(self._saddle, q, a, joined(above, gap))
        return solution.to(self._rows.dtype)

    def free_share(self) -> Tensor:
        """``(*batch, n)`` share of a white variance that the rows leave."""
        with _independent(self._rows):
            on_q, _ = saddle_inverse(self._saddle, self._ones, self._rows.values)
        return on_q.clamp(min=0).to(self._rows.values.device)


def joined(one: Tensor, other: Tensor) -> Tensor:
    """Two vectors as one, whose batches broadcast."""
    batch = torch.broadcast_shapes(one.shape[:-1], other.shape[:-1])
    return torch.cat([one.expand(*batch, -1), other.expand(*batch, -1)], -1)
