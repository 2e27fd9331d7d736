"""Poisson variables whose sums are given: multinomial."""

import torch
from torch import Tensor

from constrained_core.fiber.disjoint_groups import DisjointGroups
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import is_there, log_ratio, ratio, safe_log
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.group_sums import (
    draw_members,
    group_totals,
    other_totals,
    spread,
)
from pyro_constrained.kernels.fiber.parts.part import PoissonPart
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

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
        rate: Tensor,
        counts: Tensor,
        largest: int | None,
        mass: PoissonMass,
    ) -> None:
        self.variables, self.groups, self.mass = groups.variables, groups, mass
        self.rate, self.counts, self.largest = rate, counts, largest

    def log_partition(self) -> Tensor:
        total = group_totals(self.groups, self.rate)
        found = self.mass.log_mass(self.counts, safe_log(total), total)
        return (found - self.mass.log_sum(total)).sum(-1)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        rate = self.rate.detach()
        return draw_members(self.groups, rate, self.counts, sample_shape, self.largest)

    @lazy_property
    def _totals(self) -> Tensor:
        """``(*batch, g)`` rates of the groups."""
        return group_totals(self.groups, self.rate)

    @lazy_property
    def _whole(self) -> Tensor:
        """``_totals`` for each of the members."""
        return spread(self.groups, self._totals)

    @lazy_property
    def _share(self) -> Tensor:
        return ratio(self.rate, self._whole)

    @property
    def _count(self) -> Tensor:
        """Sums of the groups, for each of their members."""
        return spread(self.groups, self.counts)

    @property
    def weight(self) -> Tensor:
        return self.mass.weight(self._share, self._count)

    @lazy_property
    def has_tiny(self) -> bool:
        return is_there(self._share < torch.finfo(self.rate.dtype).tiny)

    @property
    def log_weight(self) -> Tensor:
        share = log_ratio(self.rate, self._whole) if self.has_tiny else self._share.log()
        return self.mass.log_weight(share, self._count)

    @property
    def is_positive(self) -> Tensor:
        return (self.rate > 0) & (self._count > 0)

    def log_weight_sum(self) -> Tensor:
        return self.mass.log_mass_of_all(self.counts).sum(-1)

    def _flagged(self, figures: Tensor, num_dims: int = 0) -> Tensor:
        """``(*batch, p, ...)``, NaN where all rates of a group are zero and its sum is not."""
        if not is_there(self._totals == 0):
            return figures
        missing = (self._whole == 0) & (self._count > 0)
        return figures.masked_fill(missing[(...,) + (None,) * num_dims], torch.nan)

    @property
    def mean(self) -> Tensor:
        return self._flagged(self._count * self._share)

    @property
    def variance(self) -> Tensor:
        rest = 1 - self._share
        if is_there(rest < 0.5):  # or digits cancel
            rest = ratio(other_totals(self.groups, self.rate), self._whole)
        return self._flagged(self._count * self._share * rest)

    @property
    def covariance(self) -> Tensor:
        index = plan_tensor(self.groups, "index", self.rate, torch.int64)
        found = -(self._count * self._share)[..., :, None] * self._share[..., None, :]
        return settled(found.masked_fill(index != index[:, None], 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Tensor:
        others = other_totals(self.groups, self.rate)
        rates = self.rate[..., None], others[..., None], self._whole[..., None]
        table = self.mass.split(self._count[..., None], rates, num_values)
        return self._flagged(table, 1)
