"""What a constraint restricts of white noise: the rows S = B L for x = loc + L e.

Their Gram matrix F = S S' is the covariance of B x. Where rows of S are at narrow angles, because
a variable of large scale dominates several of them, F would lose the others to rounding; then
balanced rows take the place of B.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.leaves import folded, is_sharded
from numpyro_constrained.kernels.arrays.linalg import (
    Result,
    diagonal,
    if_everywhere,
    lift,
    with_value,
)
from numpyro_constrained.kernels.linear.balancing import Balancing
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.gram import DenseGram, Gram, within_range
from numpyro_constrained.kernels.linear.matrix import DenseMatrix
from numpyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, Rows, ScaledRows
from numpyro_constrained.kernels.linear.sparse_rows import SparseGram, SparseRows

__all__ = [
    "BalancedRows",
    "ChosenRows",
    "PlainRows",
    "Root",
    "SparseWhiteRows",
    "SwitchedRows",
    "UniformRows",
    "WhiteRows",
    "whiten",
]


class Root(NamedTuple):
    """The root L of a covariance.

    Attributes:
        array: what L is made of.
        multiply: rows and that array to the rows times L.
        size_of: the ``(*batch, n)`` lengths of the rows of L, the scales of the variables.
    """

    array: Array
    multiply: Callable[[Rows, Array], Rows]
    size_of: Callable[[Array], Array]

    @property
    def size(self) -> Array:
        return self.size_of(self.array)

    def times(self, rows: Rows) -> Rows:
        """``rows L``."""
        return self.multiply(rows, self.array)

    def fixed(self) -> "Root":
        """The same as a constant for derivatives."""
        return self._replace(array=stop_gradient(self.array))


class WhiteRows(ABC):
    """S, and what kriging needs of it.

    Attributes:
        constraint: the constraint.
    """

    constraint: LinearConstraint

    @abstractmethod
    def explained(self, noise: Array) -> Array:
        """``S' F^-1 S noise``: what the constraint determines of white noise."""

    def projected(self, noise: Array) -> Array:
        """The noise, less that."""
        return noise - self.explained(noise)

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
        return self.gram.kriged(noise, self.gap(loc))

    def projected(self, noise: Array) -> Array:
        return self.gram.projected(noise)


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
    """S = E L for balanced rows E."""

    rows: DenseRows

    def __init__(self, constraint: LinearConstraint, root: Root) -> None:
        self.constraint, matrix = constraint, constraint.matrix
        self.balancing = Balancing.of(matrix, root.size)
        self._target = self.balancing.target(constraint)
        white = root.times(DenseRows(self.balancing.rows))
        assert isinstance(white, DenseRows)
        self.rows, self.gram = white, DenseGram.of(matrix.padded(white.gram_matrix()))
        log_det = jnp.log(jnp.abs(diagonal(self.balancing.triangle))).sum(-1)
        half_log_det = self.gram.half_log_det
        half_log_det = half_log_det + lift(log_det, half_log_det.ndim).astype(half_log_det.dtype)
        self.half_log_det = half_log_det - lift(matrix.exact_half_log_det, half_log_det.ndim)

    def gap(self, value: Array) -> Array:
        return lift(self._target, value.ndim) - DenseRows(self.balancing.rows).sums(value)

    def settle(self, value: Array) -> Array:
        return self.balancing.settle(self.constraint, value)


class SwitchedRows(WhiteRows):
    """Plain rows, or inside a trace balanced ones where angles turn out to be narrow.

    Only what is taken is computed, and nothing of the balanced rows is kept for derivatives.
    """

    def __init__(self, plain: PlainRows, balanced: Callable[[], BalancedRows]) -> None:
        self.constraint, self._plain, self._balanced = plain.constraint, plain, balanced

    def _either(self, function: Callable[[WhiteRows], Result]) -> Result:
        assert isinstance(self._plain.gram, DenseGram)
        return if_everywhere(
            self._plain.gram.is_safe,
            lambda: function(self._plain),
            lambda: function(self._balanced()),
        )

    def of_loc(self, loc: Array) -> tuple[Array, Array]:
        return self._either(lambda rows: rows.of_loc(loc))

    def explained(self, noise: Array) -> Array:
        return self._either(lambda rows: rows.explained(noise))

    def closing(self, value: Array) -> Array:
        return self._either(lambda rows: rows.closing(value))

    def settle(self, value: Array) -> Array:
        return self._either(lambda rows: rows.settle(value))


class _Choice(NamedTuple):
    """Rows that were chosen, all constants; S is None where it is never made."""

    balancing: Balancing
    white: Array | None
    target: Array
    half_log_det: Array
    gram_inverse: Array

    @classmethod
    def of(
        cls, rows: PlainRows | BalancedRows, balancing: Balancing, constraint: LinearConstraint
    ) -> "_Choice":
        assert isinstance(rows.rows, DenseRows) and isinstance(rows.gram, DenseGram)
        return cls(
            balancing,
            None if isinstance(rows.rows, ScaledRows) else stop_gradient(rows.rows.matrix),
            balancing.target(constraint),
            stop_gradient(rows.half_log_det),
            stop_gradient(rows.gram.inverse),
        )


class ChosenRows(_Rows):
    """The same for an A that is known. What is switched are constants: derivatives are those of
    the rows that were chosen, whichever these are, and pass no switch.
    """

    rows: DenseRows

    def __init__(self, plain: PlainRows, root: Root) -> None:
        matrix = plain.constraint.matrix
        assert isinstance(plain.gram, DenseGram) and isinstance(matrix, DenseMatrix)
        self.constraint, self._plan = plain.constraint, matrix.plan
        self._is_safe = plain.gram.is_safe
        fixed_root = root.fixed()
        self._fixed = replace(self.constraint, scaled_k=stop_gradient(self.constraint.scaled_k))

        def unchanged() -> _Choice:
            balancing = Balancing.planned(self._plan, fixed_root.size)
            return _Choice.of(plain, balancing, self._fixed)

        def balanced() -> _Choice:
            rows = BalancedRows(self._fixed, fixed_root)
            return _Choice.of(rows, rows.balancing, self._fixed)

        choice = if_everywhere(self._is_safe, unchanged, balanced)
        self._balancing = choice.balancing
        rows = root.times(DenseRows(choice.balancing.rows))
        assert isinstance(rows, DenseRows)
        if choice.white is not None:
            rows = DenseRows(with_value(rows.matrix, choice.white))
        self.rows = rows
        self.gram = DenseGram(choice.half_log_det, choice.gram_inverse, rows.gram_matrix())
        self.half_log_det = self.gram.half_log_det
        self._target = with_value(choice.balancing.target(self.constraint), choice.target)

    def gap(self, value: Array) -> Array:
        gap = lift(self._target, value.ndim) - DenseRows(self._balancing.rows).sums(value)
        if self._plan.is_plain:
            return gap
        point = stop_gradient(value)

        def exactly() -> Array:
            return self._fixed.matrix.reduce(self._fixed.gap(point))

        return with_value(gap, if_everywhere(self._is_safe, exactly, lambda: stop_gradient(gap)))

    def settle(self, value: Array) -> Array:
        point = stop_gradient(value)

        def balanced() -> Array:
            return self._balancing.settle(self._fixed, point)

        return with_value(value, if_everywhere(self._is_safe, lambda: point, balanced))


def whiten(constraint: LinearConstraint, root: Root) -> WhiteRows:
    """S for the root L of a covariance, balanced where that is needed."""
    rows = root.times(constraint.matrix.rows)
    if isinstance(rows, SparseRows):
        return SparseWhiteRows(constraint, rows)
    # Rows that share no variable are orthogonal under any scales.
    if isinstance(rows, DisjointRows):
        return PlainRows(constraint, rows, constraint.matrix.disjoint_gram(rows))
    assert isinstance(rows, DenseRows)
    matrix = constraint.matrix.padded(rows.gram_matrix())
    if not isinstance(matrix, Tracer):
        within_range(diagonal(matrix))
    gram = DenseGram.of(matrix, checked=False)
    plain = PlainRows(constraint, rows, gram)
    if not isinstance(gram.is_safe, Tracer):
        return plain if np.all(gram.is_safe) else BalancedRows(constraint, root)
    # A large batch of scales shares its rows, unless they have to be balanced.
    shares_rows = isinstance(rows, ScaledRows) and gram.is_safe.size > 1
    if isinstance(constraint.matrix, DenseMatrix) and not (shares_rows or is_sharded()):
        return ChosenRows(plain, root)
    return SwitchedRows(plain, lambda: BalancedRows(constraint, root))
