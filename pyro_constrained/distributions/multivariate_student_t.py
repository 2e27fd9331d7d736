"""Multivariate Student-t given A x = k."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Chi2, constraints

from constrained_core.checks.arguments import check_per_group, exactly_one
from constrained_core.checks.laws import no_joint_base
from pyro_constrained.distributions.location_scale import (
    LOG_TWO_PI,
    ConstrainedLocationScale,
)
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_finite,
    check_positive,
    check_tril,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.gamma import digamma_step, log_gamma_excess, log_student
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.binding import bind_constraint
from pyro_constrained.kernels.linear.blocks import Blocks, GroupBlocks, OneBlock
from pyro_constrained.kernels.linear.root_conditional import DenseConditional, DiagonalConditional

__all__ = ["ConstrainedMultivariateStudentT"]


@in_full_precision
class ConstrainedMultivariateStudentT(ConstrainedLocationScale):
    """x ~ t(nu, mu, L L') given A x = k: again a multivariate t, on the subspace.

    It has nu + r degrees of freedom and the location of the normal law; its squared scale is that
    of the normal law times (nu + s) / (nu + r), where s = (k - A mu)' (A L L' A')^-1 (k - A mu) is
    the surprise of the constraint.

    Autoguides and MCMC need an A and k that do not change: there is no reparametrisation of a
    latent site of this law onto a subspace that moves.

    Args:
        df: ``(*batch,)`` nu, positive.
        loc: ``(*batch, n)`` mu.
        scale_tril: ``(*batch, n, n)`` L, lower triangular with positive diagonal.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix, which is
            made dense for ``scale_tril``.
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
        >>> import torch
        >>> law = ConstrainedMultivariateStudentT(
        ...     3.0, torch.zeros(3), A=torch.ones(3), k=6.0, scale=torch.ones(3)
        ... )
        >>> law.mean
        tensor([2., 2., 2.])
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
        "scale": constraints.independent(constraints.positive, 1),
        "k": constraints.dependent(is_discrete=False, event_dim=1),
    }
    _event_dims = {"df": 0, "loc": 1, "scale_tril": 2, "scale": 1}

    @quiet_under_trace
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
        self.df = expanded(df, batch_shape)
        self.loc = expanded(loc, batch_shape + (n,))
        setattr(self, name, expanded(factor, batch_shape + event_shape))
        check_per_group(per_group, A, name)
        self._per_group = per_group
        conditional = DenseConditional if name == "scale_tril" else DiagonalConditional
        law = conditional(self.loc, factor, constraint)
        super().__init__(law, batch_shape, gradient_estimator, support_tolerance, validate_args)

    @property
    def _covariance_form(self) -> str:  # type: ignore[override]  # as the scale is given
        return "dense" if "scale_tril" in self.__dict__ else "diagonal"

    @property
    def base_dist(self) -> dist.MultivariateStudentT:
        """The law without the constraint.

        Raises:
            NoBaseLawError: under ``per_group``, a product of laws that Pyro does not have.
        """
        if self._per_group:
            raise no_joint_base()
        given = self.__dict__
        scale_tril = given["scale_tril"] if "scale_tril" in given else self.scale.diag_embed()
        return dist.MultivariateStudentT(self.df, self.loc, scale_tril)

    @lazy_property
    def _blocks(self) -> Blocks:
        law, partition = self._conditional, self._constraint.matrix.partition
        if not self._per_group:
            return OneBlock(law)
        assert isinstance(law, DiagonalConditional) and partition is not None
        return GroupBlocks(law, partition)

    @property
    def _known_df(self) -> Tensor:
        """``(*batch,)`` nu; NaN where one that nothing has checked is not positive."""
        df = self.df
        return df if self._has_checked(df) else df.masked_fill(df <= 0, torch.nan)

    @lazy_property
    def _block_df(self) -> tuple[Tensor, Tensor]:
        """nu + r and nu + s of each block."""
        blocks, df = self._blocks, self._blocks.each(self._known_df)
        return df + blocks.rank, df + blocks.surprise

    @property
    def mean(self) -> Tensor:
        """``(*batch, n)`` E[x | A x = k]; undefined (NaN) where nu + r <= 1."""
        exists = self._blocks.members((self._block_df[0] > 1).to(self.loc)) > 0
        return torch.where(exists, self.mode, torch.nan)

    def _variance_factor(self, variance: Tensor) -> Tensor:
        df, spread = self._block_df
        factor = spread / (df - 2).clamp(min=torch.finfo(df.dtype).tiny)
        factor = torch.where(df > 2, factor, torch.inf)
        factor = self._blocks.members(torch.where(df > 1, factor, torch.nan))
        return torch.where(variance == 0, 1.0, factor)

    def _from_noise(self, noise: Tensor) -> Tensor:
        df, spread = self._block_df
        df = df.expand(noise.shape[:-1] + self._blocks.shape)
        chi2 = Chi2(df, validate_args=False).rsample()
        return self._conditional.draw(noise * self._blocks.members((spread / chi2).sqrt()))

    def _distance(self, value: Tensor) -> Tensor:
        return self._blocks.distance(value)

    def _figures(self) -> tuple[Tensor, Any, Tensor]:
        """Half the degrees of freedom on the subspace, half its dimension, and the log of
        (nu + s) / (nu + r)."""
        blocks, (df, _) = self._blocks, self._block_df
        return 0.5 * df, 0.5 * blocks.free_size, torch.log1p((blocks.surprise - blocks.rank) / df)

    def _log_density(self, mahalanobis: Tensor) -> Tensor:
        half_df, half_size, log_spread = self._figures()
        spread = self._block_df[1]
        log_scale = LOG_TWO_PI + log_spread
        log_density = log_student(half_df, half_size, spread, log_scale, mahalanobis)
        return self._blocks.total(log_density - self._blocks.half_log_det)

    def entropy(self) -> Tensor:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        half_df, half_size, log_spread = self._figures()
        entropy = (
            half_size * (LOG_TWO_PI + log_spread)
            - log_gamma_excess(half_df, half_size)
            + self._blocks.half_log_det
            + (half_df + half_size) * digamma_step(half_df, half_size)
        )
        return self._expanded(self._unless_point(self._blocks.total(entropy)), 0)

    def constraint_log_prob(self) -> Tensor:
        """``(*batch,)`` log density of A x at k under the base law.

        With redundant rows, the density is with respect to Hausdorff measure on the range of A.
        """
        blocks, df = self._blocks, self._blocks.each(self._known_df)
        log_density = (
            log_student(
                0.5 * df, 0.5 * blocks.rank, df, torch.full_like(df, LOG_TWO_PI), blocks.surprise
            )
            - blocks.constraint_half_log_det
            - blocks.log_range_volume
        )
        return self._expanded(blocks.total(log_density), 0)
