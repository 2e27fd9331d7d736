"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fibre import FibreChain, GroupFibre
from pyro_constrained.kernels import fibre_chain, fibre_groups
from pyro_constrained.kernels.fibre_groups import safe_log
from pyro_constrained.kernels.plans import plan_tensor
from pyro_constrained.kernels.poisson_pmf import log_poisson, tilt

__all__ = [
    "BernoulliGroups",
    "Chain",
    "Free",
    "FreePoisson",
    "MergedChain",
    "Part",
    "PoissonGroups",
    "PoissonPart",
]


class Part(ABC):
    """Variables that are independent of all others given ``A x = k``."""

    variables: np.ndarray

    @abstractmethod
    def log_partition(self) -> Tensor:
        """``(*batch,)`` log probability of this part of the constraint."""

    def log_weight_sum(self) -> Tensor:
        """``(*batch,)`` log sum of the weights by which ``log_prob`` scores this part's values;
        probabilities unless said."""
        return self.log_partition()

    @abstractmethod
    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        """Exact draws, ``(*sample_shape, *batch, p)``."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``(*batch, p)``."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``(*batch, p)``."""

    @abstractmethod
    def log_marginals(self, num_values: int) -> Tensor:
        """``(*batch, p, U)`` log probability of 0..U-1."""


class Free(Part):
    """Variables in no row, with finitely many values: they follow their base law.

    Args:
        variables: their indices.
        table: ``(*batch, p, U)`` log probabilities.
    """

    def __init__(self, variables: np.ndarray, table: Tensor) -> None:
        self.variables, self.table = variables, table

    def log_partition(self) -> Tensor:
        return self.table.new_zeros(self.table.shape[:-2])

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        table = self.table.detach().exp()
        weights = table.expand(tuple(sample_shape) + table.shape).movedim(-1, 0)
        return fibre_chain.choose(weights).to(table.dtype)

    @property
    def mean(self) -> Tensor:
        return _mean(self.table.exp())

    @property
    def variance(self) -> Tensor:
        return _variance(self.table.exp())

    def log_marginals(self, num_values: int) -> Tensor:
        return _padded(self.table, num_values)


class PoissonPart(Part):
    """Poisson variables, of which values are scored by x log w - log x!, or where that loses too
    many digits (delicate) by ``log_poisson(x, w)``."""

    is_delicate: bool

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """``(*batch, p)`` w."""


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
        return _poisson_weights(self.rate, num_values) - self.rate[..., None]


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
        groups: GroupFibre,
        rate: Tensor,
        counts: Tensor,
        largest: int | None,
        is_delicate: bool,
    ) -> None:
        self.variables, self.groups, self.is_delicate = groups.variables, groups, is_delicate
        self.rate, self.counts, self.largest = rate, counts, largest

    def log_partition(self) -> Tensor:
        if not self.is_delicate:
            return fibre_groups.poisson_log_prob(self.groups, self.rate, self.counts)
        return log_poisson(self.counts, fibre_groups.group_totals(self.groups, self.rate)).sum(-1)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        rate = self.rate.detach()
        return fibre_groups.poisson_draw(self.groups, rate, self.counts, sample_shape, self.largest)

    @cached_property
    def _share(self) -> Tensor:
        with torch.enable_grad():
            return fibre_groups.poisson_shares(self.groups, self.rate)

    @property
    def weight(self) -> Tensor:
        # Shares, so that large rates do not cost digits; means, so that large counts do not.
        return self.mean if self.is_delicate else self._share

    def log_weight_sum(self) -> Tensor:
        if self.is_delicate:
            return log_poisson(self.counts, self.counts).sum(-1)
        return -torch.lgamma(self.counts + 1).sum(-1)

    @property
    def _total(self) -> Tensor:
        return fibre_groups.spread(self.groups, self.counts)

    @property
    def mean(self) -> Tensor:
        return self._total * self._share

    @property
    def variance(self) -> Tensor:
        return self._total * self._share * (1 - self._share)

    def log_marginals(self, num_values: int) -> Tensor:
        total, share = self._total[..., None], self._share[..., None]
        make = _delicate_table if self.is_delicate else _binomial_table
        return make(total, share, num_values)


class BernoulliGroups(Part):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(self, groups: GroupFibre, logits: Tensor, counts: Tensor, capacity: int) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, counts, capacity

    def log_partition(self) -> Tensor:
        return fibre_groups.bernoulli_log_partition(
            self.groups, self.logits, self.counts, self.capacity
        )

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        logits = self.logits.detach()
        return fibre_groups.bernoulli_draw(
            self.groups, logits, self.counts, self.capacity, sample_shape
        )

    @cached_property
    def _marginals(self) -> Tensor:
        return fibre_groups.bernoulli_marginals(
            self.groups, self.logits, self.counts, self.capacity
        )

    @property
    def mean(self) -> Tensor:
        return self._marginals[..., 1]

    @property
    def variance(self) -> Tensor:
        return self._marginals[..., 0] * self._marginals[..., 1]

    def log_marginals(self, num_values: int) -> Tensor:
        return _padded(safe_log(self._marginals), num_values)


class Chain(Part):
    """Variables whose rows overlap, by the dynamic programme over the columns.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weights of the values of every column.
        start: ``(*batch,)``.
    """

    def __init__(self, chain: FibreChain, theta: Tensor, start: Tensor) -> None:
        self.variables, self.chain = chain.variables, chain
        self.theta, self.start = theta, start

    @cached_property
    def _column(self) -> Tensor:
        return plan_tensor(self.chain, "column", self.theta, torch.int64)

    def log_partition(self) -> Tensor:
        return fibre_chain.log_partition(self.chain, self.theta, self.start)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return self._draw_columns(sample_shape).index_select(-1, self._column)

    def _draw_columns(self, sample_shape: tuple[int, ...]) -> Tensor:
        theta = self.theta.detach()
        return fibre_chain.draw(self.chain, theta, self.start, sample_shape).to(theta.dtype)

    @cached_property
    def _marginals(self) -> Tensor:
        """``(*batch, p, U)`` of the columns of all variables."""
        found = fibre_chain.marginals(self.chain, self.theta, self.start)
        return found.index_select(-2, self._column)

    @property
    def mean(self) -> Tensor:
        return _mean(self._marginals)

    @property
    def variance(self) -> Tensor:
        return _variance(self._marginals)

    def log_marginals(self, num_values: int) -> Tensor:
        return _padded(safe_log(self._marginals), num_values)


class MergedChain(Chain, PoissonPart):
    """Poisson variables whose rows overlap; those with equal columns share the total of theirs.

    Args:
        chain: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
    """

    def __init__(self, chain: FibreChain, rate: Tensor, start: Tensor, is_delicate: bool) -> None:
        self.rate, self._columns, self.is_delicate = rate, chain.columns, is_delicate
        total = fibre_groups.group_totals(self._columns, rate)
        num_values = int(chain.num_values.max())
        if is_delicate:
            self._k = plan_tensor(chain, "starts", rate)[start]
            coefficients = plan_tensor(chain, "coefficients", rate)
            self._tilt = tilt(total, coefficients, _mean_of_batch(self._k, total.shape[:-1]))
            self._exponent = self._tilt @ coefficients.mT
            value = torch.arange(num_values, device=rate.device).to(rate.dtype)
            theta = log_poisson(value, (total * self._exponent.exp())[..., None])
        else:
            theta = _poisson_weights(total, num_values)
        super().__init__(chain, theta, start)

    @property
    def weight(self) -> Tensor:
        if not self.is_delicate:
            return self.rate
        return self.rate * self._exponent.index_select(-1, self._column).exp()

    def log_weight_sum(self) -> Tensor:
        return super().log_partition()

    def log_partition(self) -> Tensor:
        if not self.is_delicate:
            return self.log_weight_sum() - self.rate.sum(-1)
        added = self.rate * self._exponent.index_select(-1, self._column).expm1()
        return self.log_weight_sum() - (self._tilt * self._k).sum(-1) + added.sum(-1)

    @cached_property
    def _share(self) -> Tensor:
        with torch.enable_grad():
            return fibre_groups.poisson_shares(self._columns, self.rate)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        columns = self._draw_columns(sample_shape)
        if self.chain.num_columns == len(self.variables):
            return columns.index_select(-1, self._column)
        largest = int(self.chain.num_values.max()) - 1
        return fibre_groups.poisson_draw(self._columns, self.rate.detach(), columns, (), largest)

    @property
    def mean(self) -> Tensor:
        return self._share * super().mean

    @property
    def variance(self) -> Tensor:
        # Of a binomial with a random total.
        within = self._share * (1 - self._share) * super().mean
        return within + self._share.square() * super().variance

    def log_marginals(self, num_values: int) -> Tensor:
        totals = torch.arange(self._marginals.shape[-1], device=self.rate.device)
        totals = totals.to(self.rate.dtype)[:, None]
        make = _delicate_table if self.is_delicate else _binomial_table
        split = make(totals, self._share[..., None, None], num_values)
        terms = safe_log(self._marginals)[..., None] + split
        return fibre_chain.log_sum_exp(terms, axis=-2)


def _poisson_weights(rate: Tensor, num_values: int) -> Tensor:
    """``(..., U)`` u log rate - log u! of u = 0..U-1."""
    value = torch.arange(num_values, device=rate.device).to(rate.dtype)
    return fibre_groups.power(value, rate[..., None]) - torch.lgamma(value + 1)


def _mean_of_batch(k: Tensor, batch_shape: torch.Size) -> Tensor:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdim=True) if size == 1 else k
    return k


def _delicate_table(total: Tensor, share: Tensor, num_values: int) -> Tensor:
    """``_binomial_table``, where that loses too many digits."""
    value = torch.arange(num_values, device=share.device).to(share.dtype)
    rest = (total - value).clamp(min=0)
    table = log_poisson(value, total * share) + log_poisson(rest, total * (1 - share))
    return (table - log_poisson(total, total)).masked_fill(value > total, -torch.inf)


def _binomial_table(total: Tensor, share: Tensor, num_values: int) -> Tensor:
    """``(..., U)`` log Binomial(u; total, share) of u = 0..U-1."""
    value = torch.arange(num_values, device=share.device).to(share.dtype)
    rest = (total - value).clamp(min=0)
    ways = torch.lgamma(total + 1) - torch.lgamma(value + 1) - torch.lgamma(rest + 1)
    table = ways + fibre_groups.power(value, share) + fibre_groups.power(rest, 1 - share)
    return table.masked_fill(value > total, -torch.inf)


def _values(table: Tensor) -> Tensor:
    return torch.arange(table.shape[-1], device=table.device).to(table.dtype)


def _mean(probability: Tensor) -> Tensor:
    return probability @ _values(probability)


def _variance(probability: Tensor) -> Tensor:
    deviation = _values(probability) - _mean(probability)[..., None]
    return (probability * deviation.square()).sum(-1)


def _padded(table: Tensor, num_values: int) -> Tensor:
    return pad(table, (0, num_values - table.shape[-1]), value=-torch.inf)
