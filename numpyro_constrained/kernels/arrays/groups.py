"""Sums over groups and their adjoint."""

from functools import cached_property
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from jax import Array

from constrained_core.linear.parts import parts_of_groups, some_members
from numpyro_constrained.kernels.arrays.plans import AnyPlan, plan_tensor

__all__ = ["Groups", "plan_groups"]


class Groups:
    """The group of every entry of a vector.

    Args:
        index: ``(n,)`` int32, the group of every entry.
        size: number of groups.
    """

    def __init__(self, index: np.ndarray, size: int) -> None:
        self.index, self.size = index, size

    def totals(self, vector: Array) -> Array:
        """``(..., n)`` to ``(..., size)``: sums over the members of each group."""
        totals = jnp.zeros(vector.shape[:-1] + (self.size,), vector.dtype)
        return totals.at[..., self.index].add(vector, mode="promise_in_bounds")

    def long_totals(self, vector: Array) -> Array:
        """``totals`` in parts of few members: one running sum over many has rounding errors of the
        size of the total, each."""
        if self._parts is None:
            return self.totals(vector)
        parts, group_of_part = self._parts
        return group_of_part.long_totals(parts.totals(vector))

    @cached_property
    def _parts(self) -> "tuple[Groups, Groups] | None":
        """The part of every entry, and the group of every part; None where groups are small."""
        found = parts_of_groups(self.index, self.size)
        if found is None:
            return None
        part, group_of_part = found
        return Groups(part, len(group_of_part)), Groups(group_of_part, self.size)

    @cached_property
    def some_members(self) -> tuple[np.ndarray, np.ndarray]:
        """``(some, size)`` a few entries of each group, and ``(size,)`` whether it has any."""
        return some_members(self.index, self.size)

    def members(self, totals: Array) -> Array:
        """``(..., size)`` to ``(..., n)``: to every entry the figure of its group."""
        return totals.at[..., self.index].get(mode="promise_in_bounds")


_GROUPS: WeakKeyDictionary[AnyPlan, dict[str, Groups]] = WeakKeyDictionary()


def plan_groups(plan: AnyPlan, name: str, size: int, like: Array) -> Groups:
    """The groups that the plan's array ``name`` tells; made once."""
    groups = _GROUPS.setdefault(plan, {})
    if name not in groups:
        groups[name] = Groups(plan_tensor(plan, name, like, np.int32), size)
    return groups[name]
