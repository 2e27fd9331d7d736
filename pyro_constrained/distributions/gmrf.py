"""A Gaussian Markov random field given A x = k, by its sparse precision."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad

from constrained_core.checks.shapes import check_columns
from constrained_core.errors import ConstraintError, NoBaseLawError, ParameterError
from constrained_core.sparse import SparseMatrix
from pyro_constrained.distributions.gaussian import ConstrainedGaussian
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.sparse import as_sparse, is_sparse, sparse_index
from pyro_constrained.kernels.arrays.tracing import constant, quiet_under_trace
from pyro_constrained.kernels.linear.binding import bind_constraint
from pyro_constrained.kernels.linear.gmrf import FieldConditional, symmetric_pattern
from pyro_constrained.kernels.linear.precision import precision_tril

__all__ = ["ConstrainedGMRF"]

ROOT_TOLERANCE = 1e-8


@in_full_precision
class ConstrainedGMRF(ConstrainedGaussian):
    """x with density proportional to exp(-1/2 (x - mu)' Q (x - mu)), given A x = k; Q sparse.

    Q need be positive definite on the null space of A only, as that of an intrinsic field with a
    sum for each of its connected components. All is computed from the saddle-point matrix
    K = [[Q, A'], [A, 0]], sparse, in float64 on the host: the covariance is the upper left block of
    its inverse, the log density with respect to Hausdorff measure on the subspace
    ``-1/2 (n - r) log 2 pi + 1/2 (log |det K| - log det A A') - 1/2 (x - m)' Q (x - m)``, about the
    mean m. Gradients flow to mu, k and the stored values of Q, D and A.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law needs ``reparam.auto_reparam``.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        precision_matrix: Q, symmetric: ``scipy.sparse``, a sparse tensor (COO, CSR), or a
            ``SparseMatrix``, whose values ``(*batch, nnz)`` may be learned or a batch.
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
        >>> import torch
        >>> from scipy import sparse
        >>> differences = sparse.csr_array([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
        >>> walk = differences.T @ differences
        >>> law = ConstrainedGMRF(
        ...     torch.zeros(3), walk, torch.ones(3), 0.0, precision_root=differences
        ... )
        >>> law.variance
        tensor([0.5556, 0.2222, 0.5556], dtype=torch.float64)
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "precision_matrix": constraints.dependent(is_discrete=False, event_dim=2),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    _event_dims = {"loc": 1, "precision_matrix": 2, "precision_root": 2}
    _covariance_form = "sparse precision"

    @quiet_under_trace
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
        loc, precision, root = _read(loc, precision_matrix, precision_root)
        constraint = bind_constraint(A, k, loc)
        n = constraint.num_variables
        loc = require_event("loc", loc, (n,))
        batches = {"loc": loc.shape[:-1]}
        for name, matrix in (("precision_matrix", precision), ("precision_root", root)):
            if matrix is not None:
                check_columns(name, matrix.shape, n)
                batches[name] = matrix.values.shape[:-1]
        batch_shape = batch_shape_of(constraint, **batches)
        if self._validates(validate_args):
            check_finite("loc", loc)
            check_finite("precision_matrix", precision.values)
            _check_symmetric(precision)
            _check_root(precision, root)
        self.loc = expanded(loc, batch_shape + (n,))
        self.precision_matrix = _expanded(precision, batch_shape)
        self.precision_root = None if root is None else _expanded(root, batch_shape)
        law = FieldConditional(self.loc, precision, root, constraint)
        super().__init__(law, batch_shape, gradient_estimator, support_tolerance, validate_args)

    @property
    def base_dist(self) -> dist.MultivariateNormal:
        """The law without the constraint, with a dense precision.

        Raises:
            NoBaseLawError: Q is singular: there is no such law.
        """
        values = self.precision_matrix.values
        dense = sparse_index(self.precision_matrix.pattern, values.device).dense(values)
        try:
            tril = precision_tril(dense)
        except ParameterError as error:
            raise NoBaseLawError(str(error)) from error
        return dist.MultivariateNormal(self.loc, scale_tril=tril)


def _read(loc: Any, precision: Any, root: Any) -> tuple[Tensor, SparseMatrix, SparseMatrix | None]:
    """The parameters in one dtype, on one device."""
    device = loc.device if isinstance(loc, Tensor) else None
    given = {"precision_matrix": precision} | ({} if root is None else {"precision_root": root})
    read = {name: _read_sparse(name, matrix, device) for name, matrix in given.items()}
    loc, *values = floating(loc=loc, **{name: matrix.values for name, matrix in read.items()})
    matrices = [one.with_values(v) for one, v in zip(read.values(), values, strict=True)]
    return loc, matrices[0], matrices[1] if len(matrices) > 1 else None


def _read_sparse(name: str, matrix: Any, device: torch.device | None) -> SparseMatrix:
    if not is_sparse(matrix):
        raise ConstraintError(
            f"{name}: expected a sparse matrix (scipy.sparse, a sparse tensor or SparseMatrix), "
            f"got {type(matrix).__name__}; convert it by scipy.sparse.csr_array, or use "
            "ConstrainedMultivariateNormal with a dense precision_matrix."
        )
    return as_sparse(name, matrix, device)


def _expanded(matrix: SparseMatrix, batch_shape: torch.Size) -> SparseMatrix:
    return matrix.with_values(expanded(matrix.values, batch_shape + matrix.values.shape[-1:]))


@constant
def _asymmetry(precision: SparseMatrix) -> Tensor:
    """``(*batch,)`` largest difference of Q from its transpose, relative to its entries."""
    symmetric, values = symmetric_pattern(precision.pattern), precision.values
    whole = pad(values, (0, len(symmetric.mirror) - values.shape[-1]))
    gap = (whole - whole[..., torch.tensor(symmetric.mirror, device=values.device)]).abs()
    return gap.amax(-1) - torch.finfo(values.dtype).eps ** 0.5 * whole.abs().amax(-1)


def _check_symmetric(precision: SparseMatrix) -> None:
    if precision.shape[-1] == 0 or not are_known(precision.values):
        return
    excess = _asymmetry(precision)
    if bool((excess > 0).any()):
        raise TensorParameterError(
            "precision_matrix: expected a symmetric matrix, got one that differs from its "
            "transpose; use (Q + Q.T) / 2."
        )


@constant
def _root_gap(precision: SparseMatrix, root: SparseMatrix) -> Tensor:
    """How far Q and D'D are apart on a vector, relative to the size of their terms."""
    device = precision.values.device
    one, other = (sparse_index(matrix.pattern, device) for matrix in (precision, root))
    q, d = precision.values.double(), root.values.double()
    probe = torch.linspace(0.5, 1.5, one.pattern.shape[1], dtype=torch.float64, device=device).cos()
    gap = one.apply(q, probe) - other.adjoint(d, other.apply(d, probe))
    size = other.adjoint(d.abs(), other.apply(d.abs(), probe)) + one.apply(q.abs(), probe)
    return (gap.abs() / torch.where(size > 0, size, 1.0)).amax()


def _check_root(precision: SparseMatrix, root: SparseMatrix | None) -> None:
    if root is None or not are_known(precision.values, root.values):
        return
    tolerance = max(ROOT_TOLERANCE, 16 * torch.finfo(precision.values.dtype).eps)
    gap = float(_root_gap(precision, root)) if precision.shape[-1] else 0.0
    if gap > tolerance:
        raise TensorParameterError(
            "precision_root: expected D with D'D = precision_matrix, got one whose D'D differs "
            f"from it by {gap:.3g} of its size; correct D, or leave it out."
        )
