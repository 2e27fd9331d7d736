"""The independent parts of a Poisson law given ``A x = k``, each with its own exact method."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.log_space import (
    is_there,
    log_ratio,
    log_sum_exp,
    ratio,
    safe_log,
    without_nan,
)
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.poisson_pmf import log_poisson, tilt
from pyro_constrained.kernels.arrays.value_tables import (
    log_factorials,
    mean_of,
    poisson_edges,
    poisson_weights,
    split_table,
    values_of,
    variance_of,
)
from pyro_constrained.kernels.fiber import groups as fiber_groups
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.parts import Part, TrellisPart

__all__ = ["FreePoisson", "PoissonGroups", "PoissonPart", "PoissonTrellis"]


class PoissonPart(Part):
    """Poisson variables, of which values are scored by x log w - log x!, or where that loses too
    many digits (delicate) by ``log_poisson(x, w)``."""

    is_delicate: bool

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """``(*batch, p)`` w."""

    @property
    @abstractmethod
    def log_weight(self) -> Tensor:
        """``(*batch, p)`` log w, also where w is below the least number of the dtype."""

    @property
    @abstractmethod
    def has_tiny(self) -> bool:
        """Whether a weight may be zero, or below the least number."""

    @property
    @abstractmethod
    def is_positive(self) -> Tensor:
        """``(*batch, p)`` whether a variable can be more than 0."""

    def expected_log_factorial(self, num_values: int) -> Tensor:
        """``(*batch, p)`` E[log x!] of values 0..U-1."""
        return self.log_marginals(num_values).exp() @ log_factorials(num_values, self.weight)


class FreePoisson(PoissonPart):
    """Poisson variables in no row.

    Args:
        variables: their indices.
        rate: ``(*batch, p)``.
    """

    def __init__(self, variables: np.ndarray, rate: Tensor, is_delicate: bool) -> None:
        self.variables, self.rate, self.is_delicate = variables, rate, is_delicate

    @property
    def weight(self) -> Tensor:
        return self.rate

    @cached_property
    def has_tiny(self) -> bool:
        return is_there(self.rate == 0)

    @property
    def log_weight(self) -> Tensor:
        return safe_log(self.rate) if self.has_tiny else self.rate.log()

    @property
    def is_positive(self) -> Tensor:
        return self.rate > 0

    def log_weight_sum(self) -> Tensor:
        return self.log_partition() if self.is_delicate else self.rate.sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate

    def log_partition(self) -> Tensor:
        return self.rate.new_zeros(self.rate.shape[:-1])

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return torch.poisson(self.rate.detach().expand(tuple(sample_shape) + self.rate.shape))

    def log_marginals(self, num_values: int) -> Tensor:
        return poisson_weights(self.rate, num_values) - self.rate[..., None]


class PoissonGroups(PoissonPart):
    """Poisson variables whose sums are given: multinomial.

    Args:
        groups: the plan.
        rate: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        largest: a bound of the counts.
    """

    def __init__(
        self,
        groups: DisjointGroups,
        rate: Tensor,
        counts: Tensor,
        largest: int | None,
        is_delicate: bool,
    ) -> None:
        self.variables, self.groups, self.is_delicate = groups.variables, groups, is_delicate
        self.rate, self.counts, self.largest = rate, counts, largest

    def log_partition(self) -> Tensor:
        if not self.is_delicate:
            return fiber_groups.poisson_log_prob(self.groups, self.rate, self.counts)
        return log_poisson(self.counts, fiber_groups.group_totals(self.groups, self.rate)).sum(-1)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        rate = self.rate.detach()
        return fiber_groups.poisson_draw(self.groups, rate, self.counts, sample_shape, self.largest)

    @cached_property
    def _totals(self) -> Tensor:
        """``(*batch, g)`` rates of the groups."""
        with torch.enable_grad():
            return fiber_groups.group_totals(self.groups, self.rate)

    @cached_property
    def _whole(self) -> Tensor:
        """``_totals`` for each of the members."""
        with torch.enable_grad():
            return fiber_groups.spread(self.groups, self._totals)

    @cached_property
    def _share(self) -> Tensor:
        with torch.enable_grad():
            return ratio(self.rate, self._whole)

    @property
    def _count(self) -> Tensor:
        """Sums of the groups, for each of their members."""
        return fiber_groups.spread(self.groups, self.counts)

    @property
    def weight(self) -> Tensor:
        # Shares, so that large rates do not cost digits; means, so that large counts do not.
        return self._count * self._share if self.is_delicate else self._share

    @cached_property
    def has_tiny(self) -> bool:
        return is_there(self._share < torch.finfo(self.rate.dtype).tiny)

    @property
    def log_weight(self) -> Tensor:
        share = log_ratio(self.rate, self._whole) if self.has_tiny else self._share.log()
        return share + safe_log(self._count) if self.is_delicate else share

    @property
    def is_positive(self) -> Tensor:
        return (self.rate > 0) & (self._count > 0)

    def log_weight_sum(self) -> Tensor:
        if self.is_delicate:
            return log_poisson(self.counts, self.counts).sum(-1)
        return -torch.lgamma(self.counts + 1).sum(-1)

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
            rest = ratio(fiber_groups.other_totals(self.groups, self.rate), self._whole)
        return self._flagged(self._count * self._share * rest)

    @property
    def covariance(self) -> Tensor:
        index = plan_tensor(self.groups, "index", self.rate, torch.int64)
        found = -(self._count * self._share)[..., :, None] * self._share[..., None, :]
        return settled(found.masked_fill(index != index[:, None], 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Tensor:
        others = fiber_groups.other_totals(self.groups, self.rate)
        rates = self.rate[..., None], others[..., None], self._whole[..., None]
        table = split_table(self._count[..., None], rates, num_values, self.is_delicate)
        return self._flagged(table, 1)


class PoissonTrellis(TrellisPart, PoissonPart):
    """Poisson variables whose rows overlap; those with equal columns share the total of theirs.

    Args:
        trellis: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
    """

    def __init__(self, trellis: Trellis, rate: Tensor, start: Tensor, is_delicate: bool) -> None:
        self.rate, self._columns, self.is_delicate = rate, trellis.columns, is_delicate
        self._k = plan_tensor(trellis, "starts", rate)[start]
        total = fiber_groups.group_totals(self._columns, rate)
        log_total = safe_log(total)
        if is_delicate:
            coefficients = plan_tensor(trellis, "coefficients", rate)
            self._tilt = tilt(total, coefficients, _mean_of_batch(self._k, total.shape[:-1]))
            self._exponent = self._tilt @ coefficients.mT
            total, log_total = total * self._exponent.exp(), log_total + self._exponent
        is_zero = rate.requires_grad and is_there(total == 0)
        edge = self._edges(trellis, total) if is_zero else None
        super().__init__(trellis, self._weigh(trellis, total, log_total), start, edge)

    def _edges(self, trellis: Trellis, total: Tensor) -> Tensor:
        """``(*batch, q, U)`` weights where these are zero."""
        return poisson_edges(total, int(trellis.num_values.max()), self.is_delicate)

    def _weigh(self, trellis: Trellis, total: Tensor, log_total: Tensor) -> Tensor:
        """``(*batch, q, U)`` log weights of the columns, of means ``(*batch, c)``."""
        return self._weights_of(total, log_total, int(trellis.num_values.max()))

    def _weights_of(self, total: Tensor, log_total: Tensor, num_values: int) -> Tensor:
        """``(*batch, c, U)`` log weights of 0..U-1."""
        if not self.is_delicate:
            return poisson_weights(total, num_values)
        value = values_of(num_values, total)
        return log_poisson(value, total[..., None], log_total[..., None])

    @property
    def weight(self) -> Tensor:
        if not self.is_delicate:
            return self.rate
        return self.rate * self._of_variables(self._exponent, -1).exp()

    @cached_property
    def has_tiny(self) -> bool:
        return is_there(self.rate == 0)

    @property
    def log_weight(self) -> Tensor:
        plain = safe_log(self.rate) if self.has_tiny else self.rate.log()
        return plain + self._of_variables(self._exponent, -1) if self.is_delicate else plain

    @property
    def is_positive(self) -> Tensor:
        found = (self.rate > 0) & (self.mean > 0)
        if not is_there((self.rate > 0) & (self.mean <= 0)) or not self._may_underflow():
            return found
        return (self.rate > 0) & self._of_variables(self._possible[..., 1:].any(-1), -1)

    def log_weight_sum(self) -> Tensor:
        return self._log_sum()

    def log_partition(self) -> Tensor:
        if not self.is_delicate:
            return self.log_weight_sum() - self.rate.sum(-1)
        added = self.rate * self._of_variables(self._exponent, -1).expm1()
        return self.log_weight_sum() - (self._tilt * self._k).sum(-1) + added.sum(-1)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        columns = self._draw_columns(sample_shape)
        if not self._is_merged:
            return self._of_variables(columns, -1)
        largest = int(self.trellis.largest.max())
        return fiber_groups.poisson_draw(self._columns, self.rate.detach(), columns, (), largest)

    @property
    def _is_merged(self) -> bool:
        return len(self.trellis.coefficients) < len(self.variables)

    @cached_property
    def _whole(self) -> Tensor:
        """Rates of the columns, for each of their variables."""
        with torch.enable_grad():
            return fiber_groups.member_totals(self._columns, self.rate)

    @property
    def _share(self) -> Tensor:
        return ratio(self.rate, self._whole)

    @property
    def _others(self) -> Tensor:
        """Rates of the other variables of a column."""
        return fiber_groups.other_totals(self._columns, self.rate)

    def _of_totals(self, figure: Callable[[Tensor], Tensor]) -> Tensor:
        """``(*batch, p)`` a figure of the total of the column of every variable; of zeros where
        there is no point."""
        return self._of_variables(figure(self._known[0]), -1)

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor]:
        """``_marginals``, zeros for NaN, and ``(*batch, p)`` whether there is no point."""
        known, missing = without_nan(self._marginals)
        return known, self._of_variables(missing[..., 0], -1)

    @property
    def _missing(self) -> Tensor:
        """``(*batch, p)`` whether there is no point."""
        return self._known[1]

    @property
    def _column_mean(self) -> Tensor:
        return mean_of(self._known[0])

    @property
    def mean(self) -> Tensor:
        total = self._of_variables(self._column_mean, -1)
        total = self._share * total if self._is_merged else total
        return total.masked_fill(self._missing, torch.nan)

    @property
    def variance(self) -> Tensor:
        variance = self._of_totals(variance_of)
        if self._is_merged:
            # Of a binomial with a random total.
            rest = ratio(self._others, self._whole)
            within = self._share * rest * self._of_totals(mean_of)
            variance = within + self._share.square() * variance
        return variance.masked_fill(self._missing, torch.nan)

    @property
    def covariance(self) -> Tensor:
        found, _ = without_nan(super().covariance)
        if self._is_merged:
            column = plan_tensor(self.trellis, "column", self.rate, torch.int64)
            mean = self._of_totals(mean_of)
            found = found - mean[..., None].masked_fill(column != column[:, None], 0.0)
            found = self._share[..., None] * self._share[..., None, :] * found
        return settled(found, self.variance)

    def _split(self, num_values: int) -> Tensor:
        """``(*batch, p, N, U)`` log probability of 0..U-1, given totals 0..N-1 of the column."""
        totals = values_of(self.theta.shape[-1], self.theta)[:, None]
        part, others, whole = self.rate, self._others, self._whole
        rates = part[..., None, None], others[..., None, None], whole[..., None, None]
        return split_table(totals, rates, num_values, self.is_delicate)

    def log_marginals(self, num_values: int) -> Tensor:
        if not self._is_merged:
            return super().log_marginals(num_values)
        found = self._of_variables(self._column_log_marginals())
        found, missing = without_nan(found)
        table = log_sum_exp(found[..., None] + self._split(num_values), axis=-2)
        return table.masked_fill(missing.any(-1, keepdim=True), torch.nan)

    def expected_log_factorial(self, num_values: int) -> Tensor:
        known = self._of_variables(self._known[0])
        figures = log_factorials(known.shape[-1], known)
        if self._is_merged:
            figures = self._split(known.shape[-1]).exp() @ figures
        return (known * figures).sum(-1).masked_fill(self._missing, torch.nan)


def _mean_of_batch(k: Tensor, batch_shape: torch.Size) -> Tensor:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdim=True) if size == 1 else k
    return k
