"""Sparse rows: a static pattern, with values that may be traced, differentiated or a batch."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.checks.entries import INDEPENDENT_ROWS, no_factor
from constrained_core.errors import ParameterError
from constrained_core.linear.symmetric_pattern import saddle_of_rows
from constrained_core.sparse import SparsePattern
from numpyro_constrained.kernels.arrays.linalg import lift, matvec, power_of_two_below
from numpyro_constrained.kernels.arrays.segments import entries_of
from numpyro_constrained.kernels.linear.gram import Gram
from numpyro_constrained.kernels.linear.rows import Rows
from numpyro_constrained.kernels.linear.saddle import (
    is_known,
    saddle_inverse,
    saddle_log_det,
    saddle_solve,
)

__all__ = ["SPARSE", "SparseGram", "SparseRows"]

FEW = 2**14
"""Places up to which a dense matrix multiplies faster than a sparse one."""
SPARSE = 8
"""Places for each entry from which it is not faster to multiply by all of them."""
MAX_WIDTH = 32
"""Entries of a row up to which rows are filled up to the longest."""
MAX_FILL = 4
"""How many times the entries are held then."""
MAX_SUM = 128
"""Entries of a row that are added in any order: rounding errors stay those of few."""


class SparseRows(Rows):
    """Rows with few entries.

    Args:
        pattern: where the entries are.
        values: ``(*batch, nnz)``.
        factors: values and a scale of the variables whose product ``values`` are, if there is one.
    """

    def __init__(
        self,
        pattern: SparsePattern,
        values: Array | np.ndarray,
        factors: tuple[Array | np.ndarray, Array] | None = None,
    ) -> None:
        self.pattern, self.values, self.factors = pattern, values, factors
        self.size, self.num_variables = pattern.shape
        self._entries = entries_of(pattern)
        self._grid = _grid(pattern, values)
        self._matrix = _few(pattern, values)

    def apply(self, vector: Array) -> Array:
        if self._grid is not None:
            column, weight = self._grid
            return (vector[..., column] * lift(weight, vector.ndim + 1)).sum(-1)
        if self._matrix is not None:
            return matvec(self._matrix, vector)
        ndim = max(vector.ndim, self.values.ndim)
        products = lift(vector, ndim)[..., self._entries.column] * lift(self.values, ndim)
        return self._entries.by_row.totals(products)

    def adjoint(self, vector: Array) -> Array:
        if self._matrix is not None:
            return matvec(self._matrix.mT, vector)
        ndim = max(vector.ndim, self.values.ndim)
        products = lift(vector, ndim)[..., self._entries.row] * lift(self.values, ndim)
        return self._entries.by_column.totals(products)

    def scaled(self, scale: Array) -> "SparseRows":
        ndim = max(scale.ndim, self.values.ndim)
        factors = lift(self.values, ndim), lift(scale, ndim)
        values = factors[0] * factors[1][..., self._entries.column]
        return SparseRows(self.pattern, values, factors)

    def absolute(self) -> "SparseRows":
        values = self.values
        is_constant = isinstance(values, np.ndarray)
        return SparseRows(self.pattern, np.abs(values) if is_constant else jnp.abs(values))

    def dense(self) -> Array:
        zeros = jnp.zeros(self.values.shape[:-1] + self.pattern.shape, self.values.dtype)
        return zeros.at[..., self._entries.row, self._entries.column].set(self.values)

    def norms(self) -> Array:
        """``(*batch, r)`` lengths of the rows."""
        return jnp.sqrt(self._entries.by_row.totals(jnp.square(self.values)))

    def scaled_rows(self, factor: Array) -> "SparseRows":
        """``diag(factor) B``."""
        ndim = max(factor.ndim, self.values.ndim)
        factor, factors = lift(factor, ndim)[..., self._entries.row], None
        if self.factors is not None:
            factors = self.factors[0] * factor, self.factors[1]
        return SparseRows(self.pattern, lift(self.values, ndim) * factor, factors)

    def gram(self) -> "SparseGram":
        """Factor of ``B B'``."""
        return SparseGram(self)


def _grid(
    pattern: SparsePattern, values: Array | np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """``(r, width)`` columns and values of each row, filled up with zeros times a variable of its
    own, where rows are short and alike."""
    if not isinstance(values, np.ndarray) or values.ndim > 1 or 0 in (*pattern.shape, values.size):
        return None
    count = np.bincount(pattern.row, minlength=pattern.shape[0])
    width = int(count.max())
    if width > MAX_WIDTH or width * len(count) > MAX_FILL * values.size:
        return None
    if width * SPARSE > pattern.shape[1]:
        return None
    order = np.argsort(pattern.row, kind="stable")
    row = pattern.row[order]
    within = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    column = np.zeros((len(count), width), np.int32)
    weight = np.zeros((len(count), width), values.dtype)
    column[row] = pattern.column[order][:, None]
    column[row, within], weight[row, within] = pattern.column[order], values[order]
    return column, weight


def _few(pattern: SparsePattern, values: Array | np.ndarray) -> np.ndarray | None:
    """The rows as a dense matrix where that multiplies faster, and adds few in a row."""
    if not isinstance(values, np.ndarray) or values.ndim > 1 or np.prod(pattern.shape) > FEW:
        return None
    if np.bincount(pattern.row, minlength=1).max() > MAX_SUM:
        return None
    matrix = np.zeros(pattern.shape, values.dtype)
    np.add.at(matrix, (pattern.row, pattern.column), values)
    return matrix


class SparseGram(Gram):
    """F = S S' of sparse rows, by the saddle-point matrix [[I, S'], [S, 0]], which squares nothing.

    Raises:
        ParameterError: rows depend on each other; inside a trace, all is NaN.
    """

    def __init__(self, rows: SparseRows) -> None:
        self._unit = 1 / power_of_two_below(rows.norms())
        self._rows = rows.scaled_rows(self._unit)
        self._values = jnp.asarray(self._rows.values)
        self._saddle = saddle_of_rows(rows.pattern)
        self._ones = jnp.ones(rows.num_variables, self._values.dtype)
        log_det = saddle_log_det(self._saddle, self._ones, self._values)
        if is_known(log_det) and np.isnan(log_det).any():
            shape = (rows.size, rows.num_variables)
            raise ParameterError(no_factor(INDEPENDENT_ROWS, shape, self._values.dtype))
        self.half_log_det = 0.5 * log_det - jnp.log(self._unit).sum(-1)

    # Derivatives in the scale s pass by the diagonal of Q, not by the entries of S: for a fixed s0,
    # u = (s0/s) U where [(s0/s)^2 U + S0' y; S0 U] = [(s0/s) noise; gap]. Those by S are products
    # with multipliers, and their sums cancel for variables of large scale.

    @property
    def _ratio(self) -> Array | None:
        """Fixed scales over the scales: one, but for derivatives. None of scales that are known."""
        if self._rows.factors is None or is_known(self._rows.factors[1]):
            return None
        scale = self._rows.factors[1]
        return stop_gradient(scale) / scale

    def _solve(self, noise: Array | None, gap: Array) -> tuple[Array, Array]:
        """u and y of ``K^-1 [noise; gap]``, for a gap in the rows of S; no noise is zeros."""
        ratio, q, a = self._ratio, self._ones, self._values
        if ratio is not None:
            assert self._rows.factors is not None
            values, scale = self._rows.factors
            fixed = SparseRows(self._rows.pattern, values).scaled(stop_gradient(scale))
            q, a = jnp.square(ratio), jnp.asarray(fixed.values)
        gap = _times(gap, self._unit)
        n = self._saddle.num_variables
        above = jnp.zeros((*gap.shape[:-1], n), gap.dtype) if noise is None else noise
        if ratio is not None and noise is not None:
            above = _times(above, ratio)
        ndim = max(above.ndim, gap.ndim)
        batch = jnp.broadcast_shapes(above.shape[:-1], gap.shape[:-1])
        parts = (jnp.broadcast_to(lift(v, ndim), batch + v.shape[-1:]) for v in (above, gap))
        found = saddle_solve(self._saddle, q, a, jnp.concatenate(list(parts), -1))
        point = found[..., :n]
        return point if ratio is None else _times(point, ratio), found[..., n:]

    def kriged(self, noise: Array, gap: Array) -> Array:
        """The point of ``S x = gap`` that is nearest to the noise."""
        return self._solve(noise, gap)[0]

    def projected(self, noise: Array) -> Array:
        """The point of ``S x = 0`` that is nearest to the noise."""
        return self.kriged(noise, jnp.zeros(self._saddle.num_rows, noise.dtype))

    def shortest(self, vector: Array) -> Array:
        """``S' F^-1 vector``: the shortest x with S x = vector."""
        return self._solve(None, vector)[0]

    def solve(self, vector: Array) -> Array:
        return _times(-self._solve(None, vector)[1], self._unit)

    def free_share(self) -> Array:
        """``(*batch, n)`` share of a white variance that the rows leave."""
        return jnp.maximum(saddle_inverse(self._saddle, self._ones, self._values)[0], 0.0)


def _times(one: Array, other: Array) -> Array:
    """The product, of the rank of the one that has more."""
    ndim = max(one.ndim, other.ndim)
    return lift(one, ndim) * lift(other, ndim)
