"""Trellises of Poisson variables in which some rows are dealt out unit by unit.

With the rates of a row as shares, the law of its k units on its cells is multinomial, whatever the
order in which they come. So x_j = u has the probability that the first u of them fall on cell j,
and the others on other cells, times the number of ways to choose these u.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln

from constrained_core.fiber.trellis import Trellis
from constrained_core.fiber.trellis_deals import Deal
from numpyro_constrained.kernels.arrays.groups import Groups
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import log_sum_exp, safe_log, times, without_nan
from numpyro_constrained.kernels.arrays.loops import scan
from numpyro_constrained.kernels.arrays.value_tables import variance_of
from numpyro_constrained.kernels.fiber import trellis as trellis_sums
from numpyro_constrained.kernels.fiber.covariance import settled
from numpyro_constrained.kernels.fiber.parts.trellis import PoissonTrellis
from numpyro_constrained.kernels.fiber.trellis import (
    Run,
    by_column,
    runs_of,
    stages_of,
    step_back,
    tables_of,
    with_dead_states,
)
from numpyro_constrained.kernels.fiber.trellis_marginals import by_values

__all__ = ["DealtTrellis"]


class DealtTrellis(PoissonTrellis):
    """Poisson variables whose rows overlap, some of these dealt out unit by unit."""

    def _weigh(self, trellis: Trellis, total: Array, log_total: Array) -> Array:
        """Log weights of the values of columns, and log shares of the columns of a deal."""
        self._total, size = total, int(trellis.num_values.max())
        shares = []
        for deal in trellis.deals:
            share = safe_log(total[..., deal.columns.astype(np.int32)])
            share = _sized(share - safe_log(self._row_rate(deal))[..., None], size)
            if size > len(deal.columns):  # a row that is spent passes
                share = share.at[..., len(deal.columns)].set(0.0)
            shares.append(share)
        return _by_stage(trellis, self.mass.table(total, log_total, size), shares)

    def _edges(self, trellis: Trellis, total: Array) -> Array:
        """As ``_weigh``: a share of zero is a rate of zero over that of the row."""
        table, shares = super()._edges(trellis, total), []
        for deal in trellis.deals:
            rate = total[..., deal.columns.astype(np.int32)]
            whole = self._row_rate(deal)[..., None]
            share = jnp.where(rate == 0, rate, 0.0) / jnp.where(whole == 0, 1.0, whole)
            shares.append(_sized(share, table.shape[-1], 0.0))
        return _by_stage(trellis, table, shares)

    def _row_rate(self, deal: Deal) -> Array:
        """``(*batch,)`` sum of the rates of a row that is dealt out."""
        return self._total[..., deal.columns.astype(np.int32)].sum(-1)

    def log_weight_sum(self) -> Array:
        # Shares leave out how many units the row has: Poisson, of the sum of its rates.
        found = super().log_weight_sum()
        for deal in self.trellis.deals:
            place = int((self.trellis.rows == deal.row).argmax())
            units, rate = self._k[..., place] / deal.unit, self._row_rate(deal)
            ndim = max(units.ndim, rate.ndim)
            units, rate = lift(units, ndim), lift(rate, ndim)
            own = self.mass.log_mass(units, safe_log(rate), rate)
            found = found + lift(own, found.ndim)
        return found

    def _draw_columns(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        stages, trellis = super()._draw_columns(key, sample_shape), self.trellis
        columns = stages[..., trellis.stages.clip(0).astype(np.int32)]
        for deal in trellis.deals:
            units = stages[..., deal.start : deal.stop]
            is_impossible = (units < 0).any(-1)
            for place, column in enumerate(deal.columns.tolist()):
                count = (units == place).sum(-1).astype(columns.dtype)
                columns = columns.at[..., column].set(jnp.where(is_impossible, -1, count))
        return columns

    @property
    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """``(q U,)`` to which column the values of the stages count, and how much."""
        trellis, num_values = self.trellis, self.theta.shape[-1]
        column = np.zeros((trellis.num_columns, num_values), dtype=np.int32)
        amount = np.zeros(column.shape, dtype=self.theta.dtype)
        plain = trellis.stages >= 0
        column[trellis.stages[plain]] = np.flatnonzero(plain)[:, None]
        amount[trellis.stages[plain]] = np.arange(num_values)
        for deal in trellis.deals:
            part = slice(deal.start, deal.stop), slice(len(deal.columns))
            column[part], amount[part] = deal.columns, 1
        return column.ravel(), amount.ravel()

    def _means(self, stages: Array) -> Array:
        """``(*batch, c)`` means of the columns from probabilities ``(*batch, q, U)`` of stages."""
        column, amount = self._counted
        stages = stages.reshape(stages.shape[:-2] + (-1,))
        columns = Groups(column, len(self.trellis.coefficients))
        return columns.totals(stages * lift(amount, stages.ndim))

    @property
    def _column_mean(self) -> Array:
        known, _ = without_nan(self._stages())
        return self._means(known)

    @property
    def _column_missing(self) -> Array:
        missing = jnp.isnan(self._stages()).any((-2, -1))[..., None]
        size = len(self.trellis.coefficients)
        return jnp.broadcast_to(missing, missing.shape[:-1] + (size,))

    def _column_log_marginals(self) -> Array:
        """``(*batch, c, U)``; NaN where there is no point."""
        trellis, size = self.trellis, 1 + int(self.trellis.largest.max())
        found, before = by_values(trellis, self.theta, self.start, log_sum_exp, keep=True)
        rows = [_sized(row, size) for row in jnp.moveaxis(found, -2, 0)[trellis.stages.clip(0)]]
        weights = by_column(jnp.broadcast_to(self.theta, found.shape))
        for deal in trellis.deals:
            dealt = _dealt_of(trellis, deal, weights, before)
            for place, column in enumerate(deal.columns.tolist()):
                row = jnp.moveaxis(dealt[place], 0, -1)
                rows[column] = _sized(row.reshape(found.shape[:-2] + row.shape[-1:]), size)
        table = jnp.stack(rows, -2)
        return table - log_sum_exp(table)[..., None]

    def _marginals(self) -> Array:
        return jnp.exp(self._column_log_marginals())

    @property
    def _possible(self) -> Array:
        return self._column_log_marginals() > -jnp.inf

    @property
    def _column_covariance(self) -> Array:
        """Derivatives of the means in the logarithms of the rates."""
        column, amount = self._counted
        batch = jnp.broadcast_shapes(self.theta.shape[:-2], self.start.shape)

        def means(t: Array) -> Array:
            moved = (lift(t, 1)[column] * amount).reshape(self.theta.shape[-2:])
            theta = self.theta + lift(moved, self.theta.ndim)
            return self._means(trellis_sums.marginals(self.trellis, theta, self.start))

        def along(direction: Array) -> Array:
            return jax.jvp(means, (jnp.zeros_like(direction),), (direction,))[1]

        size = len(self.trellis.coefficients)
        found = jax.lax.map(along, jnp.eye(size, dtype=self.theta.dtype))
        found = jnp.moveaxis(found, 0, -1).reshape(batch + (size, size))
        return settled(found, variance_of(self._marginals()))


def _sized(row: Array, size: int, missing: float = -jnp.inf) -> Array:
    """``(*batch, U)`` with U as asked for."""
    row = row[..., :size]
    width = [(0, 0)] * (row.ndim - 1) + [(0, size - row.shape[-1])]
    return jnp.pad(row, width, constant_values=missing)


def _by_stage(trellis: Trellis, columns: Array, shares: list[Array]) -> Array:
    """``(*batch, q, U)`` from those of the columns ``(*batch, c, U)`` and of the deals."""
    order = np.argsort(trellis.stages, kind="stable")[(trellis.stages < 0).sum() :]
    rows = [columns[..., int(place), :] for place in order]
    for deal, share in zip(trellis.deals, shares, strict=True):
        rows[deal.start : deal.start] = [share] * (deal.stop - deal.start)
    return jnp.stack(rows, -2)


def _dealt_of(trellis: Trellis, deal: Deal, weights: Array, before: list[Array]) -> Array:
    """``(J, U, batch)`` log probability, up to a constant, of how many units fall on each cell.

    Args:
        weights: ``(q, U, batch)`` log weights of all stages.
        before: F of the stages where segments begin.
    """
    runs, tables = runs_of(trellis, trellis.segments), tables_of(trellis.segments)
    number = next(i for i, run in enumerate(runs) if run.start == deal.start)
    size = runs[number].size
    stages, places = range(deal.start, deal.stop), range(len(deal.columns))
    after = [[_after(trellis, stage, place, size) for stage in stages] for place in places]
    units = np.zeros(size + 1, dtype=weights.dtype)
    units[: int(trellis.sizes[deal.start])] = trellis.units(deal)[:-1]
    return _dealt(runs[number:], tables[number:], weights, before[number], np.array(after), units)


def _after(trellis: Trellis, stage: int, place: int, size: int) -> np.ndarray:
    """``(size + 1,)`` the states after a unit falls on a cell, of which ``size`` is dead."""
    after = trellis.after(stage, place)[:-1]
    states = np.full(size + 1, size, dtype=np.int32)
    states[: len(after)] = np.where(after == trellis.sizes[stage + 1], size, after)
    return states


@partial(jax.jit, static_argnums=0)
def _dealt(
    runs: tuple[Run, ...],
    tables: list[tuple[Array, Array]],
    weights: Array,
    before: Array,
    after: Array,
    units: Array,
) -> Array:
    """``_dealt_of``, for the first of some segments.

    Args:
        after: ``(J, q_s, T + 1)`` states after a unit of every stage falls on a cell.
        units: ``(T + 1,)`` units of the states where the row begins.
    """
    run, (first, table) = runs[0], tables[0]
    end, _ = stages_of(runs[1:], tables[1:], weights)
    end, count = with_dead_states(end[:-1], run.size), run.stop - run.start
    shares = weights[run.start : run.stop, : run.num_values]
    values = np.arange(count + 1).astype(weights.dtype)

    def on_cell(cell: tuple[Array, Array]) -> Array:
        place, states = cell
        is_own = (np.arange(run.num_values) == place)[None, :, None]
        columns = first, table, jnp.where(is_own, -jnp.inf, shares)
        left, rest = scan(step_back(run, log_sum_exp), end, columns, reverse=True)

        def weigh(state: Any, stage: Any) -> tuple[Any, Array]:
            value, rest, states = stage
            # Ordered choices of the units; the order does not count, by value! below.
            ways = gammaln(units + 1) - gammaln(jnp.maximum(units - value, 0) + 1)
            ways = jnp.where(units < value, -jnp.inf, ways)
            return states[state], log_sum_exp(before + ways[:, None] + rest[state], axis=0)

        nothing = jnp.zeros_like(states[:1])  # follows on the last value
        stages = values, jnp.concatenate([left[None], rest]), jnp.concatenate([states, nothing])
        _, terms = scan(weigh, np.arange(run.size + 1, dtype=np.int32), stages)
        own = jax.lax.dynamic_index_in_dim(shares[0], place, 0)
        return terms + times(values[:, None], own) - gammaln(values + 1)[:, None]

    return jax.lax.map(on_cell, (np.arange(len(after), dtype=np.int32), after))
