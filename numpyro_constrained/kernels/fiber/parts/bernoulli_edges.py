"""Groups of Bernoulli variables, with derivatives in probabilities of exactly 0 and 1.

Let e be the weight of the value that a member of a group cannot have. The probability that the
group has the sum c is then ``(1 - e) Z(c) + e Z(c - 1)`` if the member is never one, and
``(1 - e) Z(c) + e Z(c + 1)`` if it always is, with Z of e = 0: the others have one less to bring,
or one more. All figures here are those of e = 0, with first derivatives in e.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.disjoint_groups import DisjointGroups
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.fiber.group_sums import group_totals, spread
from numpyro_constrained.kernels.fiber.parts.bernoulli_groups import (
    BernoulliGroups,
    marginals,
    ratios,
)

__all__ = ["BernoulliEdges"]


class BernoulliEdges(BernoulliGroups):
    """Bernoulli variables whose sums are given, some of them certain.

    Args:
        edge: ``(*batch, p, 2)`` probabilities of 0 and 1 that are zero, as zeros with a derivative.
    """

    def __init__(
        self, groups: DisjointGroups, logits: Array, counts: Any, capacity: int, edge: Array
    ) -> None:
        super().__init__(groups, logits, counts, capacity)
        self._edge = edge
        ndim = max(logits.ndim, self.counts.ndim)
        self._edges = jnp.moveaxis(lift(edge, ndim + 1), -1, 0)

    @property
    def _moves(self) -> Array:
        # Those who are always one leave one more to the others, who are never one take one.
        return group_totals(self.groups, self._edges)

    def log_partition(self) -> Array:
        return super().log_partition() - self._edges.sum((0, -1))

    def log_weight_sum(self) -> Array:
        return super().log_weight_sum() - self._edges.sum((0, -1))

    @property
    def probabilities(self) -> Array:
        moves = self._moves
        own = self._edges * spread(self.groups, self._ask(ratios, moves))
        change = own[1] - own[0]
        return self._ask(marginals, moves) + jnp.stack([-change, change], -1)

    def _tilted(self, t: Array) -> BernoulliGroups:
        moved = super()._tilted(t)
        both = jnp.stack([-t, t], -1)
        edge = self._edge * jnp.exp(lift(both, self._edge.ndim))
        return BernoulliEdges(self.groups, moved.logits, self.counts, self.capacity, edge)

    def log_marginals(self, num_values: int) -> Array:
        table, found = super().log_marginals(num_values), self.probabilities
        constant = self._ask(marginals, stop_gradient(self._moves))
        # As a factor, not as a quotient, whose slope has a square that may be below all numbers.
        is_there = constant > jnp.finfo(constant.dtype).tiny
        unit = jnp.exp(-jnp.where(is_there, table[..., :2], 0.0))
        change = jnp.where(is_there, (found - constant) * unit, 0.0)
        return table.at[..., :2].add(change)
