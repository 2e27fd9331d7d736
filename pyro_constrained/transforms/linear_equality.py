"""Linear coordinates of the affine subspace ``{x : A x = k}``."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.distributions.constraints import Constraint

from constrained_core import ConstraintError
from constrained_core.checks.arguments import check_basis
from constrained_core.checks.shapes import check_coordinates
from constrained_core.sparse import SparseMatrix
from pyro_constrained.constraints import linear_equality
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.elimination import elimination_of
from pyro_constrained.kernels.linear.made_points import made_on

__all__ = ["LinearEqualityTransform"]


@in_full_precision
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
        cache_size: size of the cache of the latest value, 0 or 1, as in every transform.

    Shapes:
        input ``(*batch, n - r)``, output ``(*batch, n)``.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity; an unknown basis, an isometry for a
            sparse A, or an elimination of a sparse A whose values are not known.

    Example:
        >>> import torch
        >>> transform = LinearEqualityTransform(torch.ones(3), torch.tensor(6.0))
        >>> transform(torch.zeros(2))
        tensor([2., 2., 2.])
        >>> LinearEqualityTransform(torch.ones(3), torch.tensor(6.0), "elimination")(torch.ones(2))
        tensor([4., 1., 1.])
    """

    bijective = True

    def __init__(self, A: Any, k: Any, basis: str | None = None, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self._support = linear_equality(A, k)
        self.basis = self._chosen(basis)

    @classmethod
    def onto(
        cls, support: linear_equality, basis: str | None = None, cache_size: int = 0
    ) -> "LinearEqualityTransform":
        """The transform onto a support that is already analysed."""
        transform = cls.__new__(cls)
        Transform.__init__(transform, cache_size=cache_size)
        transform._support = support
        transform.basis = transform._chosen(basis)
        return transform

    def _chosen(self, basis: str | None) -> str:
        if basis is None:
            return "elimination" if isinstance(self.A, SparseMatrix) else "isometry"
        check_basis(basis)
        if basis == "isometry":
            self._support._bound.null_space()
        return basis

    @property
    def domain(self) -> Constraint:  # type: ignore[override]  # torch's own transforms do so too
        return constraints.real_vector

    @property
    def codomain(self) -> Constraint:  # type: ignore[override]
        return self._support

    @property
    def A(self) -> Any:
        """The matrix, as given."""
        return self._support.A

    @property
    def k(self) -> Tensor:
        """The right-hand side, as given."""
        return self._support.k

    def with_cache(self, cache_size: int = 1) -> "LinearEqualityTransform":
        if self._cache_size == cache_size:
            return self
        return self.onto(self._support, self.basis, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        bound = self._support.bind(x)
        self._require_size(x, bound.free_size)
        if self.basis == "isometry":
            return made_on(bound, bound.embed(x))
        return made_on(bound, bound.while_current(elimination_of(bound.matrix).embed(bound, x)))

    def _inverse(self, y: Tensor) -> Tensor:
        bound = self._support.bind(y)
        self._require_size(y, bound.num_variables)
        if self.basis == "isometry":
            return bound.while_current(bound.null_space().extract(y))
        return bound.while_current(elimination_of(bound.matrix).extract(y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        zeros = x.new_zeros(broadcast_shapes(x.shape[:-1], y.shape[:-1]))
        if self.basis == "isometry":
            return zeros
        bound = self._support.bind(x)
        return bound.while_current(zeros + elimination_of(bound.matrix).log_volume)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        bound = self._support._bound
        self._require_shape(shape, bound.free_size)
        return broadcast_shapes(shape[:-1], bound.batch_shape) + (bound.num_variables,)

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        bound = self._support._bound
        self._require_shape(shape, bound.num_variables)
        return shape[:-1] + (bound.free_size,)

    def _require_size(self, value: Tensor, size: int) -> None:
        self._require_shape(value.shape, size)

    @staticmethod
    @quiet_under_trace
    def _require_shape(shape: torch.Size, size: int | Tensor) -> None:
        if isinstance(size, Tensor) and size.ndim:
            raise ConstraintError(
                "LinearEqualityTransform: expected matrices of one rank, got a batch of different "
                "ranks, whose null spaces have no common dimension; use reparam.auto_reparam for "
                "the site."
            )
        check_coordinates(shape, size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearEqualityTransform):
            return False
        return self._support is other._support and self.basis == other.basis
