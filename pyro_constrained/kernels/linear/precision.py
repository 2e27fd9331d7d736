"""Covariances by their factor or their inverse."""

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import (
    cholesky,
    diagonal,
    identity_like,
    matvec,
    solve_lower,
)
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.root_conditional import DenseConditional

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

    Given A x = k, that is the law of the precision P Q P + c R'R about its own mean, a point of the
    subspace: P is the projection on the null space of A, R an orthonormal basis of the rows, both
    in units of the diagonal of Q, and c of the size of P Q P. What Q says across the rows, of
    whatever sign and size, is in the mean.
    """

    def __init__(self, loc: Tensor, precision: Tensor, constraint: LinearConstraint) -> None:
        self.precision, self._base_loc = precision, loc
        unit, root, rows = _white_rows(precision, constraint.matrix)
        white = precision / (unit[..., None, :] * unit[..., None])
        across = white - (white @ rows.mT) @ rows  # Q P
        within = across - rows.mT @ (rows @ across)
        # Whatever P Q P is, R'R times its size completes it to a matrix that is well conditioned
        # where P Q P is on the null space, and changes nothing there.
        size = _size(within)
        tril = _inverse_root(
            within / size + rows.mT @ rows,
            "precision_matrix Q to be positive definite on the null space of A",
            "add the rows to A that fix what is left free (one sum for each connected component of "
            "an intrinsic field), or use float64",
            1 / size[..., 0],  # the entries of P Q P are left from those of Q
        )
        gap = constraint.matrix.reduce(constraint.gap(loc))
        step = matvec(rows.mT, solve_lower(root, gap))
        pull = matvec(tril, matvec(tril.mT, matvec(across.mT, step))) / size[..., 0]
        pull = pull - matvec(rows.mT, matvec(rows, pull))
        scale_tril = tril / (unit[..., None] * size.sqrt())
        super().__init__(loc + (step - pull) / unit, scale_tril, constraint)

    @lazy_property
    def _base(self) -> DenseConditional:
        """For what the law without the constraint says of it."""
        return DenseConditional(self._base_loc, precision_tril(self.precision), self.constraint)

    @property
    def constraint_half_log_det(self) -> Tensor:  # type: ignore[override]
        return self._base.constraint_half_log_det

    @property
    def surprise(self) -> Tensor:
        return self._base.surprise


def _white_rows(precision: Tensor, matrix: BoundMatrix) -> tuple[Tensor, Tensor, Tensor]:
    """The unit u ``(*batch, n)`` of every variable, by the diagonal of the precision; the factor C
    and the basis R of the rows with ``B diag(u)^-1 = C R``."""
    squares = diagonal(precision).abs()
    mean = squares.mean(-1, keepdim=True)
    unit = torch.where(squares > 0, squares, torch.where(mean > 0, mean, 1.0)).sqrt()
    rows = matrix.rows.dense() / unit[..., None, :]
    root = torch.linalg.cholesky_ex(matrix.padded(rows @ rows.mT))[0]
    return unit, root, torch.linalg.solve_triangular(root, rows, upper=False)


def _size(within: Tensor) -> Tensor:
    """``(*batch, 1, 1)`` mean of the diagonal where that is no rounding error of one."""
    least = torch.finfo(within.dtype).eps ** 0.5
    return diagonal(within).mean(-1).clamp(min=least)[..., None, None]


def _inverse_root(
    precision: Tensor, expected: str, remedy: str, loss: Tensor | float = 1.0
) -> Tensor:
    """Lower Cholesky factor of the inverse, by factoring the matrix in reverse order."""
    # A pivot of this size is what rounding leaves of zero.
    least_pivot = 4 * precision.shape[-1] * torch.finfo(precision.dtype).eps * loss
    flipped = torch.flip(precision, (-2, -1))
    factor = cholesky(flipped, expected, remedy, least_pivot)
    reverse = torch.flip(factor, (-2, -1)).mT
    identity = identity_like(precision)
    return torch.linalg.solve_triangular(reverse, identity, upper=False)
