"""Sums over disjoint groups of variables, layouts by group, and what a sum is made of."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.disjoint_groups import DisjointGroups
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.errors import require_possible
from pyro_constrained.kernels.arrays.groups import Groups, plan_groups
from pyro_constrained.kernels.arrays.log_space import is_there
from pyro_constrained.kernels.arrays.multinomial import multinomial_draw
from pyro_constrained.kernels.arrays.plans import plan_tensor

__all__ = [
    "by_group",
    "draw_members",
    "group_totals",
    "in_order",
    "member_totals",
    "other_totals",
    "spread",
]


def group_totals(groups: DisjointGroups, rate: Tensor) -> Tensor:
    """``(*batch, p)`` to ``(*batch, g)``: sums over the members of every group."""
    if groups.num_groups == 1:
        return rate.sum(-1, keepdim=True)
    return _groups(groups, rate).totals(rate)


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


def by_group(groups: DisjointGroups, figures: Tensor, missing: float) -> Tensor:
    """``(..., p)`` figures to ``(..., g, L)``; ``missing`` where a group has no more members."""
    if groups.num_groups == 1:
        return figures[..., None, :]
    layout, figures = _layout(groups, figures), pad(figures, (0, 1), value=missing)
    found = Groups(layout.reshape(-1), figures.shape[-1]).members(figures)
    return found.unflatten(-1, layout.shape)


def in_order(groups: DisjointGroups, figures: Tensor) -> Tensor:
    """``(..., g, L)`` figures of the members to ``(..., p)``: the inverse of ``by_group``."""
    if groups.num_groups == 1:
        return figures[..., 0, :]
    layout, figures = _layout(groups, figures).reshape(-1), figures.flatten(-2)
    found = figures.new_zeros(figures.shape[:-1] + (len(groups.index) + 1,))
    return found.index_copy(-1, layout, figures)[..., :-1]


@outside_graphs
@torch.no_grad()
def draw_members(
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
    rates = by_group(groups, rate, 0.0)
    possible = rates.sum(-1) > 0
    if is_there(~possible):
        require_possible(possible | (counts == 0))
    drawn = multinomial_draw(rates, counts, math.prod(sample_shape), largest)
    return in_order(groups, drawn.reshape(tuple(sample_shape) + drawn.shape[1:]))


def _layout(groups: DisjointGroups, like: Tensor) -> Tensor:
    return plan_tensor(groups, "members", like, torch.int64)


def _groups(groups: DisjointGroups, like: Tensor) -> Groups:
    return plan_groups(groups, "index", groups.num_groups, like)
