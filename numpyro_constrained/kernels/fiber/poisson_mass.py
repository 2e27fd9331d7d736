"""Masses by which Poisson counts are scored.

``log_prob`` of a value given ``A x = k`` is its log mass less the log of the sum of all of them.
With w^x / x!, or with exp(-w) w^x / x!, that is the same for all weights
``w_i = rate_i exp(a_i' lambda)``: the parts choose w. The first mass takes few operations, but
x log w and log x! of large counts cancel. The second one is found without such terms where weights
are as large as counts. In averages (entropies, divergences) probabilities multiply such terms by
rounding errors of their own: the first one loses too much there but for the smallest counts.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln

from constrained_core.fiber.digits import averages_keep_digits, scores_keep_digits
from numpyro_constrained.kernels.arrays.log_space import (
    expected,
    log_change,
    log_ratio,
    ratio,
    safe_log,
    times,
)
from numpyro_constrained.kernels.arrays.poisson_pmf import log_poisson, tilt
from numpyro_constrained.kernels.arrays.value_tables import values_of

__all__ = ["NormalizedMass", "PoissonMass", "UnnormalizedMass", "mass_for", "mass_of_averages"]

NEAR = 0.5
"""Relative change of a weight up to which its logarithm is that of the change."""


def mass_for(largest: int, dtype: Any) -> "PoissonMass":
    """The mass for counts up to ``largest``."""
    return _mass(scores_keep_digits(largest, float(jnp.finfo(dtype).eps)))


def mass_of_averages(largest: int) -> "PoissonMass":
    """The mass for averages over counts up to ``largest``."""
    return _mass(averages_keep_digits(largest))


def _mass(plain: bool) -> "PoissonMass":
    return UnnormalizedMass() if plain else NormalizedMass()


class PoissonMass(ABC):
    """The mass of a count x of weight w.

    Attributes:
        figures: what of the parts ``log_mass`` and ``expected_log_ratio`` take.
    """

    figures: tuple[str, ...]

    @abstractmethod
    def log_mass(self, count: Any, log_weight: Array, weight: Array) -> Array:
        """Log mass of whole numbers; -inf where only the weight is zero."""

    @abstractmethod
    def expected_log_ratio(
        self, mean: Array, is_zero: Array, own: Sequence[Array], other: Sequence[Array]
    ) -> Array:
        """The expected log mass of counts of some means, less that by other weights: infinite
        where these forbid them.

        Args:
            is_zero: which of the counts are always zero.
            own, other: the figures of the weights.
        """

    @abstractmethod
    def log_sum(self, weight: Array) -> Array:
        """Log of the sum of the masses of all counts."""

    @abstractmethod
    def weight(self, share: Array, count: Any) -> Array:
        """Weights of variables that have these shares of a count."""

    @abstractmethod
    def log_weight(self, log_share: Array, count: Any) -> Array:
        """Their logarithms."""

    @abstractmethod
    def log_mass_of_all(self, count: Any) -> Array:
        """Log mass of a count of which the variable has all."""

    @abstractmethod
    def tilt(self, rate: Array, coefficients: Any, k: Array) -> Array | None:
        """``(*batch, r)`` lambda; None where weights are rates. The arguments are those of
        ``poisson_pmf.tilt``."""

    def table(self, weight: Array, log_weight: Array, num_values: int) -> Array:
        """``(..., U)`` log masses of 0..U-1."""
        value = values_of(num_values, weight, weight.ndim + 1)
        return self.log_mass(value, log_weight[..., None], weight[..., None])

    def edges(self, weight: Array, num_values: int) -> Array:
        """``(..., U)`` masses of 0..U-1 where the weight is zero: zeros, with first and second
        derivatives; those of larger counts have none."""
        value = values_of(num_values, weight, weight.ndim + 1)
        edge = jnp.where(weight == 0, weight, 0.0)[..., None]
        mass = jnp.where(value == 1, edge, jnp.where(value == 2, jnp.square(edge) / 2, 0.0))
        return mass * jnp.exp(self.log_sum(edge) - edge)

    def split(self, total: Any, rates: tuple[Array, Array, Array], num_values: int) -> Array:
        """``(..., U)`` log probability that u of ``total`` fall on a part: binomial.

        Args:
            total: ``(..., 1)`` the counts.
            rates: ``(..., 1)`` of the part, of all else, and of both.
            num_values: U.
        """
        part, rest, whole = rates
        # A count on the part and one on all else, independent but for their sum.
        value = values_of(num_values, part, part.ndim)
        table = -self.log_mass_of_all(total)
        for count, rate in ((value, part), (jnp.maximum(total - value, 0), rest)):
            log_weight = self.log_weight(log_ratio(rate, whole), total)
            table = table + self.log_mass(count, log_weight, self.weight(ratio(rate, whole), total))
        return jnp.where(value > total, -jnp.inf, table)


class UnnormalizedMass(PoissonMass):
    """w^x / x!."""

    figures = ("log_weight",)

    def log_mass(self, count: Any, log_weight: Array, weight: Array | None = None) -> Array:
        return times(count, log_weight) - gammaln(count + 1)

    def expected_log_ratio(
        self, mean: Array, is_zero: Array, own: Sequence[Array], other: Sequence[Array]
    ) -> Array:
        return -expected(mean, log_change(own[0], other[0]), is_zero)

    def log_sum(self, weight: Array) -> Array:
        return weight

    def weight(self, share: Array, count: Any) -> Array:
        return share  # so that large rates do not cost digits

    def log_weight(self, log_share: Array, count: Any) -> Array:
        return log_share

    def log_mass_of_all(self, count: Any) -> Array:
        return -gammaln(count + 1)

    def tilt(self, rate: Array, coefficients: Any, k: Array) -> None:
        return None


class NormalizedMass(PoissonMass):
    """exp(-w) w^x / x!, the Poisson probability."""

    figures = ("log_weight", "weight")

    def log_mass(self, count: Any, log_weight: Array, weight: Array) -> Array:
        return log_poisson(count, weight, log_weight)

    def expected_log_ratio(
        self, mean: Array, is_zero: Array, own: Sequence[Array], other: Sequence[Array]
    ) -> Array:
        (log_weight, weight), (log_other, other_weight) = own, other
        change = other_weight - weight
        relative = change / jnp.where(weight == 0, 1.0, weight)
        is_near = (weight > 0) & (jnp.abs(relative) <= NEAR)
        far = change - expected(mean, log_change(log_weight, log_other), is_zero)
        # Weights are close to the means: both terms are as small as the answer.
        relative = jnp.where(is_near, relative, 0.0)
        logarithm = jnp.log1p(relative)
        near = weight * (relative - logarithm) + (weight - mean) * logarithm
        return jnp.where(is_near, near, far)

    def log_sum(self, weight: Array) -> Array:
        return jnp.zeros_like(weight)

    def weight(self, share: Array, count: Any) -> Array:
        return count * share  # the mean, so that large counts do not cost digits

    def log_weight(self, log_share: Array, count: Any) -> Array:
        return log_share + safe_log(count)

    def log_mass_of_all(self, count: Any) -> Array:
        return log_poisson(count, jnp.asarray(count))

    def tilt(self, rate: Array, coefficients: Any, k: Array) -> Array:
        return tilt(rate, coefficients, k)
