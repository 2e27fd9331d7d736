"""Bernoulli variables whose sums are given: exactly k of each group.

The law of a sum is the product of the polynomials 1 - p_i + p_i z, formed by a balanced tree; a
draw goes down the same tree.

The product is formed after an exponential tilt, l_i + lambda, that makes the expected sum the
given one. Then its coefficient there is the largest (Darroch 1964), at least 1 / (L + 1), so that
linear space is safe in single precision too. Whatever lambda is, the answer and all its
derivatives are exact functions: it is a constant, found to a tenth of a unit.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from constrained_core.fiber.disjoint_groups import DisjointGroups
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.derivatives import outside_inference, slope_of
from pyro_constrained.kernels.arrays.errors import require_possible
from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_polynomials import log_terms
from pyro_constrained.kernels.arrays.log_space import (
    log_sum_exp,
    safe_log,
    strictly_inside,
)
from pyro_constrained.kernels.arrays.polynomials import convolve
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.arrays.value_tables import padded
from pyro_constrained.kernels.fiber.bernoulli_tilt import expected_tilt
from pyro_constrained.kernels.fiber.covariance import derivative_of_means, settled
from pyro_constrained.kernels.fiber.group_sums import by_group, in_order, spread
from pyro_constrained.kernels.fiber.parts.part import FinitePart

__all__ = ["BernoulliGroups"]


class BernoulliGroups(FinitePart):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``; -inf and inf are probabilities 0 and 1.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(
        self, groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int
    ) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, counts, capacity

    @lazy_property
    def _sums(self) -> "_Sums":
        # Constants, which serve answers with a derivative too: those of inference mode cannot.
        with torch.inference_mode(False):
            return _Sums.of(self.groups, self.logits.detach(), self.counts, self.capacity)

    @lazy_property
    def log_partitions(self) -> Tensor:
        """``(*batch, g)`` log probability of the sum of every group."""
        return self._log_partitions()

    @outside_graphs
    def _log_partitions(self) -> Tensor:
        sums = self._sums
        logits = sums.reduced(self.logits)
        # Over the likelier value of each member: log(1 + e^l) of logits as -1e9, by which users
        # mask, would leave no digits.
        normaliser = (logsigmoid(sums.signed(logits)) - sums.log_likelier).sum(-1)
        log_coefficient = sums.log_coefficient(sums.leaves(logits))
        surplus = sums.is_likely.sum(-1) - sums.counts
        return log_coefficient + normaliser + sums.tilt * surplus

    def log_partition(self) -> Tensor:
        return self.log_partitions.sum(-1)

    @outside_graphs
    def log_weight_sum(self) -> Tensor:
        # Of tilted odds, by which values are scored: what cancels is no larger than an entropy.
        sums = self._sums
        logits = sums.reduced(self.logits)
        tilted = sums.signed(logits + sums.tilt[..., None])
        normaliser = (logsigmoid(tilted) - sums.log_likelier).sum(-1)  # zero, with a derivative
        return (sums.log_coefficient(sums.leaves(logits)) + normaliser).sum(-1)

    @property
    def shift(self) -> Tensor:
        """``(*batch, p)`` constants that tilt the log odds."""
        return self._shift()

    @outside_graphs
    def _shift(self) -> Tensor:
        tilt = self._sums.tilt
        shift = spread(self.groups, torch.where(self._sums.flipped, -tilt, tilt))
        return shift.expand(shift.shape[:-1] + self.variables.shape)

    @outside_graphs
    @torch.no_grad()
    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        sums, logits = self._sums, self._sums.reduced(self.logits.detach())
        shape, size = torch.Size(sample_shape) + sums.counts.shape, logits.shape[-1]
        levels = sums.levels(sums.leaves(logits))
        require_possible(sums.coefficient(levels[-1]) > 0)
        num_samples = math.prod(sample_shape)
        drawn = sums.counts.long().expand(shape).reshape(num_samples, 1, sums.counts.numel())
        for level in reversed(levels):
            drawn = _split(level, drawn[:, : level.shape[1] // 2])
        drawn = drawn[:, :size].movedim(1, -1).reshape(shape + (size,))
        drawn = torch.where(sums.flipped[..., None], 1 - drawn, drawn)
        drawn = torch.where(sums.active, drawn, sums.forced).to(logits.dtype)
        return in_order(self.groups, drawn)

    @lazy_property
    def probabilities(self) -> Tensor:
        return self._marginals()

    @outside_graphs
    def _marginals(self) -> Tensor:
        """``(*batch, p, 2)`` probability of 0 and 1 given the sums, differentiable again.

        It is strictly inside of (0, 1) where a member can be either; NaN where the sum cannot be.
        """
        sums = self._sums
        with outside_inference():
            leaves = sums.leaves(sums.reduced(self.logits))
            slope = slope_of(sums.log_coefficient, leaves)
        # The coefficient is linear in the two weights of a leaf: its terms are weight times slope.
        sides = (leaves * slope).mT.reshape((2,) + sums.active.shape)
        total = sides.sum(0)  # one, but for rounding
        sides = strictly_inside(sides / total.masked_fill(total == 0, 1.0), sums.undecided)
        decided = torch.stack([~sums.forced, sums.forced]).to(sides.dtype)
        return in_order(self.groups, sums.by_value(sides, decided)).movedim(0, -1)

    @property
    def covariance(self) -> Tensor:
        def tables(logits: Tensor, t: Tensor) -> Tensor:
            return self._tilted(logits + t, t).probabilities

        # One member of every group at a time: groups do not depend on each other.
        index, members = self.groups.index, self.groups.members
        slot = np.nonzero(members < len(index))[1][np.argsort(members[members < len(index)])]
        directions = torch.from_numpy(slot == np.arange(members.shape[1])[:, None]).to(self.logits)
        size = self.probabilities.numel() * (1 + self.capacity)
        found = derivative_of_means(tables, self.logits, directions, size)
        found = found.index_select(-1, torch.as_tensor(slot, device=found.device))
        is_other = torch.as_tensor(index != index[:, None], device=found.device)
        return settled(found.masked_fill(is_other, 0.0), self.variance)

    def _tilted(self, logits: Tensor, _: Tensor) -> "BernoulliGroups":
        """The same of other logits, of which t has been added."""
        return BernoulliGroups(self.groups, logits, self.counts, self.capacity)

    @outside_graphs
    def log_marginals(self, num_values: int) -> Tensor:
        sums = self._sums
        tilted = (sums.reduced(self.logits) + sums.tilt[..., None]).flatten(0, -2).mT
        leaves = torch.stack([logsigmoid(-tilted), logsigmoid(tilted)])
        terms = log_terms(leaves, sums.counts.reshape(-1), sums.capacity + 1)
        sides = (terms - log_sum_exp(terms, 0)).mT.reshape((2,) + sums.active.shape)
        decided = safe_log(torch.stack([~sums.forced, sums.forced]).to(sides.dtype))
        table = in_order(self.groups, sums.by_value(sides, decided)).movedim(0, -1)
        return padded(table, num_values)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of Bernoullis, reduced to finite logits and at most half of the members: what of them
    is constant, found once.

    Attributes:
        groups: the plan.
        counts: ``(*batch, g)`` what the others must sum to.
        active: ``(*batch, g, L)`` members that are there and undecided.
        forced: ``(*batch, g, L)`` members of probability 1.
        flipped: ``(*batch, g)`` whether zeros are counted, of which there are fewer.
        tilt: ``(*batch, g)`` lambda.
        is_likely: ``(*batch, g, L)`` whether logit + tilt is positive.
        log_likelier: ``(*batch, g, L)`` log probability of the likelier value, tilted.
        capacity: no count is larger.
    """

    groups: DisjointGroups
    counts: Tensor
    active: Tensor
    forced: Tensor
    flipped: Tensor
    tilt: Tensor
    is_likely: Tensor
    log_likelier: Tensor
    capacity: int

    @classmethod
    def of(cls, groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int) -> "_Sums":
        given = by_group(groups, logits, -torch.inf)
        shape = broadcast_shapes(given.shape[:-1], counts.shape)
        given, counts = expanded(given, shape + given.shape[-1:]), expanded(counts, shape)
        forced, active = given == torch.inf, given.isfinite()
        counts, size = counts - forced.sum(-1), active.sum(-1)
        # The polynomials need no more terms than there are ones, or zeros if these are fewer.
        flipped = 2 * counts > size
        counts = torch.where(flipped, size - counts, counts)
        reduced = _reduced(given, active, flipped)
        tilt = expected_tilt(reduced, active, counts)
        tilted = reduced + tilt[..., None]
        likely = tilted > 0, logsigmoid(tilted.abs())
        return cls(groups, counts, active, forced, flipped, tilt, *likely, capacity)

    def reduced(self, logits: Tensor) -> Tensor:
        """``(*batch, p)`` to ``(*batch, g, L)``: of what is counted; -inf where a member is absent
        or decided."""
        given = by_group(self.groups, logits, -torch.inf)
        return _reduced(expanded(given, self.active.shape), self.active, self.flipped)

    @property
    def possible(self) -> Tensor:
        """``(*batch, g)`` whether the sum can be: open members are not too few or too many."""
        return (self.counts >= 0) & (self.counts <= self.active.sum(-1))

    @property
    def undecided(self) -> Tensor:
        """``(*batch, g, L)`` members that are open and can be 0 as well as 1."""
        is_free = (self.counts > 0) & (self.counts < self.active.sum(-1))
        return self.active & is_free[..., None]

    def signed(self, logits: Tensor) -> Tensor:
        """Log odds of the likelier value of each member, of those of 1."""
        return logits.where(self.is_likely, -logits)

    def by_value(self, sides: Tensor, decided: Tensor) -> Tensor:
        """``(2, *batch, g, L)`` figures of what is not and what is counted to those of 0 and 1,
        which decided members have given; NaN where the sum cannot be."""
        sides = torch.where(self.flipped[..., None], sides.flip(0), sides)
        sides = torch.where(self.active, sides, decided)
        return sides.masked_fill(~self.possible[..., None], torch.nan)

    def leaves(self, reduced: Tensor) -> Tensor:
        """``(2, L, N)`` tilted weights of 0 and 1 of every member."""
        other = (self.log_likelier - self.signed(reduced + self.tilt[..., None])).exp()
        likelier = self.log_likelier.exp()
        zero, one = other.where(self.is_likely, likelier), likelier.where(self.is_likely, other)
        leaves = torch.stack([zero, one])
        return leaves.reshape(2, self.counts.numel(), reduced.shape[-1]).mT

    def levels(self, leaves: Tensor) -> list[Tensor]:
        """Polynomials ``(D, P, N)`` of the nodes, from the leaves to the pair below the root."""
        levels = [_paired(leaves.contiguous())]
        while levels[-1].shape[1] > 2:
            left, right = levels[-1].chunk(2, 1)
            # No more ones than the capacity are ever asked for.
            degree = min(2 * len(left) - 2, max(self.capacity, 1))
            levels.append(_paired(convolve(left, right, degree + 1)))
        return levels

    def coefficient(self, top: Tensor) -> Tensor:
        """``(*batch, g)`` the coefficient of the product of the last pair at the given sum."""
        counts = self.counts.long().reshape(1, -1)
        return _pair_terms(top, counts).sum(0).reshape(self.counts.shape)

    def log_coefficient(self, leaves: Tensor) -> Tensor:
        """``(*batch, g)`` its logarithm."""
        return safe_log(self.coefficient(self.levels(leaves)[-1]))


def _reduced(given: Tensor, active: Tensor, flipped: Tensor) -> Tensor:
    """Log odds of 0 where zeros are counted; -inf beside the active members."""
    return torch.where(flipped[..., None], -given, given).masked_fill(~active, -torch.inf)


def _split(level: Tensor, counts: Tensor) -> Tensor:
    """Counts ``(samples, P, N)`` of all nodes from those ``(samples, P / 2, N)`` of their pairs."""
    left = choose(_pair_terms(level, counts))
    return torch.cat([left, counts - left], 1)


def _pair_terms(level: Tensor, counts: Tensor) -> Tensor:
    """``(D, *samples, P / 2, N)``: left coefficient d times right coefficient count - d."""
    left, right = level.chunk(2, 1)
    shape = (len(level),) + (1,) * counts.ndim
    rest = counts - torch.arange(len(level), device=level.device).view(shape)
    lift = (len(level),) + (1,) * (counts.ndim - 2) + left.shape[1:]
    right = right.reshape(lift).expand(rest.shape)
    found = right.gather(0, rest.clamp(0, len(level) - 1)) * left.reshape(lift)
    return found.masked_fill((rest < 0) | (rest >= len(level)), 0.0)


def _paired(level: Tensor) -> Tensor:
    """With a node that is always zero, the polynomial 1, where the number of nodes is odd."""
    if level.shape[1] % 2 == 0:
        return level
    one = torch.zeros_like(level[:, :1])
    one[0] = 1.0
    return torch.cat([level, one], 1)
