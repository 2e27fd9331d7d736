"""The independent parts of a Poisson law given ``A x = k``, each with its own exact method."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient
from jax.scipy.special import gammaln

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.leaves import where_needed
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import (
    log_ratio,
    log_sum_exp,
    ratio,
    safe_log,
    without_nan,
)
from numpyro_constrained.kernels.arrays.plans import plan_index, plan_tensor
from numpyro_constrained.kernels.arrays.poisson_pmf import log_poisson, tilt
from numpyro_constrained.kernels.arrays.value_tables import (
    log_factorials,
    mean_of,
    poisson_edges,
    poisson_weights,
    split_table,
    values_of,
    variance_of,
)
from numpyro_constrained.kernels.fiber import groups as fiber_groups
from numpyro_constrained.kernels.fiber.covariance import settled
from numpyro_constrained.kernels.fiber.parts import Part, TrellisPart

__all__ = ["FreePoisson", "PoissonGroups", "PoissonPart", "PoissonTrellis"]


class PoissonPart(Part):
    """Poisson variables, of which values are scored by x log w - log x!, or where that loses too
    many digits (delicate) by ``log_poisson(x, w)``."""

    is_delicate: bool

    @property
    @abstractmethod
    def weight(self) -> Array:
        """``(*batch, p)`` w."""

    @property
    @abstractmethod
    def log_weight(self) -> Array:
        """``(*batch, p)`` log w, also where w is below the least number of the dtype."""

    @property
    @abstractmethod
    def is_positive(self) -> Array:
        """``(*batch, p)`` whether a variable can be more than 0."""

    def expected_log_factorial(self, num_values: int) -> Array:
        """``(*batch, p)`` E[log x!] of values 0..U-1."""
        table = jnp.exp(self.log_marginals(num_values))
        return (table * log_factorials(num_values, table, table.ndim)).sum(-1)


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

    @property
    def log_weight(self) -> Array:
        return safe_log(self.rate)

    @property
    def is_positive(self) -> Array:
        return self.rate > 0

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
        rate: Array,
        counts: Any,
        largest: int | None,
        is_delicate: bool,
    ) -> None:
        self.variables, self.groups, self.is_delicate = groups.variables, groups, is_delicate
        self.rate, self.counts, self.largest = rate, jnp.asarray(counts), largest

    def log_partition(self) -> Array:
        if not self.is_delicate:
            return fiber_groups.poisson_log_prob(self.groups, self.rate, self.counts)
        total = fiber_groups.group_totals(self.groups, self.rate)
        ndim = max(total.ndim, self.counts.ndim)
        counts = lift(self.counts, ndim).astype(total.dtype)
        return log_poisson(counts, lift(total, ndim)).sum(-1)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return fiber_groups.poisson_draw(
            key, self.groups, self.rate, self.counts, shape, self.largest
        )

    @property
    def _whole(self) -> Array:
        """Rates of the groups, for each of their members."""
        return fiber_groups.member_totals(self.groups, self.rate)

    @property
    def _count(self) -> Array:
        """Sums of the groups, for each of their members."""
        count, whole = fiber_groups.spread(self.groups, self.counts), self._whole
        return lift(count, whole.ndim).astype(whole.dtype)

    @property
    def weight(self) -> Array:
        # Shares, so that large rates do not cost digits; means, so that large counts do not.
        share = ratio(self.rate, self._whole)
        return self._count * share if self.is_delicate else share

    @property
    def log_weight(self) -> Array:
        share = log_ratio(self.rate, self._whole)
        return share + safe_log(self._count) if self.is_delicate else share

    @property
    def is_positive(self) -> Array:
        return (self.rate > 0) & (self._count > 0)

    def log_weight_sum(self) -> Array:
        counts = self.counts.astype(self.rate.dtype)
        if self.is_delicate:
            return log_poisson(counts, counts).sum(-1)
        return -gammaln(counts + 1).sum(-1)

    def _flagged(self, figures: Array, num_dims: int = 0) -> Array:
        """``(*batch, p, ...)``, NaN where all rates of a group are zero and its sum is not."""
        missing = (self._whole == 0) & (self._count > 0)
        return jnp.where(missing[(...,) + (None,) * num_dims], jnp.nan, figures)

    @property
    def mean(self) -> Array:
        return self._flagged(self._count * ratio(self.rate, self._whole))

    @property
    def variance(self) -> Array:
        others = fiber_groups.other_totals(self.groups, self.rate)
        share, rest = ratio(self.rate, self._whole), ratio(others, self._whole)
        return self._flagged(self._count * share * rest)

    @property
    def covariance(self) -> Array:
        index, share = self.groups.index, ratio(self.rate, self._whole)
        found = -(self._count * share)[..., :, None] * share[..., None, :]
        is_same = (index == index[:, None]).reshape((1,) * (found.ndim - 2) + (index.size,) * 2)
        return settled(jnp.where(is_same, found, 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Array:
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

    def __init__(self, trellis: Trellis, rate: Array, start: Any, is_delicate: bool) -> None:
        self.rate, self._columns, self.is_delicate = rate, trellis.columns, is_delicate
        self._k = jnp.asarray(plan_tensor(trellis, "starts", rate))[start]
        total = fiber_groups.group_totals(self._columns, rate)
        log_total = safe_log(total)
        if is_delicate:
            coefficients = plan_tensor(trellis, "coefficients", rate)
            shared = _mean_of_batch(self._k, total.shape[:-1])
            self._tilt = tilt(total, coefficients, lift(shared, total.ndim))
            self._exponent = self._tilt @ coefficients.T
            total, log_total = total * jnp.exp(self._exponent), log_total + self._exponent
        theta = self._weigh(trellis, total, log_total)
        edge = self._edges(trellis, total) if isinstance(total, Tracer) else None
        super().__init__(trellis, theta, start, edge)

    def _edges(self, trellis: Trellis, total: Array) -> Array:
        """``(*batch, q, U)`` weights where these are zero."""
        return poisson_edges(total, int(trellis.num_values.max()), self.is_delicate)

    def _weigh(self, trellis: Trellis, total: Array, log_total: Array) -> Array:
        """``(*batch, q, U)`` log weights of the columns, of means ``(*batch, c)``."""
        return self._weights_of(total, log_total, int(trellis.num_values.max()))

    def _weights_of(self, total: Array, log_total: Array, num_values: int) -> Array:
        """``(*batch, c, U)`` log weights of 0..U-1."""
        if not self.is_delicate:
            return poisson_weights(total, num_values)
        value = values_of(num_values, total, total.ndim + 1)
        return log_poisson(value, total[..., None], log_total[..., None])

    @property
    def weight(self) -> Array:
        if not self.is_delicate:
            return self.rate
        return self.rate * jnp.exp(self._of_variables(self._exponent, -1))

    @property
    def log_weight(self) -> Array:
        plain = safe_log(self.rate)
        return plain + self._of_variables(self._exponent, -1) if self.is_delicate else plain

    @property
    def is_positive(self) -> Array:
        mean = self.mean
        has_rate = lift(self.rate, mean.ndim) > 0

        def possible() -> Array:
            return has_rate & self._of_variables(self._possible[..., 1:].any(-1), -1)

        is_unsure = (has_rate & (mean <= 0)).any() & self._may_underflow
        return where_needed(is_unsure, possible, lambda: has_rate & (mean > 0))

    def log_weight_sum(self) -> Array:
        return self._log_sum()

    def log_partition(self) -> Array:
        total = self.log_weight_sum()
        if not self.is_delicate:
            return total - lift(self.rate.sum(-1), total.ndim)
        added = self.rate * jnp.expm1(self._of_variables(self._exponent, -1))
        ndim = total.ndim + 1
        spent = (lift(self._tilt, ndim) * lift(self._k, ndim)).sum(-1)
        return total - spent + lift(added.sum(-1), total.ndim)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        key_columns, key_split = jax.random.split(key)
        columns = self._draw_columns(key_columns, sample_shape)
        if not self._is_merged:
            return columns[..., plan_index(self.trellis, "column")]
        largest = int(self.trellis.largest.max())
        return fiber_groups.poisson_draw(key_split, self._columns, self.rate, columns, (), largest)

    @property
    def _is_merged(self) -> bool:
        return len(self.trellis.coefficients) < len(self.variables)

    def _rates(self, ndim: int) -> tuple[Array, Array, Array]:
        """``(*batch, p)`` of a variable, the others of its column, and all of the column."""
        others = fiber_groups.other_totals(self._columns, self.rate)
        whole = fiber_groups.member_totals(self._columns, self.rate)
        return lift(self.rate, ndim), lift(others, ndim), lift(whole, ndim)

    def _of_totals(self, figure: Callable[[Array], Array]) -> Array:
        """``(*batch, p)`` a figure of the total of the column of every variable; of zeros where
        there is no point."""
        known, _ = without_nan(self._marginals())
        return self._of_variables(figure(known), -1)

    @property
    def _missing(self) -> Array:
        """``(*batch, p)`` whether there is no point."""
        return self._of_variables(self._column_missing, -1)

    @property
    def _column_missing(self) -> Array:
        return jnp.isnan(self._marginals()).any(-1)

    @property
    def _column_mean(self) -> Array:
        known, _ = without_nan(self._marginals())
        return mean_of(known)

    @property
    def mean(self) -> Array:
        total = self._of_variables(self._column_mean, -1)
        if self._is_merged:
            part, _, whole = self._rates(total.ndim)
            total = ratio(part, whole) * total
        return jnp.where(self._missing, jnp.nan, total)

    @property
    def variance(self) -> Array:
        variance = self._of_totals(variance_of)
        if self._is_merged:
            # Of a binomial with a random total.
            part, others, whole = self._rates(variance.ndim)
            share, rest = ratio(part, whole), ratio(others, whole)
            within = share * rest * self._of_totals(mean_of)
            variance = within + jnp.square(share) * variance
        return jnp.where(self._missing, jnp.nan, variance)

    @property
    def covariance(self) -> Array:
        found, _ = without_nan(super().covariance)
        if self._is_merged:
            column, mean = self.trellis.column, self._of_totals(mean_of)
            is_same = column == column[:, None]
            is_same = is_same.reshape((1,) * (mean.ndim - 1) + is_same.shape)
            part, _, whole = self._rates(mean.ndim)
            share = ratio(part, whole)
            found = found - jnp.where(is_same, mean[..., None], 0.0)
            found = share[..., None] * share[..., None, :] * found
        return settled(found, self.variance)

    def _split(self, num_values: int, ndim: int) -> Array:
        """``(*batch, p, N, U)`` log probability of 0..U-1, given totals 0..N-1 of the column."""
        totals = values_of(self.theta.shape[-1], self.theta, ndim - 1)[..., None]
        part, others, whole = self._rates(ndim - 2)
        rates = part[..., None, None], others[..., None, None], whole[..., None, None]
        return split_table(totals, rates, num_values, self.is_delicate)

    def log_marginals(self, num_values: int) -> Array:
        if not self._is_merged:
            return super().log_marginals(num_values)
        found = self._of_variables(self._column_log_marginals())
        found, missing = without_nan(found)
        split = self._split(num_values, found.ndim + 1)
        table = log_sum_exp(found[..., None] + split, axis=-2)
        return jnp.where(missing.any(-1, keepdims=True), jnp.nan, table)

    def expected_log_factorial(self, num_values: int) -> Array:
        known, _ = without_nan(self._of_variables(self._marginals()))
        size, ndim = known.shape[-1], known.ndim
        figures: Any = log_factorials(size, known, ndim)
        if self._is_merged:
            figures = (jnp.exp(self._split(size, ndim + 1)) * figures[..., None, :]).sum(-1)
        return jnp.where(self._missing, jnp.nan, (known * figures).sum(-1))


def _mean_of_batch(k: Array, batch_shape: tuple[int, ...]) -> Array:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdims=True) if size == 1 else k
    return k
