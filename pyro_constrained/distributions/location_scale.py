"""What the Gaussian and Student-t laws given ``A x = k`` have in common."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from constrained_core.checks.arguments import check_estimator
from constrained_core.checks.laws import different_supports, no_reparametrised_draw
from pyro_constrained.distributions.base import ConstrainedDistribution
from pyro_constrained.estimators import with_gradient
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import cast
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.linalg import diagonal
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.linear.conditional import Conditional
from pyro_constrained.kernels.linear.losses import normal_expected_l2
from pyro_constrained.kernels.linear.made_points import is_made_on, made_on

__all__ = ["LOG_TWO_PI", "ConstrainedLocationScale"]

LOG_TWO_PI = math.log(2 * math.pi)

ESTIMATORS = ("pathwise", "marginal_expectation", "score_function")


@in_full_precision
class ConstrainedLocationScale(ConstrainedDistribution):
    """A law whose draw is a mean plus a factor times white noise inside the subspace."""

    loc: Tensor

    def __init__(
        self,
        conditional: Conditional,
        batch_shape: torch.Size,
        gradient_estimator: str,
        support_tolerance: float | None,
        validate_args: bool | None,
    ) -> None:
        self._kept_conditional = conditional
        self.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        super().__init__(conditional.constraint, batch_shape, support_tolerance, validate_args)

    @property
    def _conditional(self) -> Conditional:
        self._require_unchanged()
        return self._kept_conditional

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # depends on the estimator
        """Whether gradients flow through a draw."""
        return self.gradient_estimator != "score_function"

    @property
    def mean(self) -> Tensor:
        """``(*batch, n)`` E[x | A x = k]."""
        return self._expanded(self._conditional.settled_mean, 1)

    @property
    def mode(self) -> Tensor:
        """``(*batch, n)`` the point of largest density."""
        return self._expanded(self._conditional.settled_mean, 1)

    @property
    def variance(self) -> Tensor:
        """``(*batch, n)`` Var[x | A x = k]."""
        variance = self._conditional.variance()
        return self._expanded(variance * self._variance_factor(variance), 1)

    @property
    def covariance(self) -> Tensor:
        """``(*batch, n, n)`` Cov[x | A x = k], made when asked for; of rank n - r."""
        covariance = self._conditional.covariance()
        variance = diagonal(covariance)
        factor = self._variance_factor(variance)[..., None]
        # Of a variable that is determined all are 0, also those with variables of none.
        factor = torch.where(variance[..., None, :] == 0, 1.0, factor)
        return self._expanded(covariance * factor, 2)

    def _variance_factor(self, variance: Tensor) -> Tensor:
        """``(*batch, 1)`` or ``(*batch, n)``: variance over what it is of the conditional normal
        law."""
        return self.loc.new_ones(1)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draws ``(*sample_shape, *batch, n)`` that obey the law to the last bits."""
        if not self.has_rsample:
            raise no_reparametrised_draw("another estimator")
        return self._draw(sample_shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draws without a gradient."""
        with torch.no_grad():
            return self._draw(sample_shape).detach()

    def _draw(self, sample_shape: Any) -> Tensor:
        law, shape = self._conditional, torch.Size(sample_shape) + self._batch_shape
        noise = torch.randn(shape + (law.noise_size,), dtype=self.loc.dtype, device=self.loc.device)
        draw = made_on(law.constraint, law.in_parts(self._from_noise, noise))
        if self.gradient_estimator == "pathwise":  # needs no mean
            return draw
        return with_gradient(self.gradient_estimator, draw, law.mean)

    def _from_noise(self, noise: Tensor) -> Tensor:
        """Draw from white noise."""
        return self._conditional.draw(noise)

    @quiet_under_trace
    def log_prob(self, value: Tensor) -> Tensor:
        """``(*batch,)`` log density with respect to Hausdorff measure on the subspace.

        It is -inf off the support.

        Raises:
            ConstraintError: the value is off the support, under ``validate_args``.
        """
        value = self._in_own_dtype(value)
        distance = self._distance(value)
        inside = None if self._is_made(value, distance) else self._on_support(value)
        log_density = self._unless_point(self._log_density(distance))
        if inside is not None:
            log_density = torch.where(inside, log_density, -torch.inf)
        return self._expanded(log_density, 0)

    def _is_made(self, value: Tensor, distance: Tensor) -> bool:
        """Whether the value is a finite one that was made on the support."""
        if self._support_tolerance is not None or not is_made_on(self._constraint, value):
            return False
        return are_known(distance) and bool(distance.isfinite().all())

    def _distance(self, value: Tensor) -> Tensor:
        """What the density takes of a value: its squared Mahalanobis distance from the mean."""
        return self._conditional.distance(value)

    def _unless_point(self, value: Tensor) -> Tensor:
        """The value, 0 where the law is a point mass."""
        free_size = self._constraint.free_size
        if isinstance(free_size, int):
            return value if free_size else torch.zeros_like(value)
        return torch.where(free_size == 0, 0.0, value)

    @abstractmethod
    def _log_density(self, mahalanobis: Tensor) -> Tensor:
        """Log density on the subspace at a distance from the mean."""

    @quiet_under_trace
    def project(self, value: Tensor) -> Tensor:
        """The point of the subspace nearest to ``value``, in Euclidean distance.

        For measured data that obey the law only to rounding or noise.
        """
        self._constraint.made_of.require(self)
        return self._constraint.nearest(self._in_own_dtype(value))

    @quiet_under_trace
    def residual(self, value: Tensor) -> Tensor:
        """``A value - k``: ``(*batch, m)``; ``(*batch,)`` where A is one row ``(n,)``."""
        return self._constraint.residual(self._in_own_dtype(value))

    def _in_own_dtype(self, value: Tensor) -> Tensor:
        """A checked value, in the dtype of the law: data may be of another precision."""
        self._check_value(value)
        return cast(value, self.loc.dtype)

    def expected_l2(self, target: Tensor) -> Tensor:
        """``(*batch, n)`` E (x_i - target_i)^2, exactly."""
        return normal_expected_l2(self.mean, self.variance, target)

    @quiet_under_trace
    def _has_subspace_of(self, other: "ConstrainedLocationScale") -> Tensor:
        """Whether a generic point of this law's subspace is one of the other's, and back; an error
        where values are known and it is not."""
        same = _equal(self.rank, other.rank, self.loc)
        for one, another in ((self, other), (other, self)):
            point = one._conditional.generic_point().detach()
            same = same & another._constraint.contains_solution(point).all()
        if are_known(same) and not bool(same):
            raise different_supports("subspace", self, other)
        return same


def _equal(one: int | Tensor, other: int | Tensor, like: Tensor) -> Tensor:
    if isinstance(one, int) and isinstance(other, int):
        return torch.full((), float(one == other), device=like.device) > 0  # jit takes no bool
    return (torch.as_tensor(one, device=like.device) == other).all()
