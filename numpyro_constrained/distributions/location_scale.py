"""What the Gaussian and Student-t laws given ``A x = k`` have in common."""

import math
from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient
from numpyro.util import is_prng_key

from constrained_core.checks.arguments import check_estimator
from constrained_core.checks.laws import different_supports, no_reparametrised_draw
from numpyro_constrained.distributions.base import ConstrainedDistribution
from numpyro_constrained.estimators import with_gradient
from numpyro_constrained.kernels.arrays.linalg import diagonal, lift
from numpyro_constrained.kernels.arrays.noise import white_noise
from numpyro_constrained.kernels.linear.conditional import Conditional
from numpyro_constrained.kernels.linear.constraint import LinearConstraint
from numpyro_constrained.kernels.linear.losses import normal_expected_l2
from numpyro_constrained.kernels.linear.made_points import is_made_on, made_on

__all__ = ["LOG_TWO_PI", "ConstrainedLocationScale"]

LOG_TWO_PI = math.log(2 * math.pi)

ESTIMATORS = ("pathwise", "marginal_expectation", "score_function")


class ConstrainedLocationScale(ConstrainedDistribution):
    """A law whose draw is a mean plus a factor times white noise inside the subspace."""

    pytree_data_fields: tuple[str, ...] = ("loc",)
    pytree_aux_fields: tuple[str, ...] = ("gradient_estimator",)

    loc: Array
    _conditional: Conditional

    def __init__(
        self,
        constraint: LinearConstraint,
        batch_shape: tuple[int, ...],
        gradient_estimator: str,
        support_tolerance: float | None,
        validate_args: bool | None,
    ) -> None:
        self.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        super().__init__(constraint, batch_shape, support_tolerance, validate_args)

    def _leaf(self) -> Array:
        return self.loc

    @property
    def has_rsample(self) -> bool:
        """Whether gradients flow through a draw."""
        return self.gradient_estimator != "score_function"

    @property
    def mean(self) -> Array:
        """``(*batch, n)`` E[x | A x = k]."""
        return self._expanded(self._conditional.settled_mean, 1)

    @property
    def mode(self) -> Array:
        """``(*batch, n)`` the point of largest density."""
        return self._expanded(self._conditional.settled_mean, 1)

    @property
    def variance(self) -> Array:
        """``(*batch, n)`` Var[x | A x = k]."""
        variance = self._conditional.variance()
        factor = self._variance_factor(variance)
        return self._expanded(lift(variance, factor.ndim) * factor, 1)

    @property
    def covariance(self) -> Array:
        """``(*batch, n, n)`` Cov[x | A x = k], made when asked for; of rank n - r."""
        covariance = self._conditional.covariance()
        factor = self._variance_factor(diagonal(covariance))[..., None]
        covariance = lift(covariance, factor.ndim)
        # Of a variable that is determined all are 0, also those with variables of none.
        factor = jnp.where(diagonal(covariance)[..., None, :] == 0, 1.0, factor)
        return self._expanded(covariance * factor, 2)

    def _variance_factor(self, variance: Array) -> Array:
        """``(*batch, 1)`` or ``(*batch, n)``: variance over what it is of the conditional normal
        law."""
        return jnp.ones_like(self._conditional.loc[..., :1])

    def _noise_factor(self, key: Array, shape: tuple[int, ...]) -> Array | float:
        """Factor ``(*shape, 1)`` of the noise of a draw."""
        return 1.0

    def rsample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *batch, n)`` that obey the law to the last bits."""
        if not self.has_rsample:
            raise no_reparametrised_draw("another estimator")
        return self.sample(key, sample_shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws whose gradient is that of the gradient estimator."""
        assert is_prng_key(key)
        law, shape = self._conditional, tuple(sample_shape) + self._batch_shape
        key_noise, key_factor = jax.random.split(key)
        noise = white_noise(key_noise, shape + (law.noise_size,), self.loc.dtype)
        draw = law.draw(noise * self._noise_factor(key_factor, shape))
        draw = made_on(law.constraint, draw)
        if self.gradient_estimator == "pathwise":  # needs no mean
            return draw
        return with_gradient(self.gradient_estimator, draw, lift(law.mean, draw.ndim))

    def log_prob(self, value: Any) -> Array:
        """``(*batch,)`` log density with respect to Hausdorff measure on the subspace.

        It is -inf off the support.

        Raises:
            ConstraintError: the value is off the support, under ``validate_args``.
        """
        value = self._checked_value(value)
        distance = self._distance(value)
        is_made = self._support_tolerance is None and is_made_on(self._constraint, value)
        inside = jnp.isfinite(value).all(-1) if is_made else self._on_support(value)
        log_density = self._unless_point(self._log_density(distance))
        return self._expanded(jnp.where(inside, log_density, -jnp.inf), 0)

    def _distance(self, value: Array) -> Array:
        """What the density takes of a value: its squared Mahalanobis distance from the mean."""
        return self._conditional.distance(value)

    def _unless_point(self, value: Array) -> Array:
        """The value, 0 where the law is a point mass."""
        free_size = self._constraint.free_size
        if isinstance(free_size, int):
            return value if free_size else jnp.zeros_like(value)
        return jnp.where(lift(free_size == 0, value.ndim), 0.0, value)

    @abstractmethod
    def _log_density(self, mahalanobis: Array) -> Array:
        """Log density on the subspace at a distance from the mean."""

    def project(self, value: Any) -> Array:
        """The point of the subspace nearest to ``value``, in Euclidean distance.

        For measured data that obey the law only to rounding or noise.
        """
        value = self._checked_value(value)
        return self._constraint.nearest(value.astype(jnp.result_type(value, self.loc)))

    def expected_l2(self, target: Any) -> Array:
        """``(*batch, n)`` E (x_i - target_i)^2, exactly."""
        return normal_expected_l2(*self._moments_and(target))

    def _moments_and(self, target: Any) -> tuple[Array, Array, Array]:
        """Mean, variance and target, of one rank."""
        target = lift(self._floating(target), 1 + len(self._batch_shape))
        return lift(self.mean, target.ndim), lift(self.variance, target.ndim), target

    def _has_subspace_of(self, other: "ConstrainedLocationScale") -> Array:
        """Whether a generic point of this law's subspace is one of the other's, and back; an error
        where values are known and it is not."""
        same = jnp.asarray(True)
        for one, another in ((self, other), (other, self)):
            point = stop_gradient(one._conditional.generic_point())
            holds = another._constraint.contains_solution(point).all()
            same = same & holds & jnp.all(one.rank == another.rank)
        if not isinstance(same, Tracer) and not same:
            raise different_supports("subspace", self, other)
        return same
