"""First derivatives in rates of exactly 0, whose variables are no part of the plan.

As such rates r_i grow from zero, the law becomes a mixture: with a probability of
r_i P(A x = k - a_i) / P(A x = k), x_i is 1, and the other variables follow the law given what it
leaves of k.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.plan import FixedVariables
from pyro_constrained.kernels.arrays.groups import plan_groups
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import without_nan
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.parts.fixed import FixedCounts
from pyro_constrained.kernels.fiber.parts.part import PoissonPart

__all__ = ["GrowingCounts"]


class GrowingCounts(PoissonPart):
    """All variables in rows of A, where some have a rate of 0 of which a derivative is asked for.

    Values are those at zero; derivatives in these rates are right to first order.

    Args:
        fixed: the plan of those of rate 0.
        parts: of the other variables.
        grown: the same where one more is taken from k, ``(e, *batch)`` for each of the e columns.
        zero: those of rate 0.
        possible: ``(e, *batch)`` whether there is a point then.
    """

    def __init__(
        self,
        fixed: FixedVariables,
        parts: Sequence[PoissonPart],
        grown: Sequence[PoissonPart],
        zero: FixedCounts,
        possible: Tensor,
    ) -> None:
        self._fixed, self._parts, self._grown, self._zero = fixed, parts, grown, zero
        self._possible, self.mass = possible, zero.mass
        variables = np.concatenate([part.variables for part in (*parts, zero)])
        self._order = torch.as_tensor(np.argsort(variables), device=possible.device)
        self.variables = np.sort(variables)

    @lazy_property
    def _is_open(self) -> Tensor:
        """``(e, *batch)`` whether P(A x = k - a) and P(A x = k) are positive."""
        positive = (_sum_of(parts) > -torch.inf for parts in (self._parts, self._grown))
        at_zero, grown = positive
        return self._possible & at_zero & grown

    @lazy_property
    def _odds(self) -> Tensor:
        """``(e, *batch)`` their ratio."""
        change = _sum_of(self._grown) - _sum_of(self._parts)
        return change.masked_fill(~self._is_open, -torch.inf).exp()

    @property
    def _column(self) -> Tensor:
        """``(f,)`` which of the e columns a variable has."""
        return plan_tensor(self._fixed, "column", self._zero.weight, torch.int64)

    @lazy_property
    def _growth(self) -> Tensor:
        """``(e, *batch)`` probabilities of zero, with derivatives, that a variable is 1."""
        rate = self._zero.weight
        columns = plan_groups(self._fixed, "column", len(self._possible), rate)
        return columns.totals(rate).movedim(-1, 0) * self._odds

    @lazy_property
    def _zero_mean(self) -> Tensor:
        """``(*batch, f)`` means of the variables of rate 0."""
        return self._zero.weight * self._odds.index_select(0, self._column).movedim(0, -1)

    def _change(
        self,
        at_zero: Tensor,
        grown: Tensor,
        weigh: Callable[[Tensor], Tensor],
        more_dims: int = 0,
    ) -> Tensor:
        """``(*batch, ...)`` zeros, with the derivatives of an average that is changed by
        ``weigh(grown - at_zero)``, where ``grown`` is ``(e, *batch, ...)``.

        Args:
            more_dims: dimensions that ``weigh`` adds.
        """
        num_dims = grown.ndim - self._growth.ndim
        is_open = self._is_open[(...,) + (None,) * num_dims]
        change = weigh(torch.where(is_open, grown, at_zero) - at_zero)
        return (self._growth[(...,) + (None,) * (num_dims + more_dims)] * change).sum(0)

    def _averages(self, name: str) -> tuple[Tensor, Tensor]:
        """``(*batch, p)`` and ``(e, *batch, p)`` a figure of the other variables."""
        at_zero, grown = (
            _together([getattr(part, name) for part in parts])
            for parts in (self._parts, self._grown)
        )
        return at_zero, grown

    def _in_order(self, others: Tensor, zero: Tensor, dim: int = -1) -> Tensor:
        return _together([others, zero], dim).index_select(dim, self._order)

    def log_partition(self) -> Tensor:
        return _sum_of(self._parts) + self._zero.log_partition() + self._growth.sum(0)

    def log_weight_sum(self) -> Tensor:
        total = self._zero.log_weight_sum() + self._growth.sum(0)
        return sum((part.log_weight_sum() for part in self._parts), total)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        others = _together([part.draw(sample_shape) for part in self._parts])
        return self._in_order(others, self._zero.draw(sample_shape))

    @property
    def weight(self) -> Tensor:
        return self._in_order(_together([p.weight for p in self._parts]), self._zero.weight)

    @property
    def log_weight(self) -> Tensor:
        others = _together([part.log_weight for part in self._parts])
        return self._in_order(others, self._zero.log_weight)

    @property
    def has_tiny(self) -> bool:
        return True

    @property
    def is_positive(self) -> Tensor:
        others = _together([part.is_positive for part in self._parts])
        return self._in_order(others, self._zero.is_positive)

    @property
    def mean(self) -> Tensor:
        at_zero, grown = self._averages("mean")
        return self._in_order(at_zero + self._change(at_zero, grown, _same), self._zero_mean)

    @property
    def variance(self) -> Tensor:
        at_zero, grown = self._averages("variance")
        # Of a mixture: the mean of the variances and the variance of the means. Where a part is
        # rare, the latter is its probability times the squared distance of the two means.
        between = self._change(*self._averages("mean"), torch.square)
        others = at_zero + self._change(at_zero, grown, _same) + between
        return self._in_order(others, self._zero_mean)  # of 0 and 1: the mean, to first order

    @property
    def covariance(self) -> Tensor:
        at_zero, grown = (_blocks(parts) for parts in (self._parts, self._grown))
        mean, grown_mean = self._averages("mean")
        between = self._change(mean, grown_mean, lambda d: d[..., None] * d[..., None, :], 1)
        others = at_zero + self._change(at_zero, grown, _same) + between
        distance = torch.where(self._is_open[..., None], grown_mean, mean) - mean
        with_zero = self._zero_mean[..., None] * distance.index_select(0, self._column).movedim(
            0, -2
        )
        rows = _together([others, with_zero.mT]), _together([with_zero, self._own_covariance])
        found = torch.cat(rows, -2).index_select(-2, self._order).index_select(-1, self._order)
        return settled(found, self.variance)

    @property
    def _own_covariance(self) -> Tensor:
        return torch.diag_embed(self._zero_mean)

    def log_marginals(self, num_values: int) -> Tensor:
        at_zero, grown = (
            _together([part.log_marginals(num_values) for part in parts], -2)
            for parts in (self._parts, self._grown)
        )
        known, missing = without_nan(at_zero)
        is_finite = known > -torch.inf
        plain = known.masked_fill(~is_finite, 0.0)
        grown = torch.where(is_finite, without_nan(grown)[0], 0.0)
        change = self._change(plain, grown, torch.expm1).masked_fill(~is_finite, 0.0)
        others = (known + change).masked_fill(missing, torch.nan)
        zero = self._zero.log_marginals(num_values)
        is_first = torch.arange(num_values, device=zero.device) == 0
        zero = torch.where(is_first, zero - self._zero_mean[..., None], zero)
        return self._in_order(others, zero, -2)


def _same(change: Tensor) -> Tensor:
    return change


def _sum_of(parts: Sequence[PoissonPart]) -> Tensor:
    """``(*batch,)`` log probability of the constraint."""
    first, *others = (part.log_partition() for part in parts)
    return sum(others, first)


def _together(figures: list[Tensor], dim: int = -1) -> Tensor:
    """Figures of some variables, one after another along a dimension."""
    if len(figures) == 1:
        return figures[0]
    event_dim = -dim
    batch = broadcast_shapes(*(part.shape[: part.ndim - event_dim] for part in figures))
    return torch.cat([p.expand(batch + p.shape[p.ndim - event_dim :]) for p in figures], dim)


def _blocks(parts: Sequence[PoissonPart]) -> Tensor:
    """``(*batch, p, p)`` covariances of parts, which do not depend on each other."""
    blocks = [part.covariance for part in parts]
    sizes = [block.shape[-1] for block in blocks]
    ends = np.cumsum(sizes).tolist()
    rows = [
        pad(block, (end - size, ends[-1] - end, end - size, ends[-1] - end))
        for block, size, end in zip(blocks, sizes, ends, strict=True)
    ]
    return sum(rows[1:], rows[0])
