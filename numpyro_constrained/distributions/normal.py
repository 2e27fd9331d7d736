"""N(mu, diag(sigma^2)) given A x = k."""

from typing import Any

import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from numpyro_constrained.distributions.gaussian import ConstrainedGaussian
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.conditional import Conditional
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.root_conditional import (
    DiagonalConditional,
    UniformConditional,
)

__all__ = ["ConstrainedNormal"]


class ConstrainedNormal(ConstrainedGaussian):
    """Independent x_i ~ N(mu_i, sigma_i^2) given A x = k.

    As ``ConstrainedMultivariateNormal`` with Sigma = diag(sigma^2), in O(n m) memory; O(n) for one
    row or groups. There is never an n x n array unless ``covariance`` is asked for.

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law wants ``reparam.auto_reparam``: guides need it, MCMC samples better with it.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted.

    Args:
        loc: ``(*batch, n)`` mu; a number stands for all n.
        scale: ``(*batch, n)`` sigma, positive; a number, or ``(*batch, 1)``, stands for all n.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
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
        >>> import jax.numpy as jnp
        >>> law = ConstrainedNormal(0.0, jnp.array([1.0, 1.0, 2.0]), jnp.ones(3), 6.0)
        >>> print(law.mean)
        [1. 1. 4.]
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    reparametrized_params = ["loc", "scale", "k"]
    pytree_data_fields = ("scale",)
    _event_dims = {"loc": 1, "scale": 1}
    _covariance_form = "diagonal"

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
        n, number = constraint.num_variables, None
        if scale.shape[-1:] in ((), (1,)):
            number = scale.reshape(scale.shape[:-1] + (1,))
        loc, scale = require_event("loc", loc, (n,)), require_event("scale", scale, (n,))
        batch_shape = batch_shape_of(constraint, loc=loc.shape[:-1], scale=scale.shape[:-1])
        if self._validates(validate_args):
            check_finite("loc", loc)
            check_positive("scale", scale)
        self.loc: Array = lifted(loc, batch_shape, 1)
        self.scale: Array = lifted(scale, batch_shape, 1)
        self._number = number
        super().__init__(
            constraint, batch_shape, gradient_estimator, support_tolerance, validate_args
        )

    def _condition(self, constraint: LinearConstraint) -> Conditional:
        number = self.__dict__.get("_number")  # a law made from its leaves knows none
        if number is None:
            return DiagonalConditional(self.loc, self.scale, constraint)
        return UniformConditional(self.loc, lift(number, self.loc.ndim), constraint)

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in super().__getstate__().items() if name != "_number"}

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent normal law without the constraint."""
        return dist.Normal(self._expanded(self.loc, 1), self._expanded(self.scale, 1)).to_event(1)
