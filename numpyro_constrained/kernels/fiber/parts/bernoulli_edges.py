"""Groups of Bernoulli variables, with derivatives in probabilities of exactly 0 and 1.

Let e be the weight of the value that a member of a group cannot have. The probability that the
group has the sum c is then ``(1 - e) Z(c) + e Z(c - 1)`` if the member is never one, and
``(1 - e) Z(c) + e Z(c + 1)`` if it always is, with Z of e = 0: the others have one less to bring,
or one more. All figures here are those of e = 0, with first derivatives in e.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.disjoint_groups import DisjointGroups
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.loops import is_any, where_needed
from numpyro_constrained.kernels.fiber.group_sums import group_totals, spread
from numpyro_constrained.kernels.fiber.parts.bernoulli_groups import BernoulliGroups

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
        # Those who are always one leave one more to the others, who are never one take one.
        ndim = max(logits.ndim, self.counts.ndim)
        steps = np.array([1, -1]).reshape((2,) + (1,) * ndim)
        more_or_less = lift(self.counts, ndim + 1) + steps.astype(self.counts.dtype)
        self._others = BernoulliGroups(groups, logits, more_or_less, capacity + 1)
        self._edges = jnp.moveaxis(lift(edge, ndim + 1), -1, 0)

    def _if_certain(self, change: Callable[[], Array], like: Array) -> Array:
        """A change where any member is certain: it is computed then only."""
        is_certain = is_any(~jnp.isfinite(stop_gradient(self.logits)))
        # The branch that is not taken would fill whatever derivatives keep of the other.
        again = jax.checkpoint(change, prevent_cse=False)
        return where_needed(is_certain, again, lambda: jnp.zeros_like(like))

    def _ratios(self) -> Array:
        """``(2, *batch, g)`` Z(c + 1) / Z(c) and Z(c - 1) / Z(c); 0 where the sum cannot be."""
        here = self.log_partitions[None]
        is_possible = jnp.isfinite(here)
        largest = math.log(float(jnp.finfo(here.dtype).max)) / 2
        gap = self._others.log_partitions - jnp.where(is_possible, here, 0.0)
        return jnp.where(is_possible, jnp.exp(jnp.minimum(gap, largest)), 0.0)

    def log_partition(self) -> Array:
        total = super().log_partition()

        def change() -> Array:
            changes = self._edges * (spread(self.groups, self._ratios()) - 1)
            return changes.sum((0, -1))

        return total + self._if_certain(change, total)

    def _change(self, plain: Array) -> Array:
        """``(*batch, p, 2)`` of the probabilities, as zeros with a derivative."""

        def of_one() -> Array:
            # Of the member itself, and of the others, who have more or less to bring.
            ratios = self._ratios()
            own = self._edges * spread(self.groups, ratios)
            moved = spread(self.groups, group_totals(self.groups, self._edges) * ratios)
            swing = jnp.nan_to_num(self._others.probabilities[..., 1] - plain[None, ..., 1])
            return own[1] - own[0] + (moved * swing).sum(0)

        change = self._if_certain(of_one, plain[..., 1])
        return jnp.stack([-change, change], -1)

    @property
    def probabilities(self) -> Array:
        plain = super().probabilities
        return plain + self._change(plain)

    def _tilted(self, t: Array) -> BernoulliGroups:
        moved = super()._tilted(t)
        both = jnp.stack([-t, t], -1)
        edge = self._edge * jnp.exp(lift(both, self._edge.ndim))
        return BernoulliEdges(self.groups, moved.logits, self.counts, self.capacity, edge)

    def log_marginals(self, num_values: int) -> Array:
        table, plain = super().log_marginals(num_values), super().probabilities
        # As a factor, not as a quotient, whose slope has a square that may be below all numbers.
        is_there = plain > jnp.finfo(plain.dtype).tiny
        unit = jnp.exp(-jnp.where(is_there, table[..., :2], 0.0))
        change = jnp.where(is_there, self._change(plain) * unit, 0.0)
        return table.at[..., :2].add(change)
