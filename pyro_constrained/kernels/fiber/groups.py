"""Groups of variables whose sums are given: closed forms for Poisson, a tree for Bernoulli.

Independent Poissons given their sum are multinomial. For Bernoullis the law of the sum is the
product of the polynomials 1 - p_i + p_i z, formed by a balanced tree; a draw goes down the same
tree.

The product is formed after an exponential tilt, l_i + lambda, that makes the expected sum the
given one. Then its coefficient there is the largest (Darroch 1964), at least 1 / (L + 1), so that
linear space is safe in single precision too. Whatever lambda is, the answer and all its
derivatives are exact functions: it is a constant, found to a tenth of a unit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from constrained_core.fiber.disjoint_groups import DisjointGroups
from pyro_constrained.kernels.arrays.errors import require_possible
from pyro_constrained.kernels.arrays.groups import Groups, plan_groups
from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.log_polynomials import log_terms
from pyro_constrained.kernels.arrays.log_space import log_sum_exp, power, safe_log, strictly_inside
from pyro_constrained.kernels.arrays.multinomial import multinomial_draw
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.polynomials import convolve
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.arrays.tracing import constant, quiet_under_trace

__all__ = [
    "bernoulli_draw",
    "bernoulli_log_marginals",
    "bernoulli_log_partition",
    "bernoulli_marginals",
    "group_totals",
    "member_totals",
    "other_totals",
    "poisson_draw",
    "poisson_log_prob",
    "spread",
]

TILT_STEPS = 100
TILT_TOLERANCE = 0.1


def poisson_log_prob(groups: DisjointGroups, rate: Tensor, counts: Tensor) -> Tensor:
    """Log probability of the sums of all groups under independent Poissons.

    Args:
        groups: the plan.
        rate: ``(*batch, p)`` rates of ``groups.variables``.
        counts: ``(*batch, g)`` the sums.

    Returns:
        ``(*batch,)`` the sum over groups of log Poisson(count; sum of rates).
    """
    total = group_totals(groups, rate)
    return (power(counts, total) - total - torch.lgamma(counts + 1)).sum(-1)


def member_totals(groups: DisjointGroups, rate: Tensor) -> Tensor:
    """``(*batch, p)``, or ``(*batch, 1)`` for one group: sums over the group of every member."""
    return spread(groups, group_totals(groups, rate))


def other_totals(groups: DisjointGroups, rate: Tensor) -> Tensor:
    """``(*batch, p)`` sums over the other members of the group, right to a few roundings.

    At most one member has more than half of a sum. What it leaves is added up; of the others
    there is so little to take away that no digits cancel.
    """
    total = member_totals(groups, rate)
    is_large = rate > total / 2
    small = member_totals(groups, rate.masked_fill(is_large, 0.0))
    return torch.where(is_large, small, total - rate)


def spread(groups: DisjointGroups, figures: Tensor) -> Tensor:
    """``(*batch, g)`` to ``(*batch, p)``, or to ``(*batch, 1)`` where there is one group."""
    return figures if groups.num_groups == 1 else _groups(groups, figures).members(figures)


def group_totals(groups: DisjointGroups, rate: Tensor) -> Tensor:
    """``(*batch, p)`` to ``(*batch, g)``: sums over the members of every group."""
    if groups.num_groups == 1:
        return rate.sum(-1, keepdim=True)
    return _groups(groups, rate).totals(rate)


@torch.compiler.disable
@torch.no_grad()
def poisson_draw(
    groups: DisjointGroups,
    rate: Tensor,
    counts: Tensor,
    sample_shape: tuple[int, ...] = (),
    largest: int | None = None,
) -> Tensor:
    """Multinomial draws of the members given the sums, ``(*sample_shape, *batch, p)``.

    Args:
        groups: the plan.
        rate: ``(*batch, p)``.
        counts: ``(*batch, g)`` the sums.
        sample_shape: shape of independent draws.
        largest: a bound of the sums, if there is one: small sums are drawn one by one.
    """
    rates = _by_group(groups, rate)
    require_possible((rates.sum(-1) > 0) | (counts == 0))
    drawn = multinomial_draw(rates, counts, math.prod(sample_shape), largest)
    return _in_order(groups, drawn.reshape(tuple(sample_shape) + drawn.shape[1:]))


def _by_group(groups: DisjointGroups, figures: Tensor) -> Tensor:
    """``(..., p)`` figures to ``(..., g, L)``, zeros beside the members of a short group."""
    if groups.num_groups == 1:
        return figures[..., None, :]
    layout = _members(groups, figures)
    found = pad(figures, (0, 1)).index_select(-1, layout.reshape(-1))
    return found.unflatten(-1, layout.shape)


def _in_order(groups: DisjointGroups, figures: Tensor) -> Tensor:
    """``(..., g, L)`` figures of the members to ``(..., p)``."""
    if groups.num_groups == 1:
        return figures[..., 0, :]
    layout, figures = _members(groups, figures).reshape(-1), figures.flatten(-2)
    found = figures.new_zeros(figures.shape[:-1] + (len(groups.index) + 1,))
    return found.index_copy(-1, layout, figures)[..., :-1]


@torch.compiler.disable
def bernoulli_log_partition(
    groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int
) -> Tensor:
    """Log probability of the sums of all groups under independent Bernoullis.

    Args:
        groups: the plan.
        logits: ``(*batch, p)`` of ``groups.variables``; -inf and inf are probabilities 0 and 1.
        counts: ``(*batch, g)`` the sums.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.

    Returns:
        ``(*batch,)``; -inf where it cannot be.
    """
    sums = _Sums.of(groups, logits, counts, capacity)
    # As log(1 + e^l) without the threshold of softplus, which costs nine digits.
    normaliser = (sums.log_scale + logsigmoid(-sums.logits)).sum(-1)
    return (sums.log_coefficient(sums.leaves()) + normaliser - sums.tilt * sums.counts).sum(-1)


@torch.compiler.disable  # differentiates, which a compiled graph cannot do twice
def bernoulli_marginals(
    groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int
) -> Tensor:
    """``(*batch, p, 2)`` probability of 0 and 1 given the sums, differentiable again.

    It is strictly inside of (0, 1) where a member can be either; NaN where the sum cannot be.
    """
    sums = _Sums.of(groups, logits, counts, capacity)
    is_differentiated = logits.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        leaves = sums.leaves()
        if not is_differentiated:
            leaves = leaves.detach().clone().requires_grad_()
        total = sums.log_coefficient(leaves).sum()
        (slope,) = torch.autograd.grad(total, leaves, create_graph=is_differentiated)
    sides = (leaves * slope).mT.reshape((2,) + sums.logits.shape)
    if not is_differentiated:
        sides = sides.detach()
    total = sides.sum(0)  # one, but for rounding
    sides = strictly_inside(sides / total.masked_fill(total == 0, 1.0), sums.undecided)
    return sums.by_value(groups, sides, sums.forced.to(sides.dtype), (~sums.forced).to(sides.dtype))


@torch.compiler.disable
def bernoulli_log_marginals(
    groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int
) -> Tensor:
    """Their logarithms, of however small ones."""
    sums = _Sums.of(groups, logits, counts, capacity)
    tilted = (sums.logits + sums.tilt[..., None]).reshape(-1, sums.logits.shape[-1]).mT
    leaves = torch.stack([logsigmoid(-tilted), logsigmoid(tilted)])
    terms = log_terms(leaves, sums.counts.reshape(-1), capacity + 1)
    sides = (terms - log_sum_exp(terms, 0)).mT.reshape((2,) + sums.logits.shape)
    one, zero = (safe_log(decided.to(sides.dtype)) for decided in (sums.forced, ~sums.forced))
    return sums.by_value(groups, sides, one, zero)


@torch.compiler.disable
@torch.no_grad()
def bernoulli_draw(
    groups: DisjointGroups,
    logits: Tensor,
    counts: Tensor,
    capacity: int,
    sample_shape: tuple[int, ...] = (),
) -> Tensor:
    """Exact draws given the sums, ``(*sample_shape, *batch, p)`` of zeros and ones."""
    sums, layout = _Sums.of(groups, logits, counts, capacity), _members(groups, logits)
    shape = torch.Size(sample_shape) + sums.counts.shape
    levels = sums.levels(sums.leaves())
    require_possible(sums.coefficient(levels[-1]) > 0)
    num_samples = math.prod(sample_shape)
    drawn = sums.counts.long().expand(shape).reshape(num_samples, 1, sums.counts.numel())
    for level in reversed(levels):
        drawn = _split(level, drawn[:, : level.shape[1] // 2])
    drawn = drawn[:, : layout.shape[-1]].movedim(1, -1).reshape(shape + layout.shape[-1:])
    drawn = torch.where(sums.flipped[..., None], 1 - drawn, drawn)
    drawn = torch.where(sums.active, drawn, sums.forced).to(logits.dtype)
    return _in_order(groups, drawn)


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


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of Bernoullis, reduced to finite logits and at most half of the members.

    Attributes:
        logits: ``(*batch, g, L)``; -inf where a member is absent or decided.
        counts: ``(*batch, g)`` what the others must sum to.
        active: ``(*batch, g, L)`` members that are there and undecided.
        forced: ``(*batch, g, L)`` members of probability 1.
        flipped: ``(*batch, g)`` whether zeros are counted, of which there are fewer.
        tilt: ``(*batch, g)`` lambda.
        log_scale: ``(*batch, g, L)`` log(1 + exp(logit + tilt)), a constant.
        capacity: no count is larger.
    """

    logits: Tensor
    counts: Tensor
    active: Tensor
    forced: Tensor
    flipped: Tensor
    tilt: Tensor
    log_scale: Tensor
    capacity: int

    @classmethod
    def of(cls, groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int) -> "_Sums":
        layout = _members(groups, logits)
        padded = pad(logits, (0, 1), value=-torch.inf)
        padded = Groups(layout.reshape(-1), padded.shape[-1]).members(padded)
        padded = padded.unflatten(-1, layout.shape)
        shape = broadcast_shapes(padded.shape[:-1], counts.shape)
        padded, counts = expanded(padded, shape + padded.shape[-1:]), expanded(counts, shape)
        forced, active = padded == torch.inf, padded.isfinite()
        counts, size = counts - forced.sum(-1), active.sum(-1)
        flipped = 2 * counts > size
        counts = torch.where(flipped, size - counts, counts)
        padded = torch.where(flipped[..., None], -padded, padded)
        padded = padded.masked_fill(~active, -torch.inf)
        tilt = _tilt(padded.detach(), active, counts)
        log_scale = -logsigmoid(-(padded.detach() + tilt[..., None]))
        return cls(padded, counts, active, forced, flipped, tilt, log_scale, capacity)

    @property
    def possible(self) -> Tensor:
        """``(*batch, g)`` whether the sum can be: open members are not too few or too many."""
        return (self.counts >= 0) & (self.counts <= self.active.sum(-1))

    @property
    def undecided(self) -> Tensor:
        """``(*batch, g, L)`` members that are open and can be 0 as well as 1."""
        is_free = (self.counts > 0) & (self.counts < self.active.sum(-1))
        return self.active & is_free[..., None]

    def by_value(self, groups: DisjointGroups, sides: Tensor, one: Tensor, zero: Tensor) -> Tensor:
        """``(2, *batch, g, L)`` figures of what is not and what is counted to ``(*batch, p, 2)`` of
        0 and 1, with those of decided members; NaN where the sum cannot be."""
        sides = torch.where(self.flipped[..., None], sides.flip(0), sides)
        sides = torch.where(self.active, sides, torch.stack([zero, one]))
        sides = sides.masked_fill(~self.possible[..., None], torch.nan)
        return _in_order(groups, sides).movedim(0, -1)

    def leaves(self) -> Tensor:
        """``(2, L, N)`` tilted weights of 0 and 1 of every member."""
        tilted = (self.logits + self.tilt[..., None] - self.log_scale).exp()
        leaves = torch.stack([(-self.log_scale).exp(), tilted])
        return leaves.reshape(2, self.counts.numel(), self.logits.shape[-1]).mT

    def levels(self, leaves: Tensor) -> list[Tensor]:
        """Polynomials ``(D, P, N)`` of the nodes, from the leaves to the pair below the root."""
        levels = [_paired(leaves.contiguous())]
        while levels[-1].shape[1] > 2:
            left, right = levels[-1].chunk(2, 1)
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


def _paired(level: Tensor) -> Tensor:
    """With a node that is always zero, the polynomial 1, where the number of nodes is odd."""
    if level.shape[1] % 2 == 0:
        return level
    one = torch.zeros_like(level[:, :1])
    one[0] = 1.0
    return torch.cat([level, one], 1)


@constant
@quiet_under_trace
def _tilt(logits: Tensor, active: Tensor, counts: Tensor) -> Tensor:
    """lambda with sum sigmoid(logit + lambda) near the count: Newton, kept in a bracket."""
    size = active.sum(-1).clamp(min=1).to(logits.dtype)
    # Where the count is 0 or impossible there is no such lambda; one half will do.
    target = torch.minimum(counts.clamp(min=0.5), size - 0.5)
    centre = torch.log(target / (size - target))
    low = centre - logits.masked_fill(~active, -torch.inf).amax(-1)
    high = centre - logits.masked_fill(~active, torch.inf).amin(-1)
    any_active = active.any(-1)
    low, high = low.where(any_active, 0.0), high.where(any_active, 0.0)
    tilt = (centre - logits.masked_fill(~active, 0.0).sum(-1) / size).clamp(low, high)
    for _ in range(TILT_STEPS):
        probability = torch.sigmoid(logits + tilt[..., None])
        excess = probability.sum(-1) - target
        if bool((excess.abs() <= TILT_TOLERANCE).logical_or(~any_active).all()):
            break
        low, high = torch.where(excess < 0, tilt, low), torch.where(excess > 0, tilt, high)
        slope = (probability * (1 - probability)).sum(-1)
        step = tilt - excess / slope
        inside = (step > low) & (step < high)
        tilt = torch.where(inside, step, (low + high) / 2)
    return tilt


def _members(groups: DisjointGroups, like: Tensor) -> Tensor:
    return plan_tensor(groups, "members", like, torch.int64)


def _groups(groups: DisjointGroups, like: Tensor) -> Groups:
    return plan_groups(groups, "index", groups.num_groups, like)
