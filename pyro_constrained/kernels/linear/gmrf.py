"""Gaussian Markov random fields conditioned on ``A x = k``, by their saddle-point matrix.

K = [[Q, A'], [A, 0]] with independent rows of A: the upper left block of K^-1 is the conditional
covariance, and det K = det(A A') times the determinant of the precision on the null space of A. Q
may be singular off that space.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.errors import ConstraintError, ParameterError
from constrained_core.linear import symmetric_pattern as patterns
from constrained_core.linear.field_words import NO_ROOT, NOT_PROPER, different_ranks
from constrained_core.linear.symmetric_pattern import SymmetricPattern
from constrained_core.sparse import SparseMatrix, SparsePattern
from pyro_constrained.kernels.arrays.compiled import kept_by_a_graph
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import are_known, host_array, is_constant
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.sparse import sparse_index
from pyro_constrained.kernels.linear.conditional import (
    Conditional,
    generic_values,
    leading_identity,
    leading_rows,
)
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.low_rank import LowRankConditional
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.root_conditional import DiagonalConditional, UniformConditional
from pyro_constrained.kernels.linear.rows import DenseRows, GroupRows, Rows, SingleRow
from pyro_constrained.kernels.linear.saddle import (
    precision_noise,
    saddle_inverse,
    saddle_log_det,
    saddle_solve,
    warn_of_lost_digits,
)
from pyro_constrained.kernels.linear.sparse_rows import SparseRows, joined

__all__ = ["FieldConditional", "symmetric_pattern"]

symmetric_pattern = kept_by_a_graph(patterns.symmetric_pattern)
saddle_of = kept_by_a_graph(patterns.saddle_of)


class FieldConditional(Conditional):
    """Sigma^-1 = Q, sparse; the mean of Q and its transpose is what counts.

    Args:
        loc: ``(*batch, n)``.
        precision: Q with values ``(*batch, nnz)``, on symmetric places.
        root: D ``(p, n)`` with Q = D'D, for draws; None to factor Q instead.
        constraint: the constraint.

    Raises:
        ParameterError: Q is not positive definite on the null space of A; where values are not
            known, all is NaN.
    """

    def __init__(
        self,
        loc: Tensor,
        precision: SparseMatrix,
        root: SparseMatrix | None,
        constraint: LinearConstraint,
    ) -> None:
        self.constraint, self.loc = constraint, loc
        self._symmetric = symmetric_pattern(precision.pattern)
        self._q = self._completed(precision.values.double())
        self._root = None if root is None else _rows_of(root, loc)
        entries_of = _entries if constraint.matrix.plan is None else _planned_entries
        self._rows = entries_of(constraint.matrix)
        self._saddle = saddle_of(self._symmetric.pattern, self._rows.index.pattern)
        own = loc.shape[-1] + self._rows.size  # noise of A completes that of a singular Q
        self.noise_size = own if root is None else root.shape[-2]
        self._log_det = saddle_log_det(self._saddle, self._q, self._rows.values).to(loc.device)
        if precision.values.dtype == torch.float32:
            warn_of_lost_digits(self._saddle, self._q, self._rows.values)
        volume = constraint.matrix.exact_half_log_det
        self.half_log_det = (volume - 0.5 * self._log_det).to(loc.dtype)

    def _completed(self, values: Tensor) -> Tensor:
        """``(*batch, nq)`` symmetric values on the completed pattern."""
        mirror = _places(self._symmetric, "mirror", values.device)
        whole = pad(values, (0, len(mirror) - values.shape[-1]))
        return 0.5 * (whole + whole.index_select(-1, mirror))

    def _solve(self, upper: Tensor, lower: Tensor) -> Tensor:
        """``K^-1 [upper; lower]``."""
        right = joined(upper, lower)
        return saddle_solve(self._saddle, self._q, self._rows.values, right).to(right)

    def _upper(self, upper: Tensor, lower: Tensor) -> Tensor:
        """The variables of it, in the dtype of the law."""
        return self._solve(upper, lower)[..., : self.loc.shape[-1]].to(self.loc.dtype)

    def _zeros(self, size: int) -> Tensor:
        return self.loc.new_zeros(size, dtype=torch.float64)

    def _gap(self, value: Tensor) -> Tensor:
        gap = self.constraint.matrix.reduce_exactly(self.constraint.gap(value))
        return gap[..., : self._rows.size]  # rows that are redundant come last

    def closing(self, value: Tensor) -> Tensor:
        return self._upper(self._zeros(self.loc.shape[-1]), self._gap(value))

    @lazy_property
    def mean(self) -> Tensor:
        return self.loc + self.closing(self.loc)

    def _proper_log_det(self) -> Tensor:
        """log det Q; an error where Q is singular, so that there is no law without constraint."""
        pattern = saddle_of(self._symmetric.pattern, None)
        try:
            return saddle_log_det(pattern, self._q, self._zeros(0)).to(self.loc.device)
        except ParameterError as error:
            raise TensorParameterError(NOT_PROPER) from error

    @property
    def constraint_half_log_det(self) -> Tensor:  # type: ignore[override]
        half = 0.5 * (self._log_det - self._proper_log_det())
        return (half - self.constraint.matrix.exact_half_log_det).to(self.loc.dtype)

    @property
    def surprise(self) -> Tensor:
        gap, n = self._gap(self.loc), self.loc.shape[-1]
        multipliers = self._solve(self._zeros(n), gap)[..., n:]
        return -(gap * multipliers).sum(-1).to(self.loc.dtype)

    def _coloured(self, noise: Tensor) -> Tensor:
        """``(..., n)`` of law N(0, Q), but for what K^-1 takes away."""
        if self._root is not None:
            return self._root.index.adjoint(self._root.values, noise)
        drawn = precision_noise(self._saddle, self._q, self._rows.values, noise.double())
        return drawn.to(self.loc.device)

    def deviation(self, noise: Tensor) -> Tensor:
        return self._upper(self._coloured(noise), self._zeros(self._rows.size))

    def draw(self, noise: Tensor) -> Tensor:
        return self.settle(self.loc + self._upper(self._coloured(noise), self._gap(self.loc)))

    def generic_point(self) -> Tensor:
        probe = generic_values(self.loc.shape[-1], self.loc)
        return self.settle(self.loc + self._upper(probe.double(), self._gap(self.loc)))

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        index = sparse_index(self._symmetric.pattern, self.loc.device)
        exact = deviation.double()
        return (exact * index.apply(self._q, exact)).sum(-1).to(self.loc.dtype)

    def variance(self) -> Tensor:
        on_q, _ = saddle_inverse(self._saddle, self._q, self._rows.values)
        diagonal = _places(self._symmetric, "diagonal", on_q.device)
        variance = on_q.index_select(-1, diagonal).clamp(min=0)
        return self.constraint.matrix.without_determined(variance.to(self.loc))

    def covariance_matvec(self, vector: Tensor) -> Tensor:
        return self._upper(vector.double(), self._zeros(self._rows.size))

    def covariance(self) -> Tensor:
        identity = leading_identity(self.loc.shape[-1], self)
        return self.covariance_matvec(identity).movedim(0, -2)

    def precision_trace(self, other: Conditional) -> Tensor:
        if isinstance(other, LowRankConditional):
            low_rank = self.mahalanobis(leading_rows(other.loadings, other, self)).sum(0)
            return self.precision_trace(other.diagonal) + low_rank
        if isinstance(other, DiagonalConditional | UniformConditional):
            other = self._field_of(other)
        if not isinstance(other, FieldConditional):
            unit_noise = leading_identity(other.noise_size, other, self)
            return self.mahalanobis(other.deviation(unit_noise)).sum(0)
        own_pattern, other_pattern = self._symmetric.pattern, other._symmetric.pattern
        union, own, others = _union_of(own_pattern, other_pattern, other._q.device)
        q = other._q.new_zeros(other._q.shape[:-1] + union.row.shape)
        q = q.index_copy(-1, others, other._q)
        saddle = saddle_of(union, other._rows.index.pattern)
        on_q, _ = saddle_inverse(saddle, q, other._rows.values)
        return (self._q * on_q.index_select(-1, own)).sum(-1).to(self.loc.dtype)

    def _field_of(self, law: DiagonalConditional | UniformConditional) -> "FieldConditional":
        """A law of independent variables, as a field on the subspace that both share."""
        every = np.arange(self.loc.shape[-1])
        pattern = SparsePattern(every, every, (len(every), len(every)))
        precision = SparseMatrix.on(pattern, law.size.double().square().reciprocal())
        return FieldConditional(law.loc, precision, None, self.constraint)

    @property
    def size(self) -> Tensor:
        """``(*batch, n)`` standard deviations given all other variables."""
        diagonal = _places(self._symmetric, "diagonal", self._q.device)
        squares = self._q.index_select(-1, diagonal).abs()
        return torch.where(squares > 0, squares, 1.0).rsqrt().to(self.loc)

    def to_base(self, value: Tensor) -> Tensor:
        # D'z = Q (x - loc) conditions to x, whatever Q is off the null space of A.
        if self._root is None:
            raise TensorParameterError(NO_ROOT)
        return self._root.apply(value - self.loc)


def _independent_rows(matrix: BoundMatrix) -> Rows:
    """
    Raises:
        ConstraintError: their number differs within a batch.
    """
    if are_known(matrix.row_scale) and isinstance(matrix.rank, Tensor):
        raise ConstraintError(different_ranks(matrix.rank.tolist()))
    return matrix.full_rank_rows() or matrix.rows


@kept_by_a_graph
def _places(symmetric: SymmetricPattern, name: str, device: torch.device) -> Tensor:
    return torch.tensor(getattr(symmetric, name), device=device)


@kept_by_a_graph
def _union_of(
    one: SparsePattern, other: SparsePattern, device: torch.device
) -> tuple[SparsePattern, Tensor, Tensor]:
    union, *places = patterns.union_of(one, other)
    first, second = (torch.tensor(part, device=device) for part in places)
    return union, first, second


def _entries(matrix: BoundMatrix) -> SparseRows:
    """The entries of independent rows."""
    return _sparse_rows(_independent_rows(matrix))


_planned_entries = kept_by_a_graph(_entries)


def _rows_of(matrix: SparseMatrix, like: Tensor) -> SparseRows:
    values = matrix.values.double()
    return SparseRows(sparse_index(matrix.pattern, values.device), values, like.dtype)


def _sparse_rows(rows: Rows) -> SparseRows:
    """Rows of any kind with their entries listed; all of them where values may change."""
    if isinstance(rows, SparseRows):
        return rows
    if isinstance(rows, SingleRow | GroupRows):
        values = rows.weights
        row = rows.groups.index if isinstance(rows, GroupRows) else torch.zeros_like(values).long()
        column = torch.arange(rows.num_variables, device=row.device)
    else:
        assert isinstance(rows, DenseRows)
        matrix = rows.matrix
        known = host_array(matrix) != 0 if is_constant(matrix) and matrix.ndim == 2 else None
        shape = matrix.shape[-2:]
        has_entry = matrix.new_ones(shape) if known is None else torch.from_numpy(known)
        row, column = has_entry.nonzero().T
        values = matrix[..., row, column]
    pattern = SparsePattern(host_array(row), host_array(column), (rows.size, rows.num_variables))
    index = sparse_index(pattern, values.device)
    return SparseRows(index, values.double(), values.dtype)
