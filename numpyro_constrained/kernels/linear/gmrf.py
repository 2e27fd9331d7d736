"""Gaussian Markov random fields conditioned on ``A x = k``, by their saddle-point matrix.

K = [[Q, A'], [A, 0]] with scaled independent rows of A: the upper left block of K^-1 is the
conditional covariance, det K = det(A A') times the determinant of the precision on the null space
of A. Q may be singular off that space.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from constrained_core.errors import ConstraintError, ParameterError
from constrained_core.linear.field_words import NO_ROOT, NOT_PROPER, different_ranks
from constrained_core.linear.symmetric_pattern import saddle_of, symmetric_pattern, union_of
from constrained_core.sparse import SparsePattern
from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.linear.conditional import Conditional, leading_identity
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.low_rank import LowRankConditional
from numpyro_constrained.kernels.linear.matrix import BoundMatrix
from numpyro_constrained.kernels.linear.root_conditional import (
    DiagonalConditional,
    UniformConditional,
)
from numpyro_constrained.kernels.linear.rows import DenseRows, GroupRows, Rows, SingleRow
from numpyro_constrained.kernels.linear.saddle import (
    is_known,
    precision_noise,
    require_law,
    saddle_inverse,
    saddle_log_det,
    saddle_solve,
)
from numpyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = ["FieldConditional"]


class FieldConditional(Conditional):
    """Sigma^-1 = Q with entries ``(*batch, nq)`` on a symmetric pattern that has the diagonal.

    Args:
        loc: ``(*batch, n)``.
        precision: Q; the mean of it and its transpose is what counts.
        root: D ``(p, n)`` with Q = D'D, for draws; None to factor Q instead.
        constraint: the constraint.

    Raises:
        ParameterError: Q is not positive definite on the null space of A; inside a trace, all is
            NaN.
    """

    def __init__(
        self,
        loc: Array,
        precision: SparseRows,
        root: SparseRows | None,
        constraint: LinearConstraint,
    ) -> None:
        self.constraint, self.loc, self.root = constraint, loc, root
        mirror = symmetric_pattern(precision.pattern).mirror
        self.precision = SparseRows(
            precision.pattern, 0.5 * (precision.values + precision.values[..., mirror])
        )
        matrix = constraint.matrix
        self._rows = _sparse_rows(_independent_rows(matrix))
        self._saddle = saddle_of(precision.pattern, self._rows.pattern)
        own = loc.shape[-1] + self._rows.size  # noise of A completes that of a singular Q
        self.noise_size = own if root is None else root.size
        log_det = saddle_log_det(self._saddle, self.precision.values, self._rows.values)
        if is_known(log_det) and np.isnan(log_det).any():
            require_law(self._saddle, self.precision.values, self._rows.values)
        self._log_det = log_det
        self.half_log_det = lift(matrix.exact_half_log_det, log_det.ndim) - 0.5 * log_det

    def _solve(self, above: Array | None, below: Array | None) -> Array:
        """``K^-1 [above; below]``, zeros for None."""
        n, r = self._saddle.num_variables, self._saddle.num_rows
        above = self._zeros_like(below, n) if above is None else above
        below = self._zeros_like(above, r) if below is None else below
        ndim = max(above.ndim, below.ndim)
        above, below = lift(above, ndim), lift(below, ndim)
        batch = jnp.broadcast_shapes(above.shape[:-1], below.shape[:-1])
        above, below = jnp.broadcast_to(above, (*batch, n)), jnp.broadcast_to(below, (*batch, r))
        right = jnp.concatenate([above, below], -1)
        return saddle_solve(self._saddle, self.precision.values, self._rows.values, right)

    @staticmethod
    def _zeros_like(other: Array | None, size: int) -> Array:
        assert other is not None
        return jnp.zeros((*other.shape[:-1], size), other.dtype)

    def _upper(self, above: Array | None, below: Array | None) -> Array:
        return self._solve(above, below)[..., : self._saddle.num_variables]

    def _gap(self, value: Array) -> Array:
        gap = self.constraint.matrix.reduce_exactly(self.constraint.gap(value))
        return gap[..., : self._rows.size]  # rows that are redundant come last

    def generic_point(self) -> Array:
        probe = jnp.cos(jnp.linspace(0.5, 1.5, self.loc.shape[-1], dtype=self.loc.dtype))
        step = self._upper(lift(probe, self.loc.ndim), self._gap(self.loc))
        return self.settle(lift(self.loc, step.ndim) + step)

    @property
    @folded
    def mean(self) -> Array:  # type: ignore[override]
        step = self._upper(None, self._gap(self.loc))
        return lift(self.loc, step.ndim) + step

    @folded
    def proper_log_det(self) -> Array:
        """log det Q.

        Raises:
            ParameterError: Q is singular, so that there is no law without the constraint.
        """
        pattern = saddle_of(self.precision.pattern, None)
        no_rows = jnp.zeros((0,), self.precision.values.dtype)
        log_det = saddle_log_det(pattern, self.precision.values, no_rows)
        if is_known(log_det) and np.isnan(log_det).any():
            raise ParameterError(NOT_PROPER)
        return log_det

    @property
    def constraint_half_log_det(self) -> Array:  # type: ignore[override]
        log_det = self._log_det - lift(self.proper_log_det(), self._log_det.ndim)
        return 0.5 * log_det - lift(self.constraint.matrix.exact_half_log_det, log_det.ndim)

    @property
    def surprise(self) -> Array:
        gap = self._gap(self.loc)
        found = self._solve(None, gap)[..., self._saddle.num_variables :]
        return -(lift(gap, found.ndim) * found).sum(-1)

    def _colored(self, noise: Array) -> Array:
        """``(..., n)`` of law N(0, Q)."""
        if self.root is not None:
            return self.root.adjoint(noise)
        return precision_noise(self._saddle, self.precision.values, self._rows.values, noise)

    def deviation(self, noise: Array) -> Array:
        return self._upper(self._colored(noise), None)

    def draw(self, noise: Array) -> Array:
        step = self._upper(self._colored(noise), self._gap(self.loc))
        return self.settle(lift(self.loc, step.ndim) + step)

    def closing(self, value: Array) -> Array:
        return self._upper(None, self._gap(value))

    def mahalanobis(self, deviation: Array) -> Array:
        moved = self.precision.apply(deviation)
        return (lift(deviation, moved.ndim) * moved).sum(-1)

    def variance(self) -> Array:
        on_q, _ = saddle_inverse(self._saddle, self.precision.values, self._rows.values)
        diagonal = symmetric_pattern(self.precision.pattern).diagonal
        variance = jnp.maximum(on_q[..., diagonal], 0.0)
        return self.constraint.matrix.without_determined(variance)

    def covariance_matvec(self, vector: Array) -> Array:
        return self._upper(vector, None)

    def covariance(self) -> Array:
        identity = leading_identity(self.loc.shape[-1], self)
        return jnp.moveaxis(self.covariance_matvec(identity), 0, -2)

    def precision_trace(self, other: Conditional) -> Array:
        if isinstance(other, LowRankConditional):
            loadings = lift(other.loadings, max(self.loc.ndim, other.loc.ndim) + 1)
            low_rank = self.mahalanobis(jnp.moveaxis(loadings, -2, 0)).sum(0)
            return self.precision_trace(other.diagonal) + low_rank
        if isinstance(other, DiagonalConditional | UniformConditional):
            other = self._field_of(other)
        if not isinstance(other, FieldConditional):
            covariance = jnp.moveaxis(lift(other.covariance(), self.loc.ndim + 1), -2, 0)
            return jnp.trace(self.precision.apply(covariance), axis1=0, axis2=-1)
        pattern, own, others = union_of(self.precision.pattern, other.precision.pattern)
        padded = jnp.zeros(
            (*other.precision.values.shape[:-1], len(pattern.row)), other.precision.values.dtype
        )
        padded = padded.at[..., others].set(other.precision.values)
        saddle = saddle_of(pattern, other._rows.pattern)
        covariance = saddle_inverse(saddle, padded, other._rows.values)[0][..., own]
        values = self.precision.values
        ndim = max(values.ndim, covariance.ndim)
        return (lift(values, ndim) * lift(covariance, ndim)).sum(-1)

    def _field_of(self, law: DiagonalConditional | UniformConditional) -> "FieldConditional":
        """A law of independent variables, as a field on the subspace that both share."""
        every = np.arange(self.loc.shape[-1])
        pattern = SparsePattern(every, every, (len(every), len(every)))
        precision = SparseRows(pattern, 1 / jnp.square(law.size))
        return FieldConditional(law.loc, precision, None, self.constraint)

    @property
    def size(self) -> Array:
        """``(*batch, n)`` standard deviations given all other variables."""
        diagonal = symmetric_pattern(self.precision.pattern).diagonal
        squares = jnp.abs(self.precision.values[..., diagonal])
        return 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))

    def to_base(self, value: Array) -> Array:
        # D'z = Q (x - loc) conditions to x, whatever Q is off the null space of A.
        if self.root is None:
            raise ParameterError(NO_ROOT)
        return self.root.apply(value - lift(self.loc, value.ndim))


def _independent_rows(matrix: BoundMatrix) -> Rows:
    """
    Raises:
        ConstraintError: their number differs within a batch.
    """
    if not isinstance(matrix.rank, int | Tracer):
        raise ConstraintError(different_ranks(np.asarray(matrix.rank).tolist()))
    return matrix.full_rank_rows() or matrix.exact_rows


def _sparse_rows(rows: Rows) -> SparseRows:
    """Rows of any kind with their entries listed; all of them where values may change."""
    if isinstance(rows, SparseRows):
        return rows
    n = rows.num_variables
    if isinstance(rows, SingleRow):
        return SparseRows(SparsePattern(np.zeros(n, np.int64), np.arange(n), (1, n)), rows.weights)
    if isinstance(rows, GroupRows):
        row = rows.groups.index.astype(np.int64)
        return SparseRows(SparsePattern(row, np.arange(n), (rows.size, n)), rows.weights)
    assert isinstance(rows, DenseRows)
    matrix = rows.matrix
    is_entry = matrix != 0 if isinstance(matrix, np.ndarray) else np.ones(matrix.shape[-2:], bool)
    row, column = np.nonzero(is_entry)
    return SparseRows(SparsePattern(row, column, (rows.size, n)), matrix[..., row, column])
