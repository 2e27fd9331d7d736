"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.scipy.special import gammaln

from constrained_core.fibre import FibreChain, GroupFibre
from numpyro_constrained.kernels import fibre_chain, fibre_groups
from numpyro_constrained.kernels.fibre_groups import power, safe_log
from numpyro_constrained.kernels.linalg import lift
from numpyro_constrained.kernels.plans import plan_index, plan_tensor
from numpyro_constrained.kernels.poisson_pmf import log_poisson, tilt

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
    def log_partition(self) -> Array:
        """``(*batch,)`` log probability of this part of the constraint."""

    def log_weight_sum(self) -> Array:
        """``(*batch,)`` log sum of the weights by which ``log_prob`` scores this part's values;
        probabilities unless said."""
        return self.log_partition()

    @abstractmethod
    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        """Exact draws, ``(*sample_shape, *batch, p)``."""

    @property
    @abstractmethod
    def mean(self) -> Array:
        """``(*batch, p)``."""

    @property
    @abstractmethod
    def variance(self) -> Array:
        """``(*batch, p)``."""

    @abstractmethod
    def log_marginals(self, num_values: int) -> Array:
        """``(*batch, p, U)`` log probability of 0..U-1."""


class Free(Part):
    """Variables in no row, with finitely many values: they follow their base law.

    Args:
        variables: their indices.
        table: ``(*batch, p, U)`` log probabilities.
    """

    def __init__(self, variables: np.ndarray, table: Array) -> None:
        self.variables, self.table = variables, table

    def log_partition(self) -> Array:
        return jnp.zeros(self.table.shape[:-2], self.table.dtype)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        weights = jnp.moveaxis(jnp.exp(stop_gradient(self.table)), -1, 0)
        shape = weights.shape[:1] + tuple(sample_shape) + weights.shape[1:]
        weights = weights.reshape(
            weights.shape[:1] + (1,) * len(tuple(sample_shape)) + weights.shape[1:]
        )
        return fibre_chain.choose(key, jnp.broadcast_to(weights, shape))

    @property
    def mean(self) -> Array:
        return _mean(jnp.exp(self.table))

    @property
    def variance(self) -> Array:
        return _variance(jnp.exp(self.table))

    def log_marginals(self, num_values: int) -> Array:
        return _padded(self.table, num_values)


class PoissonPart(Part):
    """Poisson variables, of which values are scored by x log w - log x!, or where that loses too
    many digits (delicate) by ``log_poisson(x, w)``."""

    is_delicate: bool

    @property
    @abstractmethod
    def weight(self) -> Array:
        """``(*batch, p)`` w."""


class FreePoisson(PoissonPart):
    """Poisson variables in no row.

    Args:
        variables: their indices.
        rate: ``(*batch, p)``.
    """

    def __init__(self, variables: np.ndarray, rate: Array, is_delicate: bool) -> None:
        self.variables, self.rate, self.is_delicate = variables, rate, is_delicate

    @property
    def weight(self) -> Array:
        return self.rate

    def log_weight_sum(self) -> Array:
        return self.log_partition() if self.is_delicate else self.rate.sum(-1)

    def log_partition(self) -> Array:
        return jnp.zeros(self.rate.shape[:-1], self.rate.dtype)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape) + self.rate.shape
        rate = jnp.broadcast_to(lift(stop_gradient(self.rate), len(shape)), shape)
        return jax.random.poisson(key, rate)

    @property
    def mean(self) -> Array:
        return self.rate

    @property
    def variance(self) -> Array:
        return self.rate

    def log_marginals(self, num_values: int) -> Array:
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
        rate: Array,
        counts: Any,
        largest: int | None,
        is_delicate: bool,
    ) -> None:
        self.variables, self.groups, self.is_delicate = groups.variables, groups, is_delicate
        self.rate, self.counts, self.largest = rate, jnp.asarray(counts), largest

    def log_partition(self) -> Array:
        if not self.is_delicate:
            return fibre_groups.poisson_log_prob(self.groups, self.rate, self.counts)
        total = fibre_groups.group_totals(self.groups, self.rate)
        ndim = max(total.ndim, self.counts.ndim)
        counts = lift(self.counts, ndim).astype(total.dtype)
        return log_poisson(counts, lift(total, ndim)).sum(-1)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return fibre_groups.poisson_draw(
            key, self.groups, self.rate, self.counts, shape, self.largest
        )

    @property
    def _share(self) -> Array:
        return fibre_groups.poisson_shares(self.groups, self.rate)

    @property
    def weight(self) -> Array:
        # Shares, so that large rates do not cost digits; means, so that large counts do not.
        return self.mean if self.is_delicate else self._share

    def log_weight_sum(self) -> Array:
        counts = self.counts.astype(self.rate.dtype)
        if self.is_delicate:
            return log_poisson(counts, counts).sum(-1)
        return -gammaln(counts + 1).sum(-1)

    @property
    def mean(self) -> Array:
        return self._total(self._share) * self._share

    @property
    def variance(self) -> Array:
        return self.mean * (1 - self._share)

    def log_marginals(self, num_values: int) -> Array:
        share = self._share
        make = _delicate_table if self.is_delicate else _binomial_table
        return make(self._total(share)[..., None], share[..., None], num_values)

    def _total(self, share: Array) -> Array:
        total = fibre_groups.spread(self.groups, self.counts)
        return lift(total, share.ndim).astype(share.dtype)


class BernoulliGroups(Part):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(self, groups: GroupFibre, logits: Array, counts: Any, capacity: int) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, jnp.asarray(counts), capacity

    def log_partition(self) -> Array:
        return fibre_groups.bernoulli_log_partition(
            self.groups, self.logits, self.counts, self.capacity
        )

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return fibre_groups.bernoulli_draw(
            key, self.groups, self.logits, self.counts, self.capacity, shape
        )

    def _marginals(self) -> Array:
        return fibre_groups.bernoulli_marginals(
            self.groups, self.logits, self.counts, self.capacity
        )

    @property
    def mean(self) -> Array:
        return self._marginals()[..., 1]

    @property
    def variance(self) -> Array:
        zero, one = jnp.moveaxis(self._marginals(), -1, 0)
        return zero * one

    def log_marginals(self, num_values: int) -> Array:
        return _padded(safe_log(self._marginals()), num_values)


class Chain(Part):
    """Variables whose rows overlap, by the dynamic programme over the columns.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weights of the values of every column.
        start: ``(*batch,)``.
    """

    def __init__(self, chain: FibreChain, theta: Array, start: Any) -> None:
        self.variables, self.chain = chain.variables, chain
        self.theta, self.start = theta, jnp.asarray(start)

    def log_partition(self) -> Array:
        return fibre_chain.log_partition(self.chain, self.theta, self.start)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._draw_columns(key, sample_shape)[..., plan_index(self.chain, "column")]

    def _draw_columns(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return fibre_chain.draw(key, self.chain, self.theta, self.start, sample_shape)

    def _marginals(self) -> Array:
        """``(*batch, p, U)`` of the columns of all variables."""
        found = fibre_chain.marginals(self.chain, self.theta, self.start)
        return found[..., plan_index(self.chain, "column"), :]

    @property
    def mean(self) -> Array:
        return _mean(self._marginals())

    @property
    def variance(self) -> Array:
        return _variance(self._marginals())

    def log_marginals(self, num_values: int) -> Array:
        return _padded(safe_log(self._marginals()), num_values)


class MergedChain(Chain, PoissonPart):
    """Poisson variables whose rows overlap; those with equal columns share the total of theirs.

    Args:
        chain: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
    """

    def __init__(self, chain: FibreChain, rate: Array, start: Any, is_delicate: bool) -> None:
        self.rate, self._columns, self.is_delicate = rate, chain.columns, is_delicate
        total = fibre_groups.group_totals(self._columns, rate)
        num_values = int(chain.num_values.max())
        if is_delicate:
            self._k = jnp.asarray(plan_tensor(chain, "starts", rate))[start]
            coefficients = plan_tensor(chain, "coefficients", rate)
            shared = _mean_of_batch(self._k, total.shape[:-1])
            self._tilt = tilt(total, coefficients, lift(shared, total.ndim))
            self._exponent = self._tilt @ coefficients.T
            value = _values(num_values, rate, total.ndim + 1)
            theta = log_poisson(value, (total * jnp.exp(self._exponent))[..., None])
        else:
            theta = _poisson_weights(total, num_values)
        super().__init__(chain, theta, start)

    @property
    def weight(self) -> Array:
        if not self.is_delicate:
            return self.rate
        return self.rate * jnp.exp(self._exponent[..., plan_index(self.chain, "column")])

    def log_weight_sum(self) -> Array:
        return super().log_partition()

    def log_partition(self) -> Array:
        total = self.log_weight_sum()
        if not self.is_delicate:
            return total - lift(self.rate.sum(-1), total.ndim)
        added = self.rate * jnp.expm1(self._exponent[..., plan_index(self.chain, "column")])
        ndim = total.ndim + 1
        spent = (lift(self._tilt, ndim) * lift(self._k, ndim)).sum(-1)
        return total - spent + lift(added.sum(-1), total.ndim)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        key_columns, key_split = jax.random.split(key)
        columns = self._draw_columns(key_columns, sample_shape)
        if self.chain.num_columns == len(self.variables):
            return columns[..., plan_index(self.chain, "column")]
        largest = int(self.chain.num_values.max()) - 1
        return fibre_groups.poisson_draw(key_split, self._columns, self.rate, columns, (), largest)

    def _share(self, ndim: int) -> Array:
        return lift(fibre_groups.poisson_shares(self._columns, self.rate), ndim)

    @property
    def mean(self) -> Array:
        total = _mean(self._marginals())
        return self._share(total.ndim) * total

    @property
    def variance(self) -> Array:
        marginals = self._marginals()
        share = self._share(marginals.ndim - 1)
        # Of a binomial with a random total.
        within = share * (1 - share) * _mean(marginals)
        return within + jnp.square(share) * _variance(marginals)

    def log_marginals(self, num_values: int) -> Array:
        marginals = self._marginals()
        share = self._share(marginals.ndim - 1)
        totals = np.arange(marginals.shape[-1]).astype(share.dtype)
        totals = totals.reshape((1,) * (marginals.ndim - 1) + (-1, 1))
        make = _delicate_table if self.is_delicate else _binomial_table
        split = make(totals, share[..., None, None], num_values)
        return fibre_chain.log_sum_exp(safe_log(marginals)[..., None] + split, axis=-2)


def _values(num_values: int, like: Array, ndim: int) -> np.ndarray:
    return np.arange(num_values).astype(like.dtype).reshape((1,) * (ndim - 1) + (-1,))


def _poisson_weights(rate: Array, num_values: int) -> Array:
    """``(..., U)`` u log rate - log u! of u = 0..U-1."""
    value = _values(num_values, rate, rate.ndim + 1)
    return power(value, rate[..., None]) - gammaln(value + 1)


def _mean_of_batch(k: Array, batch_shape: tuple[int, ...]) -> Array:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdims=True) if size == 1 else k
    return k


def _delicate_table(total: Any, share: Array, num_values: int) -> Array:
    """``_binomial_table``, where that loses too many digits."""
    value = _values(num_values, share, share.ndim)
    rest = jnp.maximum(total - value, 0)
    table = log_poisson(value, total * share) + log_poisson(rest, total * (1 - share))
    return jnp.where(value > total, -jnp.inf, table - log_poisson(total, total))


def _binomial_table(total: Any, share: Array, num_values: int) -> Array:
    """``(..., U)`` log Binomial(u; total, share) of u = 0..U-1."""
    value = _values(num_values, share, share.ndim)
    rest = jnp.maximum(total - value, 0)
    ways = gammaln(total + 1) - gammaln(value + 1) - gammaln(rest + 1)
    table = ways + power(value, share) + power(rest, 1 - share)
    return jnp.where(value > total, -jnp.inf, table)


def _mean(probability: Array) -> Array:
    return (probability * _values(probability.shape[-1], probability, probability.ndim)).sum(-1)


def _variance(probability: Array) -> Array:
    value = _values(probability.shape[-1], probability, probability.ndim)
    deviation = value - _mean(probability)[..., None]
    return (probability * jnp.square(deviation)).sum(-1)


def _padded(table: Array, num_values: int) -> Array:
    table = table[..., :num_values]  # no variable may reach the largest value of its base law
    missing = num_values - table.shape[-1]
    return jnp.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, missing)], constant_values=-jnp.inf)
