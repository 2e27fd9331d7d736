"""Masses by which Poisson counts are scored.

``log_prob`` of a value given ``A x = k`` is its log mass less the log of the sum of all of them.
With w^x / x!, or with exp(-w) w^x / x!, that is the same for all weights
``w_i = rate_i exp(a_i' lambda)``: the parts choose w. The first mass takes few operations, but
x log w and log x! of large counts cancel. The second one is found without such terms where weights
are as large as counts. In averages (entropies, divergences) probabilities multiply such terms by
rounding errors of their own: the first one loses too much there but for the smallest counts.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from constrained_core.fiber.digits import averages_keep_digits, scores_keep_digits
from pyro_constrained.kernels.arrays.log_space import (
    expected,
    log_change,
    log_ratio,
    ratio,
    safe_log,
    times,
)
from pyro_constrained.kernels.arrays.poisson_pmf import log_poisson, tilt
from pyro_constrained.kernels.arrays.value_tables import values_of

__all__ = ["NormalizedMass", "PoissonMass", "UnnormalizedMass", "mass_for", "mass_of_averages"]

NEAR = 0.5
"""Relative change of a weight up to which its logarithm is that of the change."""


def mass_for(largest: int, dtype: torch.dtype) -> "PoissonMass":
    """The mass for counts up to ``largest``."""
    return _mass(scores_keep_digits(largest, torch.finfo(dtype).eps))


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
    def log_mass(
        self, count: Tensor, log_weight: Tensor, weight: Tensor, *, has_tiny: bool = True
    ) -> Tensor:
        """Log mass; -inf where only the weight is zero.

        Args:
            count: whole numbers.
            log_weight, weight: of each.
            has_tiny: whether a weight may be zero, or below the least number.
        """

    @abstractmethod
    def expected_log_ratio(
        self,
        mean: Tensor,
        is_zero: Tensor | None,
        own: tuple[Tensor, ...],
        other: tuple[Tensor, ...],
    ) -> Tensor:
        """The expected log mass of counts of some means, less that by other weights: infinite
        where these forbid them.

        Args:
            is_zero: which of the counts are always zero, if the means do not tell.
            own, other: the figures of the weights.
        """

    @abstractmethod
    def log_sum(self, weight: Tensor) -> Tensor:
        """Log of the sum of the masses of all counts."""

    @abstractmethod
    def weight(self, share: Tensor, count: Tensor) -> Tensor:
        """Weights of variables that have these shares of a count."""

    @abstractmethod
    def log_weight(self, log_share: Tensor, count: Tensor) -> Tensor:
        """Their logarithms."""

    @abstractmethod
    def log_mass_of_all(self, count: Tensor) -> Tensor:
        """Log mass of a count of which the variable has all."""

    @abstractmethod
    def tilt(self, rate: Tensor, coefficients: Tensor, k: Tensor) -> Tensor | None:
        """``(*batch, r)`` lambda; None where weights are rates. The arguments are those of
        ``poisson_pmf.tilt``."""

    def table(self, weight: Tensor, log_weight: Tensor, num_values: int) -> Tensor:
        """``(..., U)`` log masses of 0..U-1."""
        value = values_of(num_values, weight)
        return self.log_mass(value, log_weight[..., None], weight[..., None])

    def edges(self, weight: Tensor, num_values: int) -> Tensor:
        """``(..., U)`` masses of 0..U-1 where the weight is zero: zeros, with first and second
        derivatives; those of larger counts have none."""
        value = values_of(num_values, weight)
        edge = weight.masked_fill(weight != 0, 0.0)[..., None]
        mass = torch.where(value == 1, edge, torch.where(value == 2, edge.square() / 2, 0.0))
        return mass * (self.log_sum(edge) - edge).exp()

    def split(self, total: Tensor, rates: tuple[Tensor, Tensor, Tensor], num_values: int) -> Tensor:
        """``(..., U)`` log probability that u of ``total`` fall on a part: binomial.

        Args:
            total: ``(..., 1)`` the counts.
            rates: ``(..., 1)`` of the part, of all else, and of both.
            num_values: U.
        """
        part, rest, whole = rates
        # A count on the part and one on all else, independent but for their sum.
        value, table = values_of(num_values, part), -self.log_mass_of_all(total)
        for count, rate in ((value, part), ((total - value).clamp(min=0), rest)):
            log_weight = self.log_weight(log_ratio(rate, whole), total)
            table = table + self.log_mass(count, log_weight, self.weight(ratio(rate, whole), total))
        return table.masked_fill(value > total, -torch.inf)


class UnnormalizedMass(PoissonMass):
    """w^x / x!."""

    figures = ("log_weight",)

    def log_mass(
        self,
        count: Tensor,
        log_weight: Tensor,
        weight: Tensor | None = None,
        *,
        has_tiny: bool = True,
    ) -> Tensor:
        powers = times(count, log_weight) if has_tiny else count * log_weight
        return powers - torch.lgamma(count + 1)

    def expected_log_ratio(
        self,
        mean: Tensor,
        is_zero: Tensor | None,
        own: tuple[Tensor, ...],
        other: tuple[Tensor, ...],
    ) -> Tensor:
        return -expected(mean, log_change(own[0], other[0]), is_zero)

    def log_sum(self, weight: Tensor) -> Tensor:
        return weight

    def weight(self, share: Tensor, count: Tensor) -> Tensor:
        return share  # so that large rates do not cost digits

    def log_weight(self, log_share: Tensor, count: Tensor) -> Tensor:
        return log_share

    def log_mass_of_all(self, count: Tensor) -> Tensor:
        return -torch.lgamma(count + 1)

    def tilt(self, rate: Tensor, coefficients: Tensor, k: Tensor) -> None:
        return None


class NormalizedMass(PoissonMass):
    """exp(-w) w^x / x!, the Poisson probability."""

    figures = ("log_weight", "weight")

    def log_mass(
        self, count: Tensor, log_weight: Tensor, weight: Tensor, *, has_tiny: bool = True
    ) -> Tensor:
        return log_poisson(count, weight, log_weight if has_tiny else None)

    def expected_log_ratio(
        self,
        mean: Tensor,
        is_zero: Tensor | None,
        own: tuple[Tensor, ...],
        other: tuple[Tensor, ...],
    ) -> Tensor:
        (log_weight, weight), (log_other, other_weight) = own, other
        is_zero = mean <= 0 if is_zero is None else is_zero
        change = other_weight - weight
        relative = change / weight.masked_fill(weight == 0, 1.0)
        is_near = (weight > 0) & (relative.abs() <= NEAR)
        far = change - expected(mean, log_change(log_weight, log_other), is_zero)
        # Weights are close to the means: both terms are as small as the answer.
        relative = relative.masked_fill(~is_near, 0.0)
        logarithm = torch.log1p(relative)
        near = weight * (relative - logarithm) + (weight - mean) * logarithm
        return torch.where(is_near, near, far)

    def log_sum(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)

    def weight(self, share: Tensor, count: Tensor) -> Tensor:
        return count * share  # the mean, so that large counts do not cost digits

    def log_weight(self, log_share: Tensor, count: Tensor) -> Tensor:
        return log_share + safe_log(count)

    def log_mass_of_all(self, count: Tensor) -> Tensor:
        return log_poisson(count, count)

    def tilt(self, rate: Tensor, coefficients: Tensor, k: Tensor) -> Tensor:
        return tilt(rate, coefficients, k)
