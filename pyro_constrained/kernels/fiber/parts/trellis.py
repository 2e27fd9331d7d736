"""Variables whose rows overlap, by the dynamic programme over the columns."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import (
    expected,
    is_there,
    log_sum_exp,
    ratio,
    safe_log,
    without_nan,
)
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.value_tables import (
    exact_zeros,
    mean_of,
    padded,
    values_of,
    variance_of,
)
from pyro_constrained.kernels.fiber import trellis as trellis_sums
from pyro_constrained.kernels.fiber import trellis_edges, trellis_marginals
from pyro_constrained.kernels.fiber.covariance import derivative_of_means, settled
from pyro_constrained.kernels.fiber.group_sums import (
    draw_members,
    group_totals,
    member_totals,
    other_totals,
)
from pyro_constrained.kernels.fiber.parts.part import FinitePart, RatePart
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

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
        self, trellis: Trellis, theta: Tensor, start: Tensor, edge: Tensor | None = None
    ) -> None:
        self.variables, self.trellis = trellis.variables, trellis
        self.theta, self.start, self.edge = theta, start, edge

    def _of_variables(self, figures: Tensor, dim: int = -2) -> Tensor:
        column = plan_tensor(self.trellis, "column", self.theta, torch.int64)
        return figures.index_select(dim, column)

    def log_partition(self) -> Tensor:
        return self.log_weight_sum()

    def log_weight_sum(self) -> Tensor:
        if self.edge is None:
            return trellis_sums.log_partition(self.trellis, self.theta, self.start)
        return trellis_edges.log_partition(self.trellis, self.theta, self.edge, self.start)

    @lazy_property
    def _stages(self) -> Tensor:
        """``(*batch, q, U)`` probabilities of the values of the stages."""
        return self._stages_of(self.theta, self.edge)

    def _stages_of(self, theta: Tensor, edge: Tensor | None) -> Tensor:
        if edge is None:
            return trellis_sums.marginals(self.trellis, theta, self.start)
        return trellis_edges.marginals(self.trellis, theta, edge, self.start)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return self._of_variables(self._draw_columns(sample_shape), -1)

    def _draw_columns(self, sample_shape: tuple[int, ...]) -> Tensor:
        theta = self.theta.detach()
        return trellis_sums.draw(self.trellis, theta, self.start, sample_shape).to(theta.dtype)

    @property
    def _marginals(self) -> Tensor:
        """``(*batch, q, U)`` of the columns."""
        return self._stages

    @lazy_property
    def _possible(self) -> Tensor:
        """``(*batch, q, U)`` whether a column can have a value."""
        return trellis_marginals.possible_values(self.trellis, self.theta, self.start)

    def _may_underflow(self) -> bool:
        """Whether a point may have a probability below the least number of the dtype."""
        least = self.theta.masked_fill(self.theta == -torch.inf, torch.inf).amin(-1)
        # At most so much larger is the log of the sum of all paths than that of the lightest.
        reach = (self.theta.amax(-1) - least).sum(-1) + np.log(self.trellis.num_values).sum()
        return is_there(~(reach < -np.log(torch.finfo(reach.dtype).tiny)))

    @lazy_property
    def _exact(self) -> Tensor:
        """``_marginals`` with zeros exactly where a value is impossible."""
        found = self._marginals
        if not is_there(~((found > 0) & (found < 1))):
            return found
        return exact_zeros(found, self._possible if self._may_underflow() else found > 0)

    @property
    def probabilities(self) -> Tensor:
        return self._of_variables(self._exact)

    @property
    def _column_mean(self) -> Tensor:
        """``(*batch, q)`` of the columns."""
        return mean_of(self._marginals)

    def _column_log_marginals(self) -> Tensor:
        """``(*batch, q, U)`` of the columns."""
        found = trellis_marginals.log_marginals(self.trellis, self.theta, self.start)
        if self.edge is None:
            return found
        return found + trellis_edges.log_change(self.trellis, self.theta, self.edge, self.start)

    @property
    def mean(self) -> Tensor:
        return self._of_variables(self._column_mean, -1)

    @property
    def variance(self) -> Tensor:
        return self._of_variables(variance_of(self._marginals), -1)

    @property
    def covariance(self) -> Tensor:
        return self._of_variables(self._of_variables(self._column_covariance), -1)

    @property
    def _column_covariance(self) -> Tensor:
        """``(*batch, q, q)`` of the values of the columns."""

        def tables(theta: Tensor, t: Tensor) -> Tensor:
            added = t[..., None] * values_of(theta.shape[-1], theta)
            edge = None if self.edge is None else self.edge * added.exp()
            return self._stages_of(theta + added, edge)

        variance = variance_of(self._marginals)
        directions = torch.eye(self.trellis.num_columns, device=variance.device).to(variance)
        size = self.trellis.num_transitions * variance[..., 0].numel()
        return settled(derivative_of_means(tables, self.theta, directions, size), variance)

    def log_marginals(self, num_values: int) -> Tensor:
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

    def __init__(self, trellis: Trellis, rate: Tensor, start: Tensor, mass: PoissonMass) -> None:
        self.rate, self._columns, self.mass = rate, trellis.columns, mass
        self._k = plan_tensor(trellis, "starts", rate)[start]
        total = group_totals(self._columns, rate)
        log_total = safe_log(total)
        coefficients = plan_tensor(trellis, "coefficients", rate)
        self._tilt = mass.tilt(total, coefficients, self._k)
        if self._tilt is not None:
            self._exponent = self._tilt @ coefficients.mT
            total, log_total = total * self._exponent.exp(), log_total + self._exponent
        is_zero = is_differentiated(rate) and is_there(total == 0)
        edge = self._edges(trellis, total) if is_zero else None
        super().__init__(trellis, self._weigh(trellis, total, log_total), start, edge)

    def _edges(self, trellis: Trellis, total: Tensor) -> Tensor:
        """``(*batch, q, U)`` weights where these are zero."""
        return self.mass.edges(total, int(trellis.num_values.max()))

    def _weigh(self, trellis: Trellis, total: Tensor, log_total: Tensor) -> Tensor:
        """``(*batch, q, U)`` log weights of the columns, of means ``(*batch, c)``."""
        return self.mass.table(total, log_total, int(trellis.num_values.max()))

    @property
    def weight(self) -> Tensor:
        if self._tilt is None:
            return self.rate
        return self.rate * self._of_variables(self._exponent, -1).exp()

    @property
    def log_weight(self) -> Tensor:
        plain = super().log_weight
        return plain if self._tilt is None else plain + self._of_variables(self._exponent, -1)

    @property
    def is_positive(self) -> Tensor:
        found = (self.rate > 0) & (self.mean > 0)
        if not is_there((self.rate > 0) & (self.mean <= 0)) or not self._may_underflow():
            return found
        return (self.rate > 0) & self._of_variables(self._possible[..., 1:].any(-1), -1)

    def log_partition(self) -> Tensor:
        if self._tilt is None:
            return self.log_weight_sum() - self.rate.sum(-1)
        # Masses of the weights are those of the rates times exp(tilt' k - sum(weight - rate)).
        added = self.rate * self._of_variables(self._exponent, -1).expm1()
        return self.log_weight_sum() - (self._tilt * self._k).sum(-1) + added.sum(-1)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        columns = self._draw_columns(sample_shape)
        if not self._is_merged:
            return self._of_variables(columns, -1)
        largest = int(self.trellis.largest.max())
        return draw_members(self._columns, self.rate.detach(), columns, (), largest)

    @property
    def _is_merged(self) -> bool:
        return len(self.trellis.coefficients) < len(self.variables)

    @lazy_property
    def _part(self) -> Tensor:
        """Rates as parts of those of columns; 1 for a variable that has one to itself: all of it
        is its own, also of a rate of zero, whose derivative the column has."""
        is_alone = plan_tensor(self.trellis, "is_alone", self.rate, torch.bool)
        return self.rate.masked_fill(is_alone, 1.0)

    @lazy_property
    def _whole(self) -> Tensor:
        """Those of the columns, for each of their variables."""
        return member_totals(self._columns, self._part)

    @property
    def _share(self) -> Tensor:
        return ratio(self._part, self._whole)

    @property
    def _others(self) -> Tensor:
        """Those of the other variables of a column."""
        return other_totals(self._columns, self._part)

    def _of_totals(self, figure: Callable[[Tensor], Tensor]) -> Tensor:
        """``(*batch, p)`` a figure of the total of the column of every variable; of zeros where
        there is no point."""
        return self._of_variables(figure(self._known[0]), -1)

    @lazy_property
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
            # Binomial given the total of the column, which is random.
            rest = ratio(self._others, self._whole)
            within = self._share * rest * self._of_totals(mean_of)
            variance = within + self._share.square() * variance
        return variance.masked_fill(self._missing, torch.nan)

    @property
    def covariance(self) -> Tensor:
        found, _ = without_nan(super().covariance)
        if self._is_merged:
            # Factorial moments: E[x_i x_j] is share_i share_j E[total (total - 1)] in one column.
            column = plan_tensor(self.trellis, "column", self.rate, torch.int64)
            mean = self._of_totals(mean_of)
            found = found - mean[..., None].masked_fill(column != column[:, None], 0.0)
            found = self._share[..., None] * self._share[..., None, :] * found
        return settled(found, self.variance)

    def _split(self, num_values: int) -> Tensor:
        """``(*batch, p, N, U)`` log probability of 0..U-1, given totals 0..N-1 of the column."""
        totals = values_of(self.theta.shape[-1], self.theta)[:, None]
        part, others, whole = self._part, self._others, self._whole
        rates = part[..., None, None], others[..., None, None], whole[..., None, None]
        return self.mass.split(totals, rates, num_values)

    def log_marginals(self, num_values: int) -> Tensor:
        if not self._is_merged:
            return super().log_marginals(num_values)
        found = self._of_variables(self._column_log_marginals())
        found, missing = without_nan(found)
        table = log_sum_exp(found[..., None] + self._split(num_values), axis=-2)
        return table.masked_fill(missing.any(-1, keepdim=True), torch.nan)

    def expected_log_mass(self, num_values: int) -> Tensor:
        known = self._of_variables(self._known[0])
        size = known.shape[-1]
        table = self.mass.table(self.weight, self.log_weight, size)
        if self._is_merged:  # of each total of the column
            table = expected(self._split(size).exp(), table[..., None, :]).sum(-1)
        return expected(known, table).sum(-1).masked_fill(self._missing, torch.nan)
