"""Linear coordinates of the affine subspace ``{x : A x = k}``."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from constrained_core import SparseMatrix
from constrained_core.checks.arguments import check_basis
from constrained_core.checks.shapes import check_coordinates
from numpyro_constrained.constraints import linear_equality
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.linear.elimination import elimination_of
from numpyro_constrained.kernels.linear.made_points import made_on

__all__ = ["LinearEqualityTransform"]


class LinearEqualityTransform(Transform):
    """x = x0 + N u: from R^(n - r) onto the affine subspace.

    ``basis="isometry"``: N is an orthonormal basis of the null space of A and x0 the point nearest
    to the origin, so that the log Jacobian determinant is zero. N is applied as r Householder
    reflections, O(n r) per vector, O(n) for one row or groups.

    ``basis="elimination"``: u are n - r of the variables themselves, and the others follow, those
    of well conditioned columns of A. N is as sparse as A allows, u is read off x without an error,
    and the log Jacobian determinant is a constant, 1/2 log det N'N.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        basis: ``"isometry"``, ``"elimination"``, or None: by elimination for a sparse A, whose
            orthonormal bases are dense, and an isometry else, as its coordinates are better
            conditioned.

    Shapes:
        input ``(*batch, n - r)``, output ``(*batch, n)``.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity; an unknown basis, an isometry for a
            sparse A, or an elimination of an A whose values are not known.

    Example:
        >>> import jax.numpy as jnp
        >>> transform = LinearEqualityTransform(jnp.ones(3), 6.0)
        >>> print(transform(jnp.zeros(2)))
        [2. 2. 2.]
        >>> print(LinearEqualityTransform(jnp.ones(3), 6.0, "elimination")(jnp.ones(2)))
        [4. 1. 1.]
    """

    def __init__(self, A: Any, k: Any, basis: str | None = None) -> None:
        self._support = linear_equality(A, k)
        self.basis = self._chosen(basis)

    @classmethod
    def onto(cls, support: linear_equality, basis: str | None = None) -> "LinearEqualityTransform":
        """The transform onto a support that is already analysed."""
        transform = cls.__new__(cls)
        transform._support = support
        transform.basis = transform._chosen(basis)
        return transform

    def _chosen(self, basis: str | None) -> str:
        if basis is None:
            return "elimination" if isinstance(self.A, SparseMatrix) else "isometry"
        check_basis(basis)
        if basis == "isometry" and isinstance(self.A, SparseMatrix):
            self._support._bound.null_space()  # which says what to do
        return basis

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
        (x,) = floating(x=x)
        bound = self._support.bind(x)
        self._require_shape(x.shape, bound.coordinate_size)
        if self.basis == "isometry":
            return made_on(bound, bound.embed(x))
        return made_on(bound, elimination_of(bound.matrix).embed(bound, x))

    def _inverse(self, y: Any) -> Array:
        (y,) = floating(y=y)
        bound = self._support.bind(y)
        self._require_shape(y.shape, bound.num_variables)
        if self.basis == "isometry":
            return bound.null_space().extract(bound.lifted(y))
        return elimination_of(bound.matrix).extract(y)

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        shape = jnp.broadcast_shapes(jnp.shape(x)[:-1], jnp.shape(y)[:-1])
        if self.basis == "isometry":
            return jnp.zeros(shape, jnp.result_type(x))
        volume = elimination_of(self._support._bound.matrix).log_volume
        return jnp.full(shape, volume, jnp.result_type(x))

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
        return (self._support,), (("_support",), {"basis": self.basis})

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether ``other`` is the same transform, by content."""
        if not isinstance(other, LinearEqualityTransform) or self.basis != other.basis:
            return False
        return self._support is other._support or self._support.eq(other._support, static=static)
