"""N(mu, W W' + diag(d)) given A x = k."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from constrained_core.checks.shapes import check_factor_shape
from numpyro_constrained.distributions.gaussian import ConstrainedGaussian
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lifted, matmul
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.low_rank import LowRankConditional

__all__ = ["ConstrainedLowRankMultivariateNormal"]


class ConstrainedLowRankMultivariateNormal(ConstrainedGaussian):
    """x ~ N(mu, W W' + diag(d)) given A x = k, with a factor W of few columns.

    As ``ConstrainedMultivariateNormal``, in O(n (m + q)) memory for q factors; O(n q) for one row
    or groups. The covariance never becomes dense unless ``covariance`` is asked for.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law wants ``reparam.auto_reparam``: guides need it, MCMC samples better with it.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        cov_factor: ``(*batch, n, q)`` W.
        cov_diag: ``(*batch, n)`` d, positive; a number stands for all n.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
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
        >>> import jax.numpy as jnp
        >>> law = ConstrainedLowRankMultivariateNormal(
        ...     jnp.zeros(3), jnp.ones((3, 1)), jnp.ones(3), jnp.ones(3), 6.0
        ... )
        >>> print(law.mean)
        [2. 2. 2.]
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    reparametrized_params = ["loc", "cov_factor", "cov_diag", "k"]
    pytree_data_fields = ("cov_factor", "cov_diag")
    _event_dims = {"loc": 1, "cov_factor": 2, "cov_diag": 1}
    _covariance_form = "low rank"

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
        self.loc: Array = lifted(loc, batch_shape, 1)
        self.cov_factor: Array = lifted(cov_factor, batch_shape, 2)
        self.cov_diag: Array = lifted(cov_diag, batch_shape, 1)
        super().__init__(
            constraint, batch_shape, gradient_estimator, support_tolerance, validate_args
        )

    def _condition(self, constraint: LinearConstraint) -> LowRankConditional:
        return LowRankConditional(self.loc, self.cov_factor, jnp.sqrt(self.cov_diag), constraint)

    @property
    def covariance_matrix(self) -> Array:
        """``(*batch, n, n)`` W W' + diag(d), the parameter; ``covariance`` is that of the law."""
        product = matmul(self.cov_factor, self.cov_factor.mT)
        diagonal = jnp.arange(self.event_shape[0])
        shape = jnp.broadcast_shapes(product.shape, self.cov_diag.shape + (1,))
        return jnp.broadcast_to(product, shape).at[..., diagonal, diagonal].add(self.cov_diag)

    @property
    def base_dist(self) -> dist.LowRankMultivariateNormal:
        """The law without the constraint."""
        parameters = self.loc, self.cov_factor, self.cov_diag
        loc, cov_factor, cov_diag = map(self._expanded, parameters, (1, 2, 1))
        return dist.LowRankMultivariateNormal(loc, cov_factor, cov_diag)
