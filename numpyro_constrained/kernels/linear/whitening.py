"""What a constraint restricts of white noise: the rows S = B L for x = loc + L e.

Their Gram matrix F = S S' is the covariance of B x. Where rows of S are at narrow angles, because
a variable of large scale dominates several of them, F would lose the others to rounding; then
balanced rows take the place of B.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.held import held
from numpyro_constrained.kernels.arrays.leaves import folded
from numpyro_constrained.kernels.arrays.linalg import (
    Result,
    diagonal,
    identity_like,
    if_everywhere,
    lift,
    power_of_two_below,
    solve_lower,
    solve_lower_matrix,
    take,
)
from numpyro_constrained.kernels.linear.completion import factor_by_size
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.gram import DenseGram, Gram
from numpyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, Rows
from numpyro_constrained.kernels.linear.sparse_rows import SparseGram, SparseRows

__all__ = [
    "BalancedRows",
    "PlainRows",
    "SparseWhiteRows",
    "SwitchedRows",
    "UniformRows",
    "WhiteRows",
    "whiten",
]

TimesRoot = Callable[[Rows], Rows]
"""Multiplies rows by L from the right."""


class WhiteRows(ABC):
    """S, and what kriging needs of it.

    Attributes:
        constraint: the constraint.
    """

    constraint: LinearConstraint

    @abstractmethod
    def explained(self, noise: Array) -> Array:
        """``S' F^-1 S noise``: what the constraint determines of white noise."""

    @abstractmethod
    def closing(self, value: Array) -> Array:
        """The shortest white step that closes the gap of a value."""

    def kriged(self, noise: Array, loc: Array, white_gap: Array) -> Array:
        """White noise conditioned on the constraint, for ``white_gap = closing(loc)``."""
        return noise + lift(white_gap, noise.ndim) - self.explained(noise)

    @abstractmethod
    def of_loc(self, loc: Array) -> tuple[Array, Array]:
        """1/2 log(det B Sigma B' / det B B'), whatever rows B are taken, and ``closing(loc)``."""

    def settle(self, value: Array) -> Array:
        """The value, after what a row may need beyond steps within the covariance; no gradient."""
        return value


class _Rows(WhiteRows):
    """Rows S that are held."""

    rows: Rows
    gram: Gram
    half_log_det: Array

    def of_loc(self, loc: Array) -> tuple[Array, Array]:
        return self.half_log_det, self.closing(loc)

    @abstractmethod
    def gap(self, value: Array) -> Array:
        """What a value misses, in the rows that S was made from."""

    def explained(self, noise: Array) -> Array:
        return self.rows.adjoint(self.gram.solve(self.rows.apply(noise)))

    def closing(self, value: Array) -> Array:
        return self.rows.adjoint(self.gram.solve(self.gap(value)))


class PlainRows(_Rows):
    """S = B L."""

    def __init__(self, constraint: LinearConstraint, rows: Rows, gram: Gram) -> None:
        self.constraint, self.rows, self.gram = constraint, rows, gram
        half_log_det = constraint.matrix.half_log_det
        self.half_log_det = gram.half_log_det - lift(half_log_det, gram.half_log_det.ndim)

    def gap(self, value: Array) -> Array:
        return self.constraint.matrix.reduce(self.constraint.gap(value))


class SparseWhiteRows(_Rows):
    """S = B L, sparse for a diagonal L. Nothing is squared: steps come from the saddle-point matrix
    of S, in which narrow angles of its rows do no harm."""

    rows: SparseRows
    gram: SparseGram

    def __init__(self, constraint: LinearConstraint, rows: SparseRows) -> None:
        self.constraint, self.rows, self.gram = constraint, rows, rows.gram()
        half_log_det = constraint.matrix.half_log_det
        self.half_log_det = self.gram.half_log_det - lift(half_log_det, self.gram.half_log_det.ndim)

    def gap(self, value: Array) -> Array:
        return self.constraint.gap(value)

    def explained(self, noise: Array) -> Array:
        return self.gram.shortest(self.rows.apply(noise))

    def closing(self, value: Array) -> Array:
        return self.gram.shortest(self.gap(value))

    def kriged(self, noise: Array, loc: Array, white_gap: Array) -> Array:
        # One solution by the host, where a draw is all that is asked for.
        moved = self.rows.apply(noise)
        return noise + self.gram.shortest(lift(self.gap(loc), moved.ndim) - moved)


class UniformRows(_Rows):
    """L = scale I, scale ``(*batch, 1)``: all that is factored is the constraint; S is B."""

    def __init__(self, constraint: LinearConstraint, scale: Array) -> None:
        self.constraint, self.scale = constraint, scale
        self.rows, self.gram = constraint.matrix.rows, constraint.matrix.gram
        self.half_log_det = constraint.rank * jnp.log(scale)[..., 0]

    def gap(self, value: Array) -> Array:
        gap = self.constraint.matrix.reduce(self.constraint.gap(value))
        return gap / lift(self.scale, gap.ndim)

    def closing(self, value: Array) -> Array:
        # A constant where the value is one, whatever the scale.
        step = folded(self._shortest)(value)
        return step / lift(self.scale, step.ndim)

    def _shortest(self, value: Array) -> Array:
        return self.constraint.matrix.shortest(self.constraint.gap(value))


class BalancedRows(_Rows):
    """Rows that follow from those with the fewest rounding errors by elimination of variables, the
    largest first: what is said of variables of 1e-6 does not drown in what is said of 1e6.

    The triangle T of the elimination is a constant: nothing that the row space determines depends
    on it.

    Args:
        constraint: the constraint.
        times_root: multiplies rows by L from the right.
        size: ``(*batch, n)`` lengths of the rows of L, the scales of the variables.
    """

    def __init__(self, constraint: LinearConstraint, times_root: TimesRoot, size: Array) -> None:
        self.constraint, matrix = constraint, constraint.matrix
        self._dtype = jax.dtypes.canonicalize_dtype(np.float64)  # float32 unless x64 is enabled
        # Powers of two, by which products and quotients are exact.
        self._scale = power_of_two_below(size.astype(self._dtype))
        rows = matrix.exact_rows
        exact = held(rows.matrix, size) if isinstance(rows, DenseRows) else rows.dense()
        exact = exact.astype(self._dtype)
        ndim = max(exact.ndim, self._scale.ndim + 1)
        exact, scale = lift(exact, ndim), lift(self._scale, ndim - 1)
        packed, order = factor_by_size(stop_gradient(exact) * scale[..., None, :])
        self._place = jnp.argsort(order, -1)
        self._top = packed[..., : exact.shape[-2], :].mT
        self._triangle = matrix.padded(jnp.tril(self._top))
        self._eliminated = DenseRows(self._eliminate_rows(exact).astype(size.dtype))
        self._target = self._eliminate(constraint.scaled_k).astype(size.dtype)
        white = times_root(self._eliminated)
        assert isinstance(white, DenseRows)
        self.rows, self.gram = white, DenseGram.of(matrix.padded(white.gram_matrix()))
        log_det = jnp.log(jnp.abs(diagonal(self._triangle))).sum(-1).astype(size.dtype)
        half_log_det = self.gram.half_log_det + lift(log_det, self.gram.half_log_det.ndim)
        self.half_log_det = half_log_det - lift(matrix.exact_half_log_det, half_log_det.ndim)

    def _eliminate_rows(self, exact: Array) -> Array:
        # Scaled first: a constant of the size of the batch would be kept for derivatives.
        scale = lift(self._scale, exact.ndim - 1)[..., None, :]
        rows = solve_lower_matrix(self._triangle, exact * scale) / scale
        # What was eliminated is zero, whatever rounding left of it; derivatives stay.
        step = np.arange(rows.shape[-2])[:, None]
        is_noise = self._place[..., None, :] < lift(step, self._place.ndim + 1)
        return rows - jnp.where(is_noise, stop_gradient(rows), 0.0)

    def _eliminate(self, gap: Array) -> Array:
        gap = self.constraint.matrix.reduce_exactly(gap)
        return solve_lower(self._triangle, gap.astype(self._dtype))

    def gap(self, value: Array) -> Array:
        return lift(self._target, value.ndim) - self._eliminated.apply(value)

    def settle(self, value: Array) -> Array:
        # What is rounding in eliminated rows may be more than that in those of A. A gap that is
        # rounding there stays: to close it would move small variables.
        return self.constraint.settle(value, self._step, 3)

    def _step(self, value: Array) -> Array:
        """A step of the variables that were eliminated."""
        gap = self._eliminate(self.constraint.excess(value))
        top = jnp.triu(self._top, 1) + identity_like(self._top)
        pivots = solve_lower(top[..., ::-1, ::-1], gap[..., ::-1])[..., ::-1]
        zeros = jnp.zeros((*pivots.shape[:-1], self._scale.shape[-1] - pivots.shape[-1]))
        step = take(jnp.concatenate([pivots, zeros.astype(self._dtype)], -1), self._place)
        return (lift(self._scale, step.ndim) * step).astype(value.dtype)


class SwitchedRows(WhiteRows):
    """Plain rows, or inside a trace balanced ones where angles turn out to be narrow.

    Only what is taken is computed, and nothing of the balanced rows is kept for derivatives.
    """

    def __init__(
        self, plain: PlainRows, is_safe: Array, balanced: Callable[[], BalancedRows]
    ) -> None:
        self.constraint, self._plain = plain.constraint, plain
        self._is_safe, self._balanced = is_safe, balanced

    def _either(self, function: Callable[[WhiteRows], Result]) -> Result:
        return if_everywhere(
            self._is_safe, lambda: function(self._plain), lambda: function(self._balanced())
        )

    def of_loc(self, loc: Array) -> tuple[Array, Array]:
        return self._either(lambda rows: rows.of_loc(loc))

    def explained(self, noise: Array) -> Array:
        return self._either(lambda rows: rows.explained(noise))

    def closing(self, value: Array) -> Array:
        return self._either(lambda rows: rows.closing(value))

    def settle(self, value: Array) -> Array:
        return self._either(lambda rows: rows.settle(value))


def whiten(
    constraint: LinearConstraint, times_root: TimesRoot, size: Callable[[], Array]
) -> WhiteRows:
    """S for the root L of a covariance, balanced where that is needed.

    Args:
        constraint: the constraint.
        times_root: multiplies rows by L from the right.
        size: ``(*batch, n)`` lengths of the rows of L.
    """
    rows = times_root(constraint.matrix.rows)
    if isinstance(rows, SparseRows):
        return SparseWhiteRows(constraint, rows)
    # Rows that share no variable are orthogonal under any scales.
    if isinstance(rows, DisjointRows):
        return PlainRows(constraint, rows, constraint.matrix.disjoint_gram(rows))
    assert isinstance(rows, DenseRows)
    gram = DenseGram.of(constraint.matrix.padded(rows.gram_matrix()), checked=False)
    plain = PlainRows(constraint, rows, gram)

    def balanced() -> BalancedRows:
        return BalancedRows(constraint, times_root, size())

    if isinstance(gram.is_safe, Tracer):
        return SwitchedRows(plain, gram.is_safe, balanced)
    return plain if np.all(gram.is_safe) else balanced()
