"""Multivariate Student-t given A x = k."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from constrained_core.checks.arguments import check_per_group, exactly_one
from constrained_core.checks.laws import no_joint_base
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
from numpyro_constrained.kernels.arrays.gamma import digamma_step, log_gamma_excess, log_student
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.leaves import folded, untraced_property
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.linear.binding import bind_constraint
from numpyro_constrained.kernels.linear.blocks import Blocks, GroupBlocks, OneBlock
from numpyro_constrained.kernels.linear.conditional import Conditional
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.root_conditional import (
    DenseConditional,
    DiagonalConditional,
)

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
        per_group: whether each group of a ``GroupSum`` A has a t law of its own, independent of the
            others: one heavy-tailed factor for each group, not one for all. Needs ``scale``.
        gradient_estimator: ``pathwise``, ``marginal_expectation`` or ``score_function``.
        support_tolerance: relative tolerance of the support; 1e-6 (float64), 1e-4 (float32).
        validate_args: whether parameters and values are checked.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes that do not fit, NaN or infinity, a df or scale that is not
            positive, not exactly one of ``scale_tril`` and ``scale``, ``per_group`` without groups
            or ``scale``, a value off the support.

    References:
        Ding (2016), *On the Conditional Distribution of the Multivariate t Distribution*.

    Example:
        >>> import jax.numpy as jnp
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
    pytree_aux_fields = ("_is_dense", "_per_group")
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
        per_group: bool = False,
        gradient_estimator: str = "pathwise",
        support_tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, factor = exactly_one(scale_tril=scale_tril, scale=scale)
        df, loc, factor = floating(df=df, loc=loc, **{name: factor})
        constraint = bind_constraint(A, k, loc, dense=name == "scale_tril")
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
        check_per_group(per_group, A, name)
        self._is_dense, self._per_group = name == "scale_tril", per_group
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in super().__getstate__().items() if name != "_blocks"}

    def _given(self) -> list[str]:
        return ["df", "loc", "scale_tril" if self._is_dense else "scale"]

    @property
    def _covariance_form(self) -> str:  # type: ignore[override]  # as the scale is given
        return "dense" if self._is_dense else "diagonal"

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
        """The law without the constraint.

        Raises:
            NoBaseLawError: under ``per_group``, a product of laws that NumPyro does not have.
        """
        if self._per_group:
            raise no_joint_base()
        parameters = self.df, self.loc, self.scale_tril
        df, loc, scale_tril = map(self._expanded, parameters, (0, 1, 2))
        return dist.MultivariateStudentT(df, loc, scale_tril)

    @untraced_property
    @folded
    def _blocks(self) -> Blocks:
        law, partition = self._conditional, self._constraint.matrix.partition
        if not self._per_group:
            return OneBlock(law)
        assert isinstance(law, DiagonalConditional) and partition is not None
        return GroupBlocks(law, partition)

    def _ranked(self, summary: Any) -> Any:
        """A figure of the blocks in the rank and dtype of df, which grows with ``expand``."""
        if isinstance(summary, int):
            return summary
        return lift(summary, self.df.ndim + 1).astype(self.df.dtype)

    @property
    def _known_df(self) -> Array:
        """``(*batch,)`` nu; NaN where one that nothing has checked is not positive."""
        return self.df if self._has_checked(self.df) else jnp.where(self.df > 0, self.df, jnp.nan)

    def _block_df(self) -> tuple[Array, Array]:
        """``(*batch, B)`` nu + r and nu + s of each block."""
        df, blocks = self._known_df[..., None], self._blocks
        return df + self._ranked(blocks.rank), df + self._ranked(blocks.surprise)

    @property
    def mean(self) -> Array:
        """``(*batch, n)`` E[x | A x = k]; undefined (NaN) where nu + r <= 1."""
        exists = self._blocks.members(self._block_df()[0] > 1)
        centre = self.mode
        return jnp.where(lift(exists, centre.ndim), centre, jnp.nan)

    def _variance_factor(self, variance: Array) -> Array:
        df, spread = self._block_df()
        factor = spread / jnp.maximum(df - 2, jnp.finfo(df.dtype).tiny)
        factor = jnp.where(df > 2, factor, jnp.inf)
        factor = self._blocks.members(jnp.where(df > 1, factor, jnp.nan))
        return jnp.where(lift(variance, factor.ndim) == 0, 1.0, factor)

    def _noise_factor(self, key: Array, shape: tuple[int, ...]) -> Array:
        df, spread = self._block_df()
        half_df = jnp.broadcast_to(lift(0.5 * df, len(shape) + 1), shape + df.shape[-1:])
        chi2 = 2 * jax.random.gamma(key, half_df, dtype=half_df.dtype)
        return self._blocks.members(jnp.sqrt(lift(spread, chi2.ndim) / chi2))

    def _distance(self, value: Array) -> Array:
        return self._blocks.distance(value)

    def _figures(self) -> tuple[Array, Any, Array]:
        """Half the degrees of freedom on the subspace, half its dimension, and the log of
        (nu + s) / (nu + r)."""
        blocks, (df, _) = self._blocks, self._block_df()
        excess = self._ranked(blocks.surprise) - self._ranked(blocks.rank)
        return 0.5 * df, 0.5 * self._ranked(blocks.free_size), jnp.log1p(excess / df)

    def _log_density(self, mahalanobis: Array) -> Array:
        ndim = mahalanobis.ndim
        half_df, half_size, log_spread = self._figures()
        if not isinstance(half_size, float):
            half_size = lift(half_size, ndim)
        spread = lift(self._block_df()[1], ndim)
        log_scale = LOG_TWO_PI + lift(log_spread, ndim)
        log_density = log_student(lift(half_df, ndim), half_size, spread, log_scale, mahalanobis)
        return (log_density - lift(self._ranked(self._blocks.half_log_det), ndim)).sum(-1)

    def entropy(self) -> Array:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        half_df, half_size, log_spread = self._figures()
        entropy = (
            half_size * (LOG_TWO_PI + log_spread)
            - log_gamma_excess(half_df, half_size)
            + self._ranked(self._blocks.half_log_det)
            + (half_df + half_size) * digamma_step(half_df, half_size)
        )
        return self._expanded(self._unless_point(entropy.sum(-1)), 0)

    def constraint_log_prob(self) -> Array:
        """``(*batch,)`` log density of A x at k under the base law.

        With redundant rows, the density is with respect to Hausdorff measure on the range of A.
        """
        blocks, df = self._blocks, self._known_df[..., None]
        rank, surprise = self._ranked(blocks.rank), self._ranked(blocks.surprise)
        log_density = (
            log_student(0.5 * df, 0.5 * rank, df, jnp.full_like(df, LOG_TWO_PI), surprise)
            - self._ranked(blocks.constraint_half_log_det)
            - self._ranked(blocks.log_range_volume)
        )
        return self._expanded(log_density.sum(-1), 0)
