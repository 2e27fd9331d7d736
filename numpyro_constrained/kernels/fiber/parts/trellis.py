"""Variables whose rows overlap, by the dynamic programme over the columns."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import (
    expected,
    log_sum_exp,
    ratio,
    safe_log,
    without_nan,
)
from numpyro_constrained.kernels.arrays.loops import where_needed
from numpyro_constrained.kernels.arrays.plans import plan_index, plan_tensor
from numpyro_constrained.kernels.arrays.value_tables import (
    exact_zeros,
    mean_of,
    padded,
    values_of,
    variance_of,
)
from numpyro_constrained.kernels.fiber import trellis as trellis_sums
from numpyro_constrained.kernels.fiber import trellis_edges, trellis_marginals
from numpyro_constrained.kernels.fiber.covariance import derivative_of_means, settled
from numpyro_constrained.kernels.fiber.group_sums import (
    draw_members,
    group_totals,
    member_totals,
    other_totals,
)
from numpyro_constrained.kernels.fiber.parts.part import FinitePart, RatePart
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["BernoulliTrellis", "PoissonTrellis", "TrellisPart"]


class TrellisPart(FinitePart):
    """Variables whose rows overlap, by the dynamic programme over the columns.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights of the values of every column.
        start: ``(*batch,)``.
        edge: ``(*batch, q, U)`` weights where these are -inf, zeros with a derivative; None where
            no derivative in them is asked for.
    """

    def __init__(
        self, trellis: Trellis, theta: Array, start: Any, edge: Array | None = None
    ) -> None:
        self.variables, self.trellis = trellis.variables, trellis
        self.theta, self.start, self.edge = theta, jnp.asarray(start), edge

    def log_partition(self) -> Array:
        return self.log_weight_sum()

    def log_weight_sum(self) -> Array:
        if self.edge is None:
            return trellis_sums.log_partition(self.trellis, self.theta, self.start)
        return trellis_edges.log_partition(self.trellis, self.theta, self.edge, self.start)

    def _stages(self) -> Array:
        """``(*batch, q, U)`` probabilities of the values of the stages."""
        return self._stages_of(self.theta, self.edge)

    def _stages_of(self, theta: Array, edge: Array | None) -> Array:
        if edge is None:
            return trellis_sums.marginals(self.trellis, theta, self.start)
        return trellis_edges.marginals(self.trellis, theta, edge, self.start)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._draw_columns(key, sample_shape)[..., plan_index(self.trellis, "column")]

    def _draw_columns(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return trellis_sums.draw(key, self.trellis, self.theta, self.start, sample_shape)

    def _of_variables(self, figures: Array, axis: int = -2) -> Array:
        return jnp.take(figures, plan_index(self.trellis, "column"), axis=axis)

    def _marginals(self) -> Array:
        """``(*batch, q, U)`` of the columns."""
        return self._stages()

    @property
    def _possible(self) -> Array:
        """``(*batch, q, U)`` whether a column can have a value."""
        return trellis_marginals.possible_values(self.trellis, self.theta, self.start)

    @property
    def _may_underflow(self) -> Array:
        """Whether a point may have a probability below the least number of the dtype."""
        theta = stop_gradient(self.theta)
        least = jnp.where(theta == -jnp.inf, jnp.inf, theta).min(-1)
        # At most so much larger is the log of the sum of all paths than that of the lightest.
        log_paths = float(np.log(self.trellis.num_values).sum())
        reach = (theta.max(-1) - least).sum(-1) + log_paths
        return ~(reach < -jnp.log(jnp.finfo(reach.dtype).tiny)).all()

    @property
    def _exact(self) -> Array:
        """``_marginals`` with zeros exactly where a value is impossible."""
        found = self._marginals()
        is_unsure = (found <= 0).any() & self._may_underflow
        possible = where_needed(is_unsure, lambda: self._possible, lambda: found > 0)
        return exact_zeros(found, possible)

    @property
    def probabilities(self) -> Array:
        return self._of_variables(self._exact)

    @property
    def _column_mean(self) -> Array:
        """``(*batch, q)`` of the columns."""
        return mean_of(self._marginals())

    def _column_log_marginals(self) -> Array:
        """``(*batch, q, U)`` of the columns."""
        found = trellis_marginals.log_marginals(self.trellis, self.theta, self.start)
        if self.edge is None:
            return found
        return found + trellis_edges.log_change(self.trellis, self.theta, self.edge, self.start)

    @property
    def mean(self) -> Array:
        return self._of_variables(self._column_mean, -1)

    @property
    def variance(self) -> Array:
        return self._of_variables(variance_of(self._marginals()), -1)

    @property
    def covariance(self) -> Array:
        return self._of_variables(self._of_variables(self._column_covariance), -1)

    @property
    def _column_covariance(self) -> Array:
        """``(*batch, q, q)`` of the values of the columns."""

        def tables(t: Array) -> Array:
            t = lift(t[:, None], self.theta.ndim)
            added = t * values_of(self.theta.shape[-1], t, t.ndim)
            edge = None if self.edge is None else self.edge * jnp.exp(added)
            return self._stages_of(self.theta + added, edge)

        found = derivative_of_means(tables, self.theta, np.eye(self.trellis.num_columns))
        return settled(found, variance_of(self._marginals()))

    def log_marginals(self, num_values: int) -> Array:
        return padded(self._of_variables(self._column_log_marginals()), num_values)


class BernoulliTrellis(TrellisPart):
    """A trellis of Bernoulli variables, whose means are strictly inside of (0, 1)."""

    mean, variance = FinitePart.mean, FinitePart.variance


class PoissonTrellis(TrellisPart, RatePart):
    """Poisson variables whose rows overlap; those with equal columns share the total of theirs.

    Args:
        trellis: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
        mass: by which values are scored.
    """

    def __init__(self, trellis: Trellis, rate: Array, start: Any, mass: PoissonMass) -> None:
        self.rate, self._columns, self.mass = rate, trellis.columns, mass
        self._k = jnp.asarray(plan_tensor(trellis, "starts", rate))[start]
        total = group_totals(self._columns, rate)
        log_total = safe_log(total)
        coefficients = plan_tensor(trellis, "coefficients", rate)
        self._tilt = mass.tilt(total, coefficients, self._k)
        if self._tilt is not None:
            self._exponent = self._tilt @ coefficients.T
            total, log_total = total * jnp.exp(self._exponent), log_total + self._exponent
        theta = self._weigh(trellis, total, log_total)
        edge = self._edges(trellis, total) if isinstance(total, Tracer) else None
        super().__init__(trellis, theta, start, edge)

    def _edges(self, trellis: Trellis, total: Array) -> Array:
        """``(*batch, q, U)`` weights where these are zero."""
        return self.mass.edges(total, int(trellis.num_values.max()))

    def _weigh(self, trellis: Trellis, total: Array, log_total: Array) -> Array:
        """``(*batch, q, U)`` log weights of the columns, of means ``(*batch, c)``."""
        return self.mass.table(total, log_total, int(trellis.num_values.max()))

    @property
    def weight(self) -> Array:
        if self._tilt is None:
            return self.rate
        return self.rate * jnp.exp(self._of_variables(self._exponent, -1))

    @property
    def log_weight(self) -> Array:
        plain = super().log_weight
        return plain if self._tilt is None else plain + self._of_variables(self._exponent, -1)

    @property
    def is_positive(self) -> Array:
        mean = self.mean
        has_rate = lift(self.rate, mean.ndim) > 0

        def possible() -> Array:
            return has_rate & self._of_variables(self._possible[..., 1:].any(-1), -1)

        is_unsure = (has_rate & (mean <= 0)).any() & self._may_underflow
        return where_needed(is_unsure, possible, lambda: has_rate & (mean > 0))

    def log_partition(self) -> Array:
        total = self.log_weight_sum()
        if self._tilt is None:
            return total - lift(self.rate.sum(-1), total.ndim)
        # Masses of the weights are those of the rates times exp(tilt' k - sum(weight - rate)).
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
        return draw_members(key_split, self._columns, self.rate, columns, (), largest)

    @property
    def _is_merged(self) -> bool:
        return len(self.trellis.coefficients) < len(self.variables)

    def _rates(self, ndim: int) -> tuple[Array, Array, Array]:
        """``(*batch, p)`` of a variable, the others of its column, and all of the column; 1 of a
        variable that has one to itself: all of it is its own, also of a rate of zero, whose
        derivative the column has."""
        is_alone = plan_tensor(self.trellis, "is_alone", self.rate, bool)
        part = jnp.where(lift(is_alone, self.rate.ndim), 1.0, self.rate)
        others, whole = other_totals(self._columns, part), member_totals(self._columns, part)
        return lift(part, ndim), lift(others, ndim), lift(whole, ndim)

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
            # Binomial given the total of the column, which is random.
            part, others, whole = self._rates(variance.ndim)
            share, rest = ratio(part, whole), ratio(others, whole)
            within = share * rest * self._of_totals(mean_of)
            variance = within + jnp.square(share) * variance
        return jnp.where(self._missing, jnp.nan, variance)

    @property
    def covariance(self) -> Array:
        found, _ = without_nan(super().covariance)
        if self._is_merged:
            # Factorial moments: E[x_i x_j] is share_i share_j E[total (total - 1)] in one column.
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
        return self.mass.split(totals, rates, num_values)

    def log_marginals(self, num_values: int) -> Array:
        if not self._is_merged:
            return super().log_marginals(num_values)
        found = self._of_variables(self._column_log_marginals())
        found, missing = without_nan(found)
        split = self._split(num_values, found.ndim + 1)
        table = log_sum_exp(found[..., None] + split, axis=-2)
        return jnp.where(missing.any(-1, keepdims=True), jnp.nan, table)

    def expected_log_mass(self, num_values: int) -> Array:
        known, _ = without_nan(self._of_variables(self._marginals()))
        size, ndim = known.shape[-1], known.ndim
        table = lift(self.mass.table(self.weight, self.log_weight, size), ndim)
        if self._is_merged:  # of each total of the column
            split = jnp.exp(self._split(size, ndim + 1))
            table = expected(split, table[..., None, :]).sum(-1)
        return jnp.where(self._missing, jnp.nan, expected(known, table).sum(-1))
