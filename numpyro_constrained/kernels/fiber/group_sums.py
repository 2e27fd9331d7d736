"""Sums over disjoint groups of variables, layouts by group, and what a sum is made of."""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.disjoint_groups import DisjointGroups
from numpyro_constrained.kernels.arrays.groups import plan_groups
from numpyro_constrained.kernels.arrays.multinomial import multinomial_draw
from numpyro_constrained.kernels.arrays.plans import plan_index

__all__ = [
    "GroupLayout",
    "draw_members",
    "group_totals",
    "member_totals",
    "other_totals",
    "spread",
]


def member_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)``, or ``(*batch, 1)`` for one group: sums over the group of every member."""
    return spread(groups, group_totals(groups, rate))


def other_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)`` sums over the other members of the group, right to a few roundings.

    At most one member has more than half of a sum. What it leaves is added up; of the others
    there is so little to take away that no digits cancel.
    """
    total = member_totals(groups, rate)
    is_large = rate > total / 2
    small = member_totals(groups, jnp.where(is_large, 0.0, rate))
    return jnp.where(is_large, small, total - rate)


def spread(groups: DisjointGroups, figures: Array) -> Array:
    """``(*batch, g)`` to ``(*batch, p)``, or to ``(*batch, 1)`` where there is one group."""
    return figures if groups.num_groups == 1 else figures[..., plan_index(groups, "index")]


def group_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)`` to ``(*batch, g)``: sums over the members of every group."""
    if groups.num_groups == 1:
        return rate.sum(-1, keepdims=True)
    return plan_groups(groups, "index", groups.num_groups, rate).totals(rate)


@partial(jax.jit, static_argnums=(1, 4, 5))
def draw_members(
    key: Array,
    groups: DisjointGroups,
    rate: Array,
    counts: Array,
    sample_shape: tuple[int, ...] = (),
    largest: int | None = None,
) -> Array:
    """Multinomial draws of the members given the sums, ``(*sample_shape, *batch, p)``.

    They are -1 in groups of a negative sum, or of a positive one where all rates are zero.

    Args:
        largest: a bound of the sums, if there is one: small sums are drawn one by one.
    """
    layout = GroupLayout(groups, jnp.broadcast_shapes(rate.shape[:-1], counts.shape[:-1]))
    weights = layout.spread(stop_gradient(rate), 0.0)
    shape, totals = tuple(sample_shape), layout.flat_counts(counts)
    drawn = multinomial_draw(key, weights, jnp.maximum(totals, 0), prod(shape), largest)
    is_possible = (totals == 0) | ((totals > 0) & (weights.sum(0) > 0))
    return layout.gather(jnp.where(is_possible[None, None], drawn, -1), shape)


class GroupLayout(NamedTuple):
    """Members along the first dimension, groups and batch along the last: ``(L, g b)``."""

    groups: DisjointGroups
    batch_shape: tuple[int, ...]

    @property
    def batch_size(self) -> int:
        """The number of laws in the batch, b."""
        return prod(self.batch_shape)

    def spread(self, values: Array, missing: float) -> Array:
        """``(*batch, p)`` to ``(L, g b)``, with ``missing`` where a group has no more members."""
        members = plan_index(self.groups, "members")
        pad = jnp.full(values.shape[:-1] + (1,), missing, values.dtype)
        values = jnp.concatenate([values, pad], -1)
        values = jnp.broadcast_to(values, self.batch_shape + values.shape[-1:])
        values = values.reshape(self.batch_size, values.shape[-1]).T[members.T]
        return values.reshape(members.shape[1], len(members) * self.batch_size)

    def flat_counts(self, counts: Array) -> Array:
        """``(*batch, g)`` to ``(g b,)``."""
        counts = jnp.broadcast_to(counts, self.batch_shape + counts.shape[-1:])
        return counts.reshape(self.batch_size, counts.shape[-1]).T.reshape(-1)

    def gather(self, values: Array, shape: tuple[int, ...]) -> Array:
        """``(L, prod(shape), g b)`` to ``(*shape, *batch, p)``, the inverse of ``spread``."""
        members, num_members = plan_index(self.groups, "members"), len(self.groups.variables)
        group, slot = np.nonzero(members < num_members)
        position = np.argsort(members[group, slot])
        index = np.stack([slot, group])[:, position].astype(np.int32)
        values = values.reshape(*values.shape[:2], len(members), self.batch_size)
        values = values[index[0], :, index[1]]
        return jnp.moveaxis(values, 0, -1).reshape(shape + self.batch_shape + (num_members,))

    def by_group(self, values: Array) -> Array:
        """``(g b,)`` to ``(*batch, g)``, the inverse of ``flat_counts``."""
        values = values.reshape(self.groups.num_groups, self.batch_size).T
        return values.reshape(*self.batch_shape, self.groups.num_groups)
