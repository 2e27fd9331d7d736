"""Groups of Bernoulli variables, with derivatives in probabilities of exactly 0 and 1.

Let e be the weight of the value that a member of a group cannot have. The probability that the
group has the sum c is then ``(1 - e) Z(c) + e Z(c - 1)`` if the member is never one, and
``(1 - e) Z(c) + e Z(c + 1)`` if it always is, with Z of e = 0: the others have one less to bring,
or one more. All figures here are those of e = 0, with first derivatives in e.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.disjoint_groups import DisjointGroups
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.fiber.group_sums import group_totals, spread
from pyro_constrained.kernels.fiber.parts.bernoulli_groups import BernoulliGroups

__all__ = ["BernoulliEdges"]


class BernoulliEdges(BernoulliGroups):
    """Bernoulli variables whose sums are given, some of them certain.

    Args:
        edge: ``(*batch, p, 2)`` probabilities of 0 and 1 that are zero, as zeros with a derivative.
    """

    def __init__(
        self, groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int, edge: Tensor
    ) -> None:
        super().__init__(groups, logits, counts, capacity)
        self._edge = edge
        # Those who are always one leave one more to the others, who are never one take one.
        ndim = max(logits.ndim, counts.ndim)
        steps = counts.new_tensor([1, -1]).reshape((2,) + (1,) * ndim)
        self._others = BernoulliGroups(groups, logits, counts + steps, capacity + 1)
        edge = edge.movedim(-1, 0)
        self._edges = edge.reshape((2,) + (1,) * (ndim + 1 - edge.ndim) + edge.shape[1:])

    @lazy_property
    def _ratios(self) -> Tensor:
        """``(2, *batch, g)`` Z(c + 1) / Z(c) and Z(c - 1) / Z(c); 0 where the sum cannot be."""
        is_possible = self.log_partitions.isfinite()
        here = self.log_partitions.masked_fill(~is_possible, 0.0)
        largest = math.log(torch.finfo(here.dtype).max) / 2
        gap = self._others.log_partitions - here
        return gap.clamp(max=largest).exp().masked_fill(~is_possible, 0.0)

    def log_partition(self) -> Tensor:
        return super().log_partition() + self._growth

    def log_weight_sum(self) -> Tensor:
        return super().log_weight_sum() + self._growth

    @lazy_property
    def _growth(self) -> Tensor:
        """``(*batch,)`` of the log probability of the sums, as zeros with a derivative."""
        return (self._edges * (spread(self.groups, self._ratios) - 1)).sum(-1).sum(0)

    @lazy_property
    def _change(self) -> Tensor:
        """``(*batch, p, 2)`` of the probabilities, as zeros with a derivative."""
        # Of the member itself, and of the others, who have more or less to bring.
        own = self._edges * spread(self.groups, self._ratios)
        moved = spread(self.groups, group_totals(self.groups, self._edges) * self._ratios)
        swing = self._others.probabilities[..., 1] - self._marginals()[..., 1]
        change = own[1] - own[0] + (moved * swing.nan_to_num(0.0)).sum(0)
        return torch.stack([-change, change], -1)

    @lazy_property
    def probabilities(self) -> Tensor:
        return self._marginals() + self._change

    def _tilted(self, logits: Tensor, t: Tensor) -> BernoulliGroups:
        edge = self._edge * torch.stack([-t, t], -1).exp()
        return BernoulliEdges(self.groups, logits, self.counts, self.capacity, edge)

    def log_marginals(self, num_values: int) -> Tensor:
        table, plain = super().log_marginals(num_values), self._marginals()
        # As a factor, not as a quotient, whose slope has a square that may be below all numbers.
        is_absent = ~(plain > torch.finfo(plain.dtype).tiny)
        unit = (-table[..., :2].masked_fill(is_absent, 0.0)).exp()
        change = (self._change * unit).masked_fill(is_absent, 0.0)
        return table + pad(change, (0, num_values - 2))
