"""An isometry between R^(n - r) and the affine subspace ``{x : A x = k}``."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from constrained_core.checks import check_coordinates
from numpyro_constrained.constraints import linear_equality
from numpyro_constrained.kernels.arrays.inputs import floating

__all__ = ["LinearEqualityTransform"]


class LinearEqualityTransform(Transform):
    """x = x0 + N u with an orthonormal null-space basis N of A and x0 nearest to the origin.

    N is applied as r Householder reflections, O(n r) per vector, O(n) for one row or groups. It
    is an isometry, so that the log Jacobian determinant is zero.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.

    Shapes:
        input ``(*batch, n - r)``, output ``(*batch, n)``.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity.

    Example:
        >>> transform = LinearEqualityTransform(jnp.ones(3), 6.0)
        >>> print(transform(jnp.zeros(2)))
        [2. 2. 2.]
    """

    def __init__(self, A: Any, k: Any) -> None:
        self._support = linear_equality(A, k)

    @classmethod
    def onto(cls, support: linear_equality) -> "LinearEqualityTransform":
        """The transform onto a support that is already analysed."""
        transform = cls.__new__(cls)
        transform._support = support
        return transform

    @property
    def domain(self) -> Constraint:
        return constraints.real_vector

    @property
    def codomain(self) -> Constraint:
        return self._support

    @property
    def A(self) -> Any:
        """The matrix, as given."""
        return self._support.A

    @property
    def k(self) -> Array:
        """The right-hand side, as given."""
        return self._support.k

    def __call__(self, x: Any) -> Array:
        (x,) = floating(x)
        bound = self._support.bind(x)
        self._require_shape(x.shape, bound.coordinate_size)
        return bound.embed(x)

    def _inverse(self, y: Any) -> Array:
        (y,) = floating(y)
        bound = self._support.bind(y)
        self._require_shape(y.shape, bound.num_variables)
        return bound.null_space().extract(bound.lifted(y))

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        shape = jnp.broadcast_shapes(jnp.shape(x)[:-1], jnp.shape(y)[:-1])
        return jnp.zeros(shape, jnp.result_type(x))

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        bound = self._support._bound
        self._require_shape(shape, bound.coordinate_size)
        return jnp.broadcast_shapes(shape[:-1], bound.batch_shape) + (bound.num_variables,)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        bound = self._support._bound
        self._require_shape(shape, bound.num_variables)
        return tuple(shape[:-1]) + (bound.coordinate_size,)

    @staticmethod
    def _require_shape(shape: tuple[int, ...], size: int) -> None:
        check_coordinates(shape, size)

    def tree_flatten(self) -> tuple:
        return (self._support,), (("_support",), {})

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether ``other`` is the same transform, by content."""
        if not isinstance(other, LinearEqualityTransform):
            return False
        return self._support is other._support or self._support.eq(other._support, static=static)
