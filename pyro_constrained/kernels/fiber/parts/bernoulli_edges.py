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
        self._others = [
            BernoulliGroups(groups, logits, counts + step, capacity + 1) for step in (1, -1)
        ]

    def _ratios(self) -> list[Tensor]:
        """``(*batch, g)`` Z(c + 1) / Z(c) and Z(c - 1) / Z(c); 0 where the sum cannot be."""
        is_possible = self.log_partitions.isfinite()
        here = self.log_partitions.masked_fill(~is_possible, 0.0)
        largest = math.log(torch.finfo(here.dtype).max) / 2
        gaps = [other.log_partitions - here for other in self._others]
        return [gap.clamp(max=largest).exp().masked_fill(~is_possible, 0.0) for gap in gaps]

    def log_partition(self) -> Tensor:
        ratios = [spread(self.groups, ratio) for ratio in self._ratios()]
        changes = self._edge * (torch.stack(torch.broadcast_tensors(*ratios), -1) - 1)
        return super().log_partition() + changes.sum((-2, -1))

    @lazy_property
    def _change(self) -> Tensor:
        """``(*batch, p)`` of the probabilities of 1, as zeros with a derivative."""
        here, signs, changes = self._marginals()[..., 1], (-1, 1), []
        for edge, ratio, other, sign in zip(
            self._edge.unbind(-1), self._ratios(), self._others, signs, strict=True
        ):
            # Of the member itself, and of the others, who have more or less to bring.
            swing = (other.probabilities[..., 1] - here).nan_to_num(0.0)
            moved = spread(self.groups, group_totals(self.groups, edge) * ratio)
            changes.append(sign * edge * spread(self.groups, ratio) + moved * swing)
        return changes[0] + changes[1]

    @lazy_property
    def probabilities(self) -> Tensor:
        return self._marginals() + torch.stack([-self._change, self._change], -1)

    def _tilted(self, logits: Tensor, t: Tensor) -> BernoulliGroups:
        edge = self._edge * torch.stack([-t, t], -1).exp()
        return BernoulliEdges(self.groups, logits, self.counts, self.capacity, edge)

    def log_marginals(self, num_values: int) -> Tensor:
        table, plain = super().log_marginals(num_values), self._marginals()
        # As a factor, not as a quotient, whose slope has a square that may be below all numbers.
        is_absent = ~(plain > torch.finfo(plain.dtype).tiny)
        unit = (-table[..., :2].masked_fill(is_absent, 0.0)).exp()
        change = (torch.stack([-self._change, self._change], -1) * unit).masked_fill(is_absent, 0.0)
        return table + pad(change, (0, num_values - 2))
