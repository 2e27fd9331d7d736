"""N(mu, Sigma) given A x = k, dense covariance."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.util import lazy_property

from constrained_core.checks.arguments import exactly_one
from numpyro_constrained.distributions.gaussian import ConstrainedGaussian
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_covariance,
    check_finite,
    check_tril,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.leaves import derived_property
from numpyro_constrained.kernels.arrays.linalg import lift, lifted, matmul, solve_lower_matrix
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.precision import (
    PrecisionConditional,
    covariance_tril,
    precision_tril,
)
from numpyro_constrained.kernels.linear.root_conditional import DenseConditional

__all__ = ["ConstrainedMultivariateNormal"]


class ConstrainedMultivariateNormal(ConstrainedGaussian):
    """x ~ N(mu, Sigma) given A x = k, with a dense covariance.

    The law is normal with mean mu + Sigma A' (A Sigma A')^-1 (k - A mu) and covariance
    Sigma - Sigma A' (A Sigma A')^-1 A Sigma, of rank n - r. Its density, with respect to Hausdorff
    measure on the subspace, is log N(x; mu, Sigma) - log p(A x = k) - 1/2 log det(A A').

    Where A or k is itself sampled or learned, or changes between calls of a model, a latent site of
    this law wants ``reparam.auto_reparam``: guides need it, MCMC samples better with it.

    A latent site whose k is data, a sum as it was measured, has the density of x given k alone.
    Where parameters are learned, k speaks of them too: add ``factor("k",
    law.constraint_log_prob())`` to the model, without which their posterior is the prior.

    Computed in at least float32: half-precision parameters are promoted.

    Args:
        loc: ``(*batch, n)`` mu.
        covariance_matrix: ``(*batch, n, n)`` Sigma, positive definite.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
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
        >>> import jax.numpy as jnp
        >>> law = ConstrainedMultivariateNormal(jnp.zeros(3), jnp.eye(3), A=jnp.ones(3), k=6.0)
        >>> print(law.mean)
        [2. 2. 2.]
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    reparametrized_params = ["loc", "covariance_matrix", "precision_matrix", "scale_tril", "k"]
    pytree_data_fields = ("_factor",)
    pytree_aux_fields = ("_is_precise",)
    _event_dims = {"loc": 1, "covariance_matrix": 2, "precision_matrix": 2, "scale_tril": 2}
    _covariance_form = "dense"

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
        self.loc: Array = lifted(loc, batch_shape, 1)
        self.__dict__[name] = matrix = lifted(matrix, batch_shape, 2)
        self._is_precise = name == "precision_matrix"
        self._factor: Array = covariance_tril(matrix) if name == "covariance_matrix" else matrix
        super().__init__(
            constraint, batch_shape, gradient_estimator, support_tolerance, validate_args
        )

    def _condition(self, constraint: LinearConstraint) -> DenseConditional:
        conditional = PrecisionConditional if self._is_precise else DenseConditional
        return conditional(self.loc, self._factor, constraint)

    def _leaves(self) -> dict[str, int]:
        return {"loc": 1, "_factor": 2} | super()._leaves()

    @derived_property
    def scale_tril(self) -> Array:
        """``(*batch, n, n)`` lower Cholesky factor of Sigma."""
        return precision_tril(self._factor) if self._is_precise else self._factor

    @lazy_property
    def covariance_matrix(self) -> Array:
        """``(*batch, n, n)`` Sigma, the parameter; ``covariance`` is that of the law."""
        return matmul(self.scale_tril, self.scale_tril.mT)

    @lazy_property
    def precision_matrix(self) -> Array:
        """``(*batch, n, n)`` inverse of Sigma."""
        if self._is_precise:
            return self._factor
        identity = jnp.eye(self.event_shape[0], dtype=self.scale_tril.dtype)
        inverse = solve_lower_matrix(self.scale_tril, lift(identity, self.scale_tril.ndim))
        return matmul(inverse.mT, inverse)

    @property
    def base_dist(self) -> dist.MultivariateNormal:
        """N(mu, Sigma) without the constraint."""
        loc = self._expanded(self.loc, 1)
        return dist.MultivariateNormal(loc, scale_tril=self.scale_tril)
