"""A Gaussian Markov random field given A x = k, by its sparse precision."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.core import Tracer
from numpyro.distributions import constraints
from scipy import sparse

from constrained_core import ConstraintError, ParameterError, SparseMatrix
from constrained_core.checks.shapes import check_columns
from constrained_core.errors import NoBaseLawError
from constrained_core.linear.symmetric_pattern import symmetric_pattern
from numpyro_constrained.distributions.gaussian import ConstrainedGaussian
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lifted
from numpyro_constrained.kernels.arrays.sparse_inputs import is_sparse, read_sparse
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.gmrf import FieldConditional
from numpyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = ["ConstrainedGMRF"]

ROOT_TOLERANCE = 1e-8


class ConstrainedGMRF(ConstrainedGaussian):
    """x with density proportional to exp(-1/2 (x - mu)' Q (x - mu)), given A x = k; Q sparse.

    Q need be positive definite on the null space of A only, as that of an intrinsic field with a
    sum for each of its connected components. All is computed from the saddle-point matrix
    K = [[Q, A'], [A, 0]], sparse, in float64 on the host: the covariance is the upper left block of
    its inverse, the log density with respect to Hausdorff measure on the subspace
    ``-1/2 (n - r) log 2 pi + 1/2 (log |det K| - log det A A') - 1/2 (x - m)' Q (x - m)``, about the
    mean m. Gradients flow to mu, k and the stored values of Q, D and A.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law wants ``reparam.auto_reparam``: guides need it, MCMC samples better with it.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        precision_matrix: Q, symmetric: ``scipy.sparse``, a JAX ``BCOO`` or ``BCSR``, or a
            ``SparseMatrix``, whose values ``(*batch, nnz)`` may be traced, learned or a batch.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or sparse.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        precision_root: D ``(p, n)``, sparse, with Q = D'D. Draws are then made of p noises, and
            gradients flow through them; without D they do not flow to Q.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, a Q that is not sparse and
            symmetric, not positive definite on the null space of A, or not D'D; a value off the
            support.

    References:
        Rue and Held (2005), *Gaussian Markov Random Fields*, sections 2.3 and 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from scipy import sparse
        >>> differences = sparse.csr_array([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
        >>> walk = differences.T @ differences
        >>> law = ConstrainedGMRF(0.0, walk, jnp.ones(3), 0.0, precision_root=differences)
        >>> print(law.variance)
        [0.5555... 0.2222... 0.5555...]
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "precision_matrix": constraints.dependent(is_discrete=False, event_dim=2),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    reparametrized_params = ["loc", "precision_matrix", "k"]
    pytree_data_fields = ("_precision", "_root")
    pytree_aux_fields = ("_pattern", "_root_pattern")
    _event_dims = {"loc": 1, "precision_matrix": 2, "precision_root": 2}
    _covariance_form = "sparse precision"

    _conditional: FieldConditional

    def __init__(
        self,
        loc: Any,
        precision_matrix: Any,
        A: Any,
        k: Any,
        *,
        precision_root: Any = None,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        precision = _read("precision_matrix", precision_matrix)
        root = None if precision_root is None else _read("precision_root", precision_root)
        matrices = {"precision_matrix": precision, "precision_root": root}
        known = {name: matrix.values for name, matrix in matrices.items() if matrix is not None}
        loc, *values = floating(loc=loc, **known)
        constraint = bind_constraint(A, k, loc)
        n = constraint.num_variables
        for name, matrix in matrices.items():
            if matrix is not None:
                check_columns(name, matrix.shape, n)
        loc = require_event("loc", loc, (n,))
        batches = {"precision_matrix": values[0].shape[:-1]}
        if root is not None:
            batches["precision_root"] = values[1].shape[:-1]
        batch_shape = batch_shape_of(constraint, loc=loc.shape[:-1], **batches)
        if self._validates(validate_args):
            check_finite("loc", loc)
            check_finite("precision_matrix", values[0])
            _check_symmetric(precision.with_values(values[0]))
            _check_root(precision, root)
        self._pattern = symmetric_pattern(precision.pattern).pattern
        self.loc: Array = lifted(loc, batch_shape, 1)
        self._precision: Array = lifted(self._completed(values[0]), batch_shape, 1)
        self._root_pattern = None if root is None else root.pattern
        self._root: Array | None = None if root is None else lifted(values[1], batch_shape, 1)
        super().__init__(
            constraint, batch_shape, gradient_estimator, support_tolerance, validate_args
        )

    def _completed(self, values: Array) -> Array:
        """Values with zeros for the entries of the diagonal that were not given."""
        missing = jnp.zeros((*values.shape[:-1], len(self._pattern.row) - values.shape[-1]))
        return jnp.concatenate([values, missing.astype(values.dtype)], -1)

    def _condition(self, constraint: LinearConstraint) -> FieldConditional:
        precision = SparseRows(self._pattern, self._precision)
        root = None
        if self._root is not None:
            assert self._root_pattern is not None
            root = SparseRows(self._root_pattern, self._root)
        return FieldConditional(self.loc, precision, root, constraint)

    def _leaves(self) -> dict[str, int]:
        leaves = {"loc": 1, "_precision": 1}
        return leaves if self._root is None else leaves | {"_root": 1}

    def _given(self) -> list[str]:
        return ["loc", "precision_matrix"]

    @property
    def precision_matrix(self) -> SparseMatrix:
        """Q, with its whole diagonal."""
        return SparseMatrix.on(self._pattern, self._precision)

    @property
    def precision_root(self) -> SparseMatrix | None:
        """D, or None."""
        if self._root_pattern is None:
            return None
        return SparseMatrix.on(self._root_pattern, self._root)

    @property
    def base_dist(self) -> dist.MultivariateNormal:
        """The law without the constraint, with a dense precision.

        Raises:
            NoBaseLawError: Q is singular: there is no such law.
        """
        try:
            self._conditional.proper_log_det()
        except ParameterError as error:
            raise NoBaseLawError(str(error)) from error
        precision = SparseRows(self._pattern, self._precision).dense()
        return dist.MultivariateNormal(self._expanded(self.loc, 1), precision_matrix=precision)


def _read(name: str, matrix: Any) -> SparseMatrix:
    if not is_sparse(matrix):
        raise ConstraintError(
            f"{name}: expected a sparse matrix (scipy.sparse, BCOO, BCSR or SparseMatrix), got "
            f"{type(matrix).__name__}; convert it by scipy.sparse.csr_array, or use "
            "ConstrainedMultivariateNormal with a dense precision_matrix."
        )
    return read_sparse(name, matrix)


def _each(matrix: SparseMatrix) -> list[sparse.csr_array]:
    """The matrices of a batch."""
    values = np.asarray(matrix.values, np.float64)
    each = (values[index] for index in np.ndindex(values.shape[:-1]))
    return [SparseMatrix.on(matrix.pattern, one).to_scipy() for one in each]


def _largest(matrix: sparse.csr_array) -> float:
    """The largest size of an entry; 0 where there is none."""
    return float(np.abs(matrix.data).max(initial=0.0))


def _check_symmetric(precision: SparseMatrix) -> None:
    if isinstance(precision.values, Tracer):
        return
    tolerance = np.finfo(precision.values.dtype).eps ** 0.5
    for matrix in _each(precision):
        gap = _largest(matrix - matrix.T)
        if gap > tolerance * _largest(matrix):
            raise ParameterError(
                "precision_matrix: expected a symmetric matrix, got one that differs from its "
                f"transpose by {gap:.3g}; use (Q + Q.T) / 2."
            )


def _check_root(precision: SparseMatrix, root: SparseMatrix | None) -> None:
    if root is None or isinstance(root.values, Tracer) or isinstance(precision.values, Tracer):
        return
    eps = float(np.finfo(root.values.dtype).eps)
    tolerance = max(ROOT_TOLERANCE, 16 * eps)
    matrices, roots = _each(precision), _each(root)
    for i in range(max(len(matrices), len(roots))):
        matrix, factor = matrices[i % len(matrices)], roots[i % len(roots)]
        gap = _largest(factor.T @ factor - matrix)
        if gap > tolerance * _largest(matrix):
            raise ParameterError(
                "precision_root: expected D with D'D = precision_matrix, got one whose D'D differs "
                f"from it by {gap:.3g}; correct D, or leave it out."
            )
