"""N(mu, W W' + diag(d)) given A x = k."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from constrained_core.checks.shapes import check_factor_shape
from pyro_constrained.distributions.gaussian import ConstrainedGaussian
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.binding import bind_constraint
from pyro_constrained.kernels.linear.low_rank import LowRankConditional

__all__ = ["ConstrainedLowRankMultivariateNormal"]


@in_full_precision
class ConstrainedLowRankMultivariateNormal(ConstrainedGaussian):
    """x ~ N(mu, W W' + diag(d)) given A x = k, with a factor W of few columns.

    As ``ConstrainedMultivariateNormal``, in O(n (m + q)) memory for q factors; O(n q) for one row
    or groups. The covariance never becomes dense unless ``covariance`` is asked for.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law needs ``reparam.auto_reparam``.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted, autocast is switched off.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        cov_factor: ``(*batch, n, q)`` W.
        cov_diag: ``(*batch, n)`` d, positive; a number stands for all n.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix: of
            ``scipy.sparse``, a sparse tensor (COO, CSR) or a ``SparseMatrix``. It stays sparse.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, a variance that is not positive,
            a value off the support.

    References:
        Li, Sahu, Van den Broeck, Zeng (2025), *Deep Generative Models with Hard Linear Equality
        Constraints*; Woodbury (1950) for the inverse.

    Example:
        >>> import torch
        >>> law = ConstrainedLowRankMultivariateNormal(
        ...     torch.zeros(3), torch.ones(3, 1), torch.ones(3), torch.ones(3), 6.0
        ... )
        >>> law.mean
        tensor([2., 2., 2.])
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    _event_dims = {"loc": 1, "cov_factor": 2, "cov_diag": 1}
    _covariance_form = "low rank"

    @quiet_under_trace
    def __init__(
        self,
        loc: Any,
        cov_factor: Any,
        cov_diag: Any,
        A: Any,
        k: Any,
        *,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        loc, cov_factor, cov_diag = floating(loc=loc, cov_factor=cov_factor, cov_diag=cov_diag)
        constraint = bind_constraint(A, k, loc)
        n = constraint.num_variables
        loc, cov_diag = require_event("loc", loc, (n,)), require_event("cov_diag", cov_diag, (n,))
        check_factor_shape(cov_factor.shape, n)
        batch_shape = batch_shape_of(
            constraint,
            loc=loc.shape[:-1],
            cov_factor=cov_factor.shape[:-2],
            cov_diag=cov_diag.shape[:-1],
        )
        if self._validates(validate_args):
            check_finite("loc", loc)
            check_finite("cov_factor", cov_factor)
            check_positive("cov_diag", cov_diag)
        self.loc = expanded(loc, batch_shape + (n,))
        self.cov_factor = expanded(cov_factor, batch_shape + cov_factor.shape[-2:])
        self.cov_diag = expanded(cov_diag, batch_shape + (n,))
        law = LowRankConditional(self.loc, cov_factor, cov_diag.sqrt(), constraint)
        super().__init__(law, batch_shape, gradient_estimator, support_tolerance, validate_args)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """``(*batch, n, n)`` W W' + diag(d), the parameter; ``covariance`` is that of the law."""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @property
    def base_dist(self) -> dist.LowRankMultivariateNormal:
        """The law without the constraint."""
        return dist.LowRankMultivariateNormal(self.loc, self.cov_factor, self.cov_diag)
