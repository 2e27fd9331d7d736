"""Multivariate Student-t given A x = k."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from constrained_core.checks import exactly_one
from numpyro_constrained.distributions.location_scale import (
    LOG_TWO_PI,
    ConstrainedLocationScale,
)
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    check_tril,
    require_event,
)
from numpyro_constrained.kernels.arrays.gamma import digamma_step, log_gamma_excess
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.conditional import (
    Conditional,
    DenseConditional,
    DiagonalConditional,
)
from numpyro_constrained.kernels.linear.constraint import LinearConstraint

__all__ = ["ConstrainedMultivariateStudentT"]


class ConstrainedMultivariateStudentT(ConstrainedLocationScale):
    """x ~ t(nu, mu, L L') given A x = k: again a multivariate t, on the subspace.

    It has nu + r degrees of freedom and the location of the normal law; its squared scale is that
    of the normal law times (nu + s) / (nu + r), where s = (k - A mu)' (A L L' A')^-1 (k - A mu) is
    the surprise of the constraint.

    Args:
        df: ``(*batch,)`` nu, positive.
        loc: ``(*batch, n)`` mu.
        scale_tril: ``(*batch, n, n)`` L, lower triangular with positive diagonal.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        scale: ``(*batch, n)`` positive, for L = diag(scale), instead of ``scale_tril``.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, a df or scale that is not
            positive, not exactly one of ``scale_tril`` and ``scale``, a value off the support.

    References:
        Ding (2016), *On the Conditional Distribution of the Multivariate t Distribution*.

    Example:
        >>> law = ConstrainedMultivariateStudentT(
        ...     3.0, jnp.zeros(3), A=jnp.ones(3), k=6.0, scale=jnp.ones(3)
        ... )
        >>> print(law.mean)
        [2. 2. 2.]
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
        "scale": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    reparametrized_params = ["df", "loc", "scale_tril", "scale", "k"]
    pytree_data_fields = ("df", "_factor")
    pytree_aux_fields = ("_is_dense",)
    _event_dims = {"df": 0, "loc": 1, "scale_tril": 2, "scale": 1}

    def __init__(
        self,
        df: Any,
        loc: Any,
        scale_tril: Any = None,
        A: Any = None,
        k: Any = None,
        *,
        scale: Any = None,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, factor = exactly_one(scale_tril=scale_tril, scale=scale)
        df, loc, factor = floating(df, loc, factor)
        constraint = bind_constraint(A, k, loc)
        n = constraint.num_variables
        event_shape = (n, n) if name == "scale_tril" else (n,)
        loc = require_event("loc", loc, (n,))
        factor = require_event(name, factor, event_shape, stretch=name == "scale")
        factor_batch = factor.shape[: factor.ndim - len(event_shape)]
        batch_shape = batch_shape_of(
            constraint, **{"df": df.shape, "loc": loc.shape[:-1], name: factor_batch}
        )
        if self._validates(validate_args):
            check_positive("df", df)
            check_finite("loc", loc)
            (check_tril if name == "scale_tril" else check_positive)(name, factor)
        self._is_dense = name == "scale_tril"
        self.df: Array = lifted(df, batch_shape, 0)
        self.loc: Array = lifted(loc, batch_shape, 1)
        self._factor: Array = lifted(factor, batch_shape, len(event_shape))
        super().__init__(
            constraint, batch_shape, gradient_estimator, support_tolerance, validate_args
        )

    def _condition(self, constraint: LinearConstraint) -> Conditional:
        conditional = DenseConditional if self._is_dense else DiagonalConditional
        return conditional(self.loc, self._factor, constraint)

    def _leaves(self) -> dict[str, int]:
        return {"df": 0, "loc": 1, "_factor": 2 if self._is_dense else 1}

    def _given(self) -> list[str]:
        return ["df", "loc", "scale_tril" if self._is_dense else "scale"]

    @property
    def scale_tril(self) -> Array:
        """``(*batch, n, n)`` L, the parameter; diagonal where ``scale`` was given."""
        if self._is_dense:
            return self._factor
        return self._factor[..., None] * jnp.eye(self.event_shape[0], dtype=self._factor.dtype)

    @property
    def scale(self) -> Array:
        """``(*batch, n)`` the parameter; the root of the diagonal of L L' where L was given."""
        if self._is_dense:
            return jnp.sqrt(jnp.square(self._factor).sum(-1))
        return self._factor

    @property
    def base_dist(self) -> dist.MultivariateStudentT:
        """The law without the constraint."""
        parameters = self.df, self.loc, self.scale_tril
        df, loc, scale_tril = map(self._expanded, parameters, (0, 1, 2))
        return dist.MultivariateStudentT(df, loc, scale_tril)

    @property
    def mean(self) -> Array:
        """``(*batch, n)`` E[x | A x = k]; undefined (NaN) where nu + r <= 1."""
        exists = self.df + self.rank > 1
        return jnp.where(lift(exists, len(self.batch_shape))[..., None], super().mean, jnp.nan)

    def _variance_factor(self) -> Array:
        df = self.df + self.rank
        factor = self._spread() / jnp.maximum(df - 2, jnp.finfo(df.dtype).tiny)
        factor = jnp.where(df > 2, factor, jnp.inf)
        return jnp.where(df > 1, factor, jnp.nan)[..., None]

    def _spread(self) -> Array:
        return self.df + self._ranked(self._conditional.surprise)

    def _ranked(self, summary: Any) -> Any:
        """A summary of the conditional law in the rank of df, which grows with ``expand``."""
        return summary if isinstance(summary, int) else lift(summary, self.df.ndim)

    def _noise_factor(self, key: Array, shape: tuple[int, ...]) -> Array:
        half_df = jnp.broadcast_to(lift(self._half_df()[0], len(shape)), shape)
        chi2 = 2 * jax.random.gamma(key, half_df, dtype=half_df.dtype)
        return jnp.sqrt(lift(self._spread(), len(shape)) / chi2)[..., None]

    @property
    def _log_spread(self) -> Array:
        """``(*batch,)`` log (nu + s) / (nu + r)."""
        df, rank = self.df, self._ranked(self.rank)
        return jnp.log1p((self._ranked(self._conditional.surprise) - rank) / (df + rank))

    def _half_df(self) -> tuple[Array, Any]:
        """Half the degrees of freedom on the subspace, and half its dimension."""
        half_df = 0.5 * (self.df + self._ranked(self.rank))
        return half_df, 0.5 * self._ranked(self._constraint.free_size)

    def _log_density(self, mahalanobis: Array) -> Array:
        (half_df, half_size), ndim = self._half_df(), mahalanobis.ndim
        normaliser = (
            log_gamma_excess(half_df, half_size)
            - half_size * (LOG_TWO_PI + self._log_spread)
            - self._ranked(self._conditional.half_log_det)
        )
        surprise = jnp.log1p(mahalanobis / lift(self._spread(), ndim))
        return lift(normaliser, ndim) - lift(half_df + half_size, ndim) * surprise

    def entropy(self) -> Array:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        half_df, half_size = self._half_df()
        entropy = (
            half_size * (LOG_TWO_PI + self._log_spread)
            - log_gamma_excess(half_df, half_size)
            + self._ranked(self._conditional.half_log_det)
            + (half_df + half_size) * digamma_step(half_df, half_size)
        )
        return self._expanded(self._unless_point(entropy), 0)

    def constraint_log_prob(self) -> Array:
        """``(*batch,)`` log density of A x at k under the base law.

        With redundant rows, the density is with respect to Hausdorff measure on the range of A.
        """
        law, rank = self._conditional, self._ranked(self.rank)
        log_density = (
            log_gamma_excess(0.5 * self.df, 0.5 * rank)
            - 0.5 * rank * LOG_TWO_PI
            - self._ranked(law.constraint_half_log_det)
            - 0.5 * (self.df + rank) * jnp.log1p(self._ranked(law.surprise) / self.df)
            - self._ranked(law.constraint.matrix.log_range_volume)
        )
        return self._expanded(log_density, 0)
