"""Sums over groups and their adjoint."""

import jax.numpy as jnp
import numpy as np
from jax import Array

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

    def members(self, totals: Array) -> Array:
        """``(..., size)`` to ``(..., n)``: to every entry the figure of its group."""
        return totals.at[..., self.index].get(mode="promise_in_bounds")


def plan_groups(plan: AnyPlan, name: str, size: int, like: Array) -> Groups:
    """The groups that the plan's array ``name`` tells."""
    return Groups(plan_tensor(plan, name, like, np.int32), size)
