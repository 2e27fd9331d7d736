"""Covariances by their factor or their inverse."""

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.conditional import DenseConditional
from numpyro_constrained.kernels.constraint import LinearConstraint
from numpyro_constrained.kernels.leaves import folded
from numpyro_constrained.kernels.linalg import (
    cholesky,
    diagonal,
    identity_like,
    lift,
    matmul,
    solve_lower_matrix,
)
from numpyro_constrained.kernels.matrix import BoundMatrix

__all__ = ["PrecisionConditional", "covariance_tril", "precision_tril"]


def covariance_tril(covariance: Array) -> Array:
    """Lower Cholesky factor of ``(*batch, n, n)``."""
    return cholesky(
        covariance,
        "covariance_matrix to be positive definite",
        "check its eigenvalues, add a small multiple of the identity, or use float64",
    )


def precision_tril(precision: Array) -> Array:
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

    def __init__(self, loc: Array, precision: Array, constraint: LinearConstraint) -> None:
        self.precision = precision
        filling = _filling(precision, constraint.matrix)
        ndim = max(filling.ndim, precision.ndim)
        scale_tril = _inverse_root(
            lift(precision, ndim) + lift(filling, ndim),
            "precision_matrix Q to be positive definite on the null space of A",
            "add the rows to A that fix what is left free (one sum for each connected component of "
            "an intrinsic field); where Q is negative or large only across the rows of A, add c A'A"
            " to Q, c > 0, which leaves the law as it is; or use float64",
        )
        super().__init__(loc, scale_tril, constraint)

    @property
    @folded
    def _base(self) -> DenseConditional:
        """For what the law without the constraint says of it."""
        return DenseConditional(self.loc, precision_tril(self.precision), self.constraint)

    @property
    def constraint_half_log_det(self) -> Array:  # type: ignore[override]
        return self._base.constraint_half_log_det

    @property
    def surprise(self) -> Array:
        return self._base.surprise


def _filling(precision: Array, matrix: BoundMatrix) -> Array:
    """A'M'M A of the size of the precision where that has none: in units of its diagonal, the
    projection on the rows of A."""
    squares = diagonal(precision)
    mean = squares.mean(-1, keepdims=True)
    unit = jnp.sqrt(jnp.where(squares > 0, squares, mean))
    rows = matrix.rows.dense()
    ndim = max(rows.ndim, precision.ndim)
    rows, unit = lift(rows, ndim), lift(unit, ndim - 1)
    white = rows / unit[..., None, :]
    root = jnp.linalg.cholesky(matrix.padded(matmul(white, white.mT)))
    mixed = solve_lower_matrix(root, rows)
    return matmul(mixed.mT, mixed)


def _inverse_root(precision: Array, expected: str, remedy: str) -> Array:
    """Lower Cholesky factor of the inverse, by factoring the matrix in reverse order."""
    # A pivot of this size is what rounding leaves of zero.
    least_pivot = 4 * precision.shape[-1] * float(jnp.finfo(precision.dtype).eps)
    factor = cholesky(jnp.flip(precision, (-2, -1)), expected, remedy, least_pivot)
    reverse = jnp.flip(factor, (-2, -1)).mT
    return solve_lower_matrix(reverse, identity_like(precision))
