"""Trellises of Poisson variables in which some rows are dealt out unit by unit.

With the rates of a row as shares, the law of its k units on its cells is multinomial, whatever the
order in which they come. So x_j = u has the probability that the first u of them fall on cell j,
and the others on other cells, times the number of ways to choose these u.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.trellis import Trellis
from constrained_core.fiber.trellis_deals import Deal
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.derivatives import jacobian_rows, outside_inference
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import (
    log_sum_exp,
    ratio,
    safe_log,
    times,
    without_nan,
)
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.arrays.value_tables import variance_of
from pyro_constrained.kernels.fiber import trellis as trellis_sums
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.parts.trellis import PoissonTrellis
from pyro_constrained.kernels.fiber.trellis import entries, messages, one_step, tables_of
from pyro_constrained.kernels.fiber.trellis_marginals import reduced_by_value

__all__ = ["DealtTrellis"]


class DealtTrellis(PoissonTrellis):
    """Poisson variables whose rows overlap, some of these dealt out unit by unit."""

    def _weigh(self, trellis: Trellis, total: Tensor, log_total: Tensor) -> Tensor:
        """Log weights of the values of columns, and log shares of the columns of a deal."""
        self._total, size = total, int(trellis.num_values.max())
        shares = []
        for deal in trellis.deals:
            share = safe_log(total[..., deal.columns]) - safe_log(self._row_rate(deal))[..., None]
            share = pad(share, (0, 1))  # a row that is spent passes
            shares.append(pad(share, (0, size - share.shape[-1]), value=-torch.inf))
        return _by_stage(trellis, self.mass.table(total, log_total, size), shares)

    def _edges(self, trellis: Trellis, total: Tensor) -> Tensor:
        """As ``_weigh``: a share of zero is a rate of zero over that of the row."""
        self._total, shares = total, []
        table = super()._edges(trellis, total)
        for deal in trellis.deals:
            rate, whole = total[..., deal.columns], self._row_rate(deal)[..., None]
            share = ratio(rate.masked_fill(rate != 0, 0.0), whole)
            shares.append(pad(share, (0, table.shape[-1] - share.shape[-1])))
        return _by_stage(trellis, table, shares)

    def _row_rate(self, deal: Deal) -> Tensor:
        """``(*batch,)`` sum of the rates of a row that is dealt out."""
        return self._total[..., deal.columns].sum(-1)

    def log_weight_sum(self) -> Tensor:
        # Shares leave out how many units the row has: Poisson, of the sum of its rates.
        found = super().log_weight_sum()
        for deal in self.trellis.deals:
            place = int((self.trellis.rows == deal.row).argmax())
            units, rate = self._k[..., place] / deal.unit, self._row_rate(deal)
            found = found + self.mass.log_mass(units, safe_log(rate), rate)
        return found

    def _draw_columns(self, sample_shape: tuple[int, ...]) -> Tensor:
        stages, trellis = super()._draw_columns(sample_shape), self.trellis
        columns = stages[..., trellis.stages.clip(0)]
        for deal in trellis.deals:
            units = stages[..., deal.start : deal.stop]
            for place, column in enumerate(deal.columns):
                columns[..., column] = (units == place).sum(-1).to(columns.dtype)
        return columns

    @lazy_property
    def _counted(self) -> tuple[Tensor, Tensor]:
        """``(q U,)`` to which column the values of the stages count, and how much."""
        trellis, num_values = self.trellis, self.theta.shape[-1]
        column = np.zeros((trellis.num_columns, num_values), dtype=np.int64)
        amount = np.zeros(column.shape)
        plain = trellis.stages >= 0
        column[trellis.stages[plain]] = np.flatnonzero(plain)[:, None]
        amount[trellis.stages[plain]] = np.arange(num_values)
        for deal in trellis.deals:
            part = slice(deal.start, deal.stop), slice(len(deal.columns))
            column[part], amount[part] = deal.columns, 1
        index = torch.as_tensor(column.ravel(), device=self.theta.device)
        return index, torch.from_numpy(amount.ravel()).to(self.theta)

    def _means(self, stages: Tensor) -> Tensor:
        """``(*batch, c)`` means of the columns from probabilities ``(*batch, q, U)`` of stages."""
        column, amount = self._counted
        columns = Groups(column, len(self.trellis.coefficients))
        return columns.totals(stages.flatten(-2) * amount)

    @property
    def _column_mean(self) -> Tensor:
        known, _ = without_nan(self._stages)
        return self._means(known)

    @property
    def _missing(self) -> Tensor:
        missing = self._stages.isnan().any(-1).any(-1, keepdim=True)
        return expanded(missing, missing.shape[:-1] + (len(self.variables),))

    @lazy_property
    def _log_marginals(self) -> Tensor:
        return _log_marginals(self.trellis, self.theta, self.start)

    def _column_log_marginals(self) -> Tensor:
        return self._log_marginals

    @lazy_property
    def _marginals(self) -> Tensor:
        return self._log_marginals.exp()

    @property
    def _possible(self) -> Tensor:
        return self._log_marginals > -torch.inf

    @property
    def _column_covariance(self) -> Tensor:
        """Derivatives of the means in the logarithms of the rates."""
        column, amount = self._counted

        def means(t: Tensor) -> Tensor:
            moved = theta + (t[..., column] * amount).unflatten(-1, theta.shape[-2:])
            return self._means(trellis_sums.marginals(self.trellis, moved, self.start))

        with outside_inference():
            theta = self.theta if is_differentiated(self.theta) else self.theta.clone()
            rows = jacobian_rows(means, torch.zeros_like(self._column_mean), theta)
        return settled(torch.stack(rows, -2), variance_of(self._marginals))


def _by_stage(trellis: Trellis, columns: Tensor, shares: list[Tensor]) -> Tensor:
    """``(*batch, q, U)`` from those of the columns ``(*batch, c, U)`` and of the deals."""
    order = trellis.stages.argsort(kind="stable")[(trellis.stages < 0).sum() :]
    rows = [columns[..., int(place), :] for place in order]
    for deal, share in zip(trellis.deals, shares, strict=True):
        rows[deal.start : deal.start] = [share] * (deal.stop - deal.start)
    return torch.stack(rows, -2)


@outside_graphs
def _log_marginals(trellis: Trellis, theta: Tensor, start: Tensor) -> Tensor:
    """``(*batch, c, U)`` log probability of every value of every column; NaN where there is no
    point."""
    batch_shape = broadcast_shapes(theta.shape[:-2], start.shape)
    weights = expanded(theta, batch_shape + theta.shape[-2:]).unbind(-2)
    first, *later = messages(trellis, torch.stack(weights, -2))
    before = torch.full_like(first, -torch.inf)
    before = before.scatter(-1, expanded(start, batch_shape)[..., None], 0.0)
    tables, back = (tables_of(trellis, theta.device, is_back) for is_back in (False, True))
    size, stage = 1 + int(trellis.largest.max()), 0
    rows: list[Tensor] = [before] * len(trellis.coefficients)
    plain = {int(at): place for place, at in enumerate(trellis.stages) if at >= 0}
    deals = {deal.start: deal for deal in trellis.deals}
    for stage in range(trellis.num_columns):
        if stage in plain:
            terms = before[..., :-1, None] + entries(later[stage], tables[stage][0])
            found = reduced_by_value(terms, tables[stage], weights[stage].shape[-1], log_sum_exp)
            found = (found + weights[stage])[..., :size]
            rows[plain[stage]] = pad(found, (0, size - found.shape[-1]), value=-torch.inf)
        elif stage in deals:
            deal = deals[stage]
            for place, column in enumerate(deal.columns):
                rows[column] = _dealt(trellis, deal, place, before, weights[stage], later, size)
        before = one_step(before, back[stage], weights[stage], log_sum_exp)
    found = torch.stack(rows, -2)
    return found - log_sum_exp(found)[..., None]


def _dealt(
    trellis: Trellis,
    deal: Deal,
    place: int,
    before: Tensor,
    share: Tensor,
    later: list[Tensor],
    size: int,
) -> Tensor:
    """``(*batch, U)`` log probability, up to a constant, of how many units fall on one cell.

    Args:
        deal: the row.
        place: of the cell in it.
        before: ``(*batch, S + 1)`` log sums over the ways to the states where the row begins.
        share: ``(*batch, U)`` log shares of the cells.
        later: V of all stages but the first.
        size: U of the answer.
    """
    tables, device = tables_of(trellis, before.device), before.device
    is_own = torch.arange(share.shape[-1], device=device) == place
    others = share.masked_fill(is_own, -torch.inf)
    rest = [later[deal.stop - 1]]
    for stage in reversed(range(deal.start, deal.stop)):
        rest.append(one_step(rest[-1], tables[stage], others, log_sum_exp))
    units = torch.from_numpy(trellis.units(deal)).to(before)
    state = torch.arange(before.shape[-1], device=device)
    terms = []
    for value, left in enumerate(rest[::-1][:size]):
        # Ordered choices of the units; the order does not count, by counts! below.
        ways = torch.lgamma(units + 1) - torch.lgamma((units - value).clamp(min=0) + 1)
        ways = ways.masked_fill(units < value, -torch.inf)
        terms.append(log_sum_exp(before + ways + left[..., state]))
        if value < deal.stop - deal.start:
            after = trellis.after(deal.start + value, place)
            state = torch.as_tensor(after, device=device)[state]
    counts = torch.arange(len(terms), device=device).to(before)
    found = (
        torch.stack(terms, -1) - torch.lgamma(counts + 1) + times(counts, share[..., place, None])
    )
    return pad(found, (0, size - len(terms)), value=-torch.inf)
