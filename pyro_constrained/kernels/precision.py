"""Covariances by their factor or their inverse."""

import torch
from torch import Tensor
from torch.distributions.utils import lazy_property

from pyro_constrained.kernels.conditional import DenseConditional
from pyro_constrained.kernels.constraint import LinearConstraint
from pyro_constrained.kernels.linalg import cholesky, diagonal, identity_like
from pyro_constrained.kernels.matrix import BoundMatrix

__all__ = ["PrecisionConditional", "covariance_tril", "precision_tril"]


def covariance_tril(covariance: Tensor) -> Tensor:
    """Lower Cholesky factor of ``(*batch, n, n)``."""
    return cholesky(
        covariance,
        "covariance_matrix to be positive definite",
        "check its eigenvalues, add a small multiple of the identity, or use float64",
    )


def precision_tril(precision: Tensor) -> Tensor:
    """Lower Cholesky factor of the inverse; an error where it is positive definite on a null space
    only."""
    return _inverse_root(
        precision,
        "precision_matrix Q to be positive definite, as the law without the constraint asks for",
        "a Q that is singular off the null space of A has no such law: adding c A'A to Q, c > 0, "
        "gives it one and leaves the law given A x = k as it is",
    )


class PrecisionConditional(DenseConditional):
    """Sigma^-1 = Q ``(*batch, n, n)``, positive definite on the null space of A.

    Given A x = k, Q and Q + A'M'M A have the same law, whatever M: it changes the density by a
    constant. The sum is positive definite, and well scaled beside Q.
    """

    def __init__(self, loc: Tensor, precision: Tensor, constraint: LinearConstraint) -> None:
        self.precision = precision
        proper = precision + _filling(precision, constraint.matrix)
        scale_tril = _inverse_root(
            proper,
            "precision_matrix Q to be positive definite on the null space of A",
            "add the rows to A that fix what is left free (one sum for each connected component of "
            "an intrinsic field); where Q is negative or large only across the rows of A, add c A'A"
            " to Q, c > 0, which leaves the law as it is; or use float64",
        )
        super().__init__(loc, scale_tril, constraint)

    @lazy_property
    def _base(self) -> DenseConditional:
        """For what the law without the constraint says of it."""
        return DenseConditional(self.loc, precision_tril(self.precision), self.constraint)

    @property
    def constraint_half_log_det(self) -> Tensor:  # type: ignore[override]
        return self._base.constraint_half_log_det

    @property
    def surprise(self) -> Tensor:
        return self._base.surprise


def _filling(precision: Tensor, matrix: BoundMatrix) -> Tensor:
    """A'M'M A of the size of the precision where that has none: in units of its diagonal, the
    projection on the rows of A."""
    squares = diagonal(precision)
    mean = squares.mean(-1, keepdim=True)
    unit = torch.where(squares > 0, squares, mean).sqrt()
    rows = matrix.rows.apply(identity_like(precision)).mT
    white = rows / unit[..., None, :]
    root = torch.linalg.cholesky_ex(matrix.padded(white @ white.mT))[0]
    mixed = torch.linalg.solve_triangular(root, rows.expand(white.shape), upper=False)
    return mixed.mT @ mixed


def _inverse_root(precision: Tensor, expected: str, remedy: str) -> Tensor:
    """Lower Cholesky factor of the inverse, by factoring the matrix in reverse order."""
    # A pivot of this size is what rounding leaves of zero.
    least_pivot = 4 * precision.shape[-1] * torch.finfo(precision.dtype).eps
    flipped = torch.flip(precision, (-2, -1))
    factor = cholesky(flipped, expected, remedy, least_pivot)
    reverse = torch.flip(factor, (-2, -1)).mT
    identity = identity_like(precision)
    return torch.linalg.solve_triangular(reverse, identity, upper=False)
