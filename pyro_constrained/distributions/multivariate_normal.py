"""N(mu, Sigma) given A x = k, dense covariance."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from constrained_core.checks.arguments import exactly_one
from pyro_constrained.distributions.gaussian import ConstrainedGaussian
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_covariance,
    check_finite,
    check_tril,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import inverse_of_factored
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.binding import bind_constraint
from pyro_constrained.kernels.linear.precision import (
    PrecisionConditional,
    covariance_tril,
    precision_tril,
)
from pyro_constrained.kernels.linear.root_conditional import DenseConditional

__all__ = ["ConstrainedMultivariateNormal"]


@in_full_precision
class ConstrainedMultivariateNormal(ConstrainedGaussian):
    """x ~ N(mu, Sigma) given A x = k, with a dense covariance.

    The law is normal with mean mu + Sigma A' (A Sigma A')^-1 (k - A mu) and covariance
    Sigma - Sigma A' (A Sigma A')^-1 A Sigma, of rank n - r. Its density, with respect to Hausdorff
    measure on the subspace, is log N(x; mu, Sigma) - log p(A x = k) - 1/2 log det(A A').

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law needs ``reparam.auto_reparam``.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted, autocast is switched off.

    Args:
        loc: ``(*batch, n)`` mu.
        covariance_matrix: ``(*batch, n, n)`` Sigma, positive definite.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix, which is
            made dense here: ``ConstrainedNormal`` and others keep it.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        precision_matrix: ``(*batch, n, n)`` inverse of Sigma, instead of Sigma; it need be positive
            definite on the null space of A only, as that of an intrinsic field.
        scale_tril: ``(*batch, n, n)`` lower Cholesky factor of Sigma, instead of Sigma.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, Sigma not positive definite, not
            exactly one of the three covariance parameters, a value off the support.

    References:
        Li, Sahu, Van den Broeck, Zeng (2025), *Deep Generative Models with Hard Linear Equality
        Constraints*; Chiles and Delfiner (2012), *Geostatistics* (conditioning by kriging).

    Example:
        >>> import torch
        >>> law = ConstrainedMultivariateNormal(
        ...     torch.zeros(3), torch.eye(3), A=torch.ones(3), k=torch.tensor(6.0)
        ... )
        >>> law.mean
        tensor([2., 2., 2.])
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    _event_dims = {"loc": 1, "covariance_matrix": 2, "precision_matrix": 2, "scale_tril": 2}
    _covariance_form = "dense"

    @quiet_under_trace
    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        A: Any = None,
        k: Any = None,
        *,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, matrix = exactly_one(
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        loc, matrix = floating(loc=loc, **{name: matrix})
        constraint = bind_constraint(A, k, loc, dense=True)
        n = constraint.num_variables
        loc = require_event("loc", loc, (n,))
        matrix = require_event(name, matrix, (n, n), stretch=False)
        batch_shape = batch_shape_of(constraint, **{"loc": loc.shape[:-1], name: matrix.shape[:-2]})
        if self._validates(validate_args):
            check_finite("loc", loc)
            (check_tril if name == "scale_tril" else check_covariance)(name, matrix)
        self.loc = expanded(loc, batch_shape + (n,))
        setattr(self, name, expanded(matrix, batch_shape + (n, n)))
        law: DenseConditional
        if name == "precision_matrix":
            law = PrecisionConditional(self.loc, matrix, constraint)
        else:
            scale_tril = matrix if name == "scale_tril" else covariance_tril(matrix)
            self.scale_tril = expanded(scale_tril, batch_shape + (n, n))
            law = DenseConditional(self.loc, scale_tril, constraint)
        super().__init__(law, batch_shape, gradient_estimator, support_tolerance, validate_args)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """``(*batch, n, n)`` lower Cholesky factor of Sigma."""
        return precision_tril(self.precision_matrix)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """``(*batch, n, n)`` Sigma, the parameter; ``covariance`` is that of the law."""
        return self.scale_tril @ self.scale_tril.mT

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """``(*batch, n, n)`` inverse of Sigma."""
        return inverse_of_factored(self.scale_tril)

    @property
    def base_dist(self) -> dist.MultivariateNormal:
        """N(mu, Sigma) without the constraint."""
        self._require_unchanged()  # the factor was made of Sigma
        return dist.MultivariateNormal(self.loc, scale_tril=self.scale_tril)
