"""Disjoint groups of variables whose sums are given."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["DisjointGroups"]


@dataclass(frozen=True, eq=False)
class DisjointGroups:
    """Disjoint groups: the members of group g sum to ``k[rows[g]] / divisor[g]``.

    Attributes:
        variables: ``(p,)`` the variables in groups, ascending.
        index: ``(p,)`` the group of each, 0..g-1.
        rows: ``(g,)`` the row of A of every group.
        divisor: ``(g,)`` the one coefficient in that row, not zero.
    """

    variables: np.ndarray
    index: np.ndarray
    rows: np.ndarray
    divisor: np.ndarray

    @property
    def num_groups(self) -> int:
        """How many groups there are, g."""
        return len(self.rows)

    @cached_property
    def sizes(self) -> np.ndarray:
        """``(g,)`` number of members of every group."""
        return np.bincount(self.index, minlength=self.num_groups)

    @cached_property
    def members(self) -> np.ndarray:
        """``(g, L)`` positions in ``variables``, padded with p, for layouts of equal length."""
        order = np.argsort(self.index, kind="stable")
        first = np.cumsum(self.sizes) - self.sizes
        group = self.index[order]
        members = np.full((self.num_groups, self.sizes.max(initial=0)), len(order))
        members[group, np.arange(len(order)) - first[group]] = order
        return members

    def totals(self, k: np.ndarray) -> np.ndarray:
        """``(*batch, g)`` sums of the groups from a feasible k, ``(*batch, m)``."""
        return k[..., self.rows] // self.divisor

    def capacity(self, totals: np.ndarray) -> int:
        """The largest number of ones, or of zeros if they are fewer, of a group of subsets with
        such ``(*batch, g)`` sums."""
        return int(np.minimum(totals, self.sizes - totals).max(initial=0))

    @cached_property
    def by_size(self) -> "tuple[DisjointGroups, ...]":
        """The groups; in sets of similar sizes where one layout of all would be mostly empty."""
        if self.num_groups * self.sizes.max(initial=0) <= 4 * len(self.variables):
            return (self,)
        scale = np.ceil(np.log2(self.sizes)).astype(int)
        return tuple(self._chosen(np.flatnonzero(scale == size)) for size in np.unique(scale))

    def _chosen(self, groups: np.ndarray) -> "DisjointGroups":
        number = np.full(self.num_groups, -1)
        number[groups] = np.arange(len(groups))
        index = number[self.index]
        return DisjointGroups(
            variables=self.variables[index >= 0],
            index=index[index >= 0],
            rows=self.rows[groups],
            divisor=self.divisor[groups],
        )
