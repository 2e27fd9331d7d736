"""Supports: the affine subspace ``{x : A x = k}`` and its integer points."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.util import array_equiv

from constrained_core import GroupSum, SparseMatrix
from numpyro_constrained.kernels.arrays.inputs import floating, whole_or_floating
from numpyro_constrained.kernels.arrays.leaves import PromotedLeaves, untraced_property
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.sparse_inputs import is_sparse, read_sparse
from numpyro_constrained.kernels.fiber.constraint import bind_integers
from numpyro_constrained.kernels.fiber.integer_constraint import IntegerConstraint
from numpyro_constrained.kernels.linear.binding import bind_constraint, rebind_constraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint, default_tolerance

__all__ = ["integer_linear_equality", "linear_equality", "moving_linear_equality"]


class linear_equality(PromotedLeaves, Constraint):  # a constraint is named as NumPyro names its own
    """The affine subspace ``{x : A x = k}``.

    A value is inside if ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row, which catches
    mistakes and forgives rounding.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        tolerance: relative tolerance; 1e-6 in float64 and 1e-4 in float32 unless given.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity.

    Example:
        >>> import jax.numpy as jnp
        >>> zero_sum = linear_equality(jnp.ones(3), 0.0)
        >>> zero_sum(jnp.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
        Array([ True, False], dtype=bool)
    """

    is_discrete = False
    event_dim = 1

    def __init__(self, A: Any, k: Any, tolerance: float | None = None) -> None:
        self._set(bind_constraint(A, k, _floating(A, k)), tolerance)

    @classmethod
    def of(cls, bound: LinearConstraint, tolerance: float | None = None) -> "linear_equality":
        """The subspace of a constraint that is already analysed."""
        is_fixed = bound.layout.is_fixed and bound.layout.has_fixed_k
        support = object.__new__(linear_equality if is_fixed else moving_linear_equality)
        support._set(bound, tolerance)
        return support

    def _set(self, bound: LinearConstraint, tolerance: float | None) -> None:
        self._bound, self.tolerance = bound, tolerance
        self.A, self.k, self._layout = bound.A, bound.k, bound.layout

    @untraced_property
    def _bound(self) -> LinearConstraint:
        return rebind_constraint(self.A, self.k, self.k, self._layout)

    def bind(self, like: Array) -> LinearConstraint:
        """The constraint in the dtype of ``like``."""
        bound = self._bound
        if like.dtype != bound.k.dtype:
            bound = rebind_constraint(self.A, self.k, like[..., :0], self._layout)
        return bound

    def __call__(self, x: Array) -> Array:
        """``(*batch,)`` whether each vector of ``x`` is in the subspace."""
        (x,) = floating(value=x)
        tolerance = default_tolerance(x.dtype) if self.tolerance is None else self.tolerance
        return self.bind(x).contains(x, tolerance)

    def feasible_like(self, prototype: Array) -> Array:
        """The point of the subspace nearest to zero, in the shape of ``prototype``."""
        bound = self._bound
        zero = jnp.zeros(bound.batch_shape + (bound.num_variables,), bound.k.dtype)
        return jnp.broadcast_to(bound.nearest(zero), jnp.shape(prototype))

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether ``other`` is the same constraint, by content."""
        if not isinstance(other, linear_equality) or self.tolerance != other.tolerance:
            return False
        return _same_content(self, other, static)

    def tree_flatten(self) -> tuple:
        aux = {"tolerance": self.tolerance, "_layout": self._layout}
        return (self.A, self.k), (("A", "k"), aux)

    def __repr__(self) -> str:
        return (
            f"linear_equality(rank={self._bound.rank}, num_variables={self._bound.num_variables})"
        )


class moving_linear_equality(linear_equality, constraints._GreaterThan):
    """A subspace whose A or k may be sampled or learned.

    MCMC of NumPyro then runs the model again to find the subspace of each draw, instead of keeping
    the first one: it does so where a support has a bound that is not a number.
    """

    @property
    def lower_bound(self) -> Array:
        """What stands for a bound that is not a number."""
        return self.k


class integer_linear_equality(PromotedLeaves, Constraint):
    """The integer points ``{x : A x = k, 0 <= x <= upper}``.

    Args:
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        upper: the largest value of every variable; None if there is none.

    Raises:
        InfeasibleConstraintError: no integer x satisfies A x = k.
        ConstraintError: shapes that do not fit, numbers that are not whole, a traced A.

    Example:
        >>> import jax.numpy as jnp
        >>> pairs = integer_linear_equality(jnp.ones(3), 2, upper=1)
        >>> pairs(jnp.array([[1, 0, 1], [2, 0, 0]]))
        Array([ True, False], dtype=bool)
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, A: Any, k: Any, upper: int | None = None) -> None:
        self._set(bind_integers(A, k, upper))

    @classmethod
    def of(cls, bound: IntegerConstraint) -> "integer_linear_equality":
        """The points of a constraint that is already read."""
        support = cls.__new__(cls)
        support._set(bound)
        return support

    def _set(self, bound: IntegerConstraint) -> None:
        self.A, self.k, self.upper, self._layout = bound.A, bound.k, bound.upper, bound.layout

    def __call__(self, x: Array) -> Array:
        """``(*batch,)`` whether each vector of ``x`` is one of the points."""
        bound = IntegerConstraint(self.A, self.k, self._layout, self.upper)
        return bound.contains(whole_or_floating("value", x))

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether ``other`` is the same constraint, by content."""
        if not isinstance(other, integer_linear_equality) or self.upper != other.upper:
            return False
        return _same_content(self, other, static)

    def tree_flatten(self) -> tuple:
        aux = {"upper": self.upper, "_layout": self._layout}
        return (self.A, self.k), (("A", "k"), aux)

    def __repr__(self) -> str:
        return f"integer_linear_equality(num_variables={self.A.shape[-1]}, upper={self.upper})"


def _same_content(one: Any, other: Any, static: bool) -> Any:
    if isinstance(one.A, SparseMatrix) or isinstance(other.A, SparseMatrix):
        if type(one.A) is not type(other.A) or one.A.pattern != other.A.pattern:
            return False
        same = array_equiv(one.A.values, other.A.values, static=static)
        return same & array_equiv(one.k, other.k, static=static)
    if isinstance(one.A, GroupSum) or isinstance(other.A, GroupSum):
        return one.A == other.A and array_equiv(one.k, other.k, static=static)
    return array_equiv(one.A, other.A, static=static) & array_equiv(one.k, other.k, static=static)


def _floating(A: Any, k: Any) -> Array:
    """A scalar of the dtype that A and k have in common."""
    A = read_sparse("A", A).values if is_sparse(A) else A
    parts = {name: part for name, part in (("A", A), ("k", k)) if not isinstance(part, GroupSum)}
    return lift(floating(**parts)[-1].reshape(-1)[:0], 1)
