"""N(mu, diag(sigma^2)) given A x = k."""

from typing import Any

import pyro.distributions as dist
from torch.distributions import constraints

from pyro_constrained.distributions.gaussian import ConstrainedGaussian
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.binding import bind_constraint
from pyro_constrained.kernels.linear.root_conditional import DiagonalConditional, UniformConditional

__all__ = ["ConstrainedNormal"]


@in_full_precision
class ConstrainedNormal(ConstrainedGaussian):
    """Independent x_i ~ N(mu_i, sigma_i^2) given A x = k.

    As ``ConstrainedMultivariateNormal`` with Sigma = diag(sigma^2), in O(n m) memory; O(n) for one
    row or groups. There is never an n x n array unless ``covariance`` is asked for.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law needs ``reparam.auto_reparam``.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted, autocast is switched off.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        scale: ``(*batch, n)`` sigma, positive; a number, or ``(*batch, 1)``, stands for all n.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix: of
            ``scipy.sparse``, a sparse tensor (COO, CSR) or a ``SparseMatrix``. It stays sparse.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, a scale that is not positive, a
            value off the support.

    References:
        Li, Sahu, Van den Broeck, Zeng (2025), *Deep Generative Models with Hard Linear Equality
        Constraints*.

    Example:
        >>> import torch
        >>> law = ConstrainedNormal(0.0, torch.tensor([1.0, 1.0, 2.0]), torch.ones(3), 6.0)
        >>> law.mean
        tensor([1., 1., 4.])
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    _event_dims = {"loc": 1, "scale": 1}
    _covariance_form = "diagonal"

    @quiet_under_trace
    def __init__(
        self,
        loc: Any,
        scale: Any,
        A: Any,
        k: Any,
        *,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        loc, scale = floating(loc=loc, scale=scale)
        constraint = bind_constraint(A, k, loc)
        n, is_number = constraint.num_variables, scale.shape[-1:] in ((), (1,))
        loc, scale = require_event("loc", loc, (n,)), require_event("scale", scale, (n,))
        batch_shape = batch_shape_of(constraint, loc=loc.shape[:-1], scale=scale.shape[:-1])
        if self._validates(validate_args):
            check_finite("loc", loc)
            check_positive("scale", scale)
        self.loc = expanded(loc, batch_shape + (n,))
        self.scale = expanded(scale, batch_shape + (n,))
        condition = UniformConditional if is_number else DiagonalConditional
        law = condition(self.loc, scale[..., :1] if is_number else scale, constraint)
        super().__init__(law, batch_shape, gradient_estimator, support_tolerance, validate_args)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent normal law without the constraint."""
        return dist.Normal(self.loc, self.scale).to_event(1)
