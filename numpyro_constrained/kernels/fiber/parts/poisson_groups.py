"""Poisson variables whose sums are given: multinomial."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from constrained_core.fiber.disjoint_groups import DisjointGroups
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import log_ratio, ratio, safe_log
from numpyro_constrained.kernels.fiber.covariance import settled
from numpyro_constrained.kernels.fiber.group_sums import (
    draw_members,
    group_totals,
    member_totals,
    other_totals,
    spread,
)
from numpyro_constrained.kernels.fiber.parts.part import PoissonPart
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["PoissonGroups"]


class PoissonGroups(PoissonPart):
    """Poisson variables whose sums are given: multinomial.

    Args:
        groups: the plan.
        rate: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        largest: a bound of the counts.
        mass: by which values are scored.
    """

    def __init__(
        self,
        groups: DisjointGroups,
        rate: Array,
        counts: Any,
        largest: int | None,
        mass: PoissonMass,
    ) -> None:
        self.variables, self.groups, self.mass = groups.variables, groups, mass
        self.rate, self.counts, self.largest = rate, jnp.asarray(counts), largest

    def log_partition(self) -> Array:
        total = group_totals(self.groups, self.rate)
        ndim = max(total.ndim, self.counts.ndim)
        counts = lift(self.counts, ndim).astype(total.dtype)
        total = lift(total, ndim)
        found = self.mass.log_mass(counts, safe_log(total), total)
        return (found - self.mass.log_sum(total)).sum(-1)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return draw_members(key, self.groups, self.rate, self.counts, shape, self.largest)

    @property
    def _whole(self) -> Array:
        """Rates of the groups, for each of their members."""
        return member_totals(self.groups, self.rate)

    @property
    def _count(self) -> Array:
        """Sums of the groups, for each of their members."""
        count, whole = spread(self.groups, self.counts), self._whole
        return lift(count, whole.ndim).astype(whole.dtype)

    @property
    def weight(self) -> Array:
        return self.mass.weight(ratio(self.rate, self._whole), self._count)

    @property
    def log_weight(self) -> Array:
        return self.mass.log_weight(log_ratio(self.rate, self._whole), self._count)

    @property
    def is_positive(self) -> Array:
        return (self.rate > 0) & (self._count > 0)

    def log_weight_sum(self) -> Array:
        return self.mass.log_mass_of_all(self.counts.astype(self.rate.dtype)).sum(-1)

    def _flagged(self, figures: Array, num_dims: int = 0) -> Array:
        """``(*batch, p, ...)``, NaN where all rates of a group are zero and its sum is not."""
        missing = (self._whole == 0) & (self._count > 0)
        return jnp.where(missing[(...,) + (None,) * num_dims], jnp.nan, figures)

    @property
    def mean(self) -> Array:
        return self._flagged(self._count * ratio(self.rate, self._whole))

    @property
    def variance(self) -> Array:
        others = other_totals(self.groups, self.rate)
        share, rest = ratio(self.rate, self._whole), ratio(others, self._whole)
        return self._flagged(self._count * share * rest)

    @property
    def covariance(self) -> Array:
        index, share = self.groups.index, ratio(self.rate, self._whole)
        found = -(self._count * share)[..., :, None] * share[..., None, :]
        is_same = (index == index[:, None]).reshape((1,) * (found.ndim - 2) + (index.size,) * 2)
        return settled(jnp.where(is_same, found, 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Array:
        others = other_totals(self.groups, self.rate)
        rates = self.rate[..., None], others[..., None], self._whole[..., None]
        table = self.mass.split(self._count[..., None], rates, num_values)
        return self._flagged(table, 1)
