"""Hierarchies of the shape of the M5 competition, with made-up forecasts."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from constrained_core.hierarchy import Hierarchy, summing_matrix

ITEMS_OF_DEPARTMENTS = {
    "foods 1": 216,
    "foods 2": 398,
    "foods 3": 823,
    "hobbies 1": 416,
    "hobbies 2": 149,
    "household 1": 532,
    "household 2": 515,
}
STORES_OF_STATES = {"CA": 4, "TX": 3, "WI": 3}
LEVELS: tuple[tuple[str, ...], ...] = (
    (),
    ("state",),
    ("store",),
    ("category",),
    ("department",),
    ("state", "category"),
    ("state", "department"),
    ("store", "category"),
    ("store", "department"),
    ("item",),
    ("item", "state"),
)
"""The levels above the bottom of M5 (Makridakis, Spiliotis, Assimakopoulos 2022, table 1)."""
OF_ONE_STORE = ((), ("category",), ("department",))


@dataclass(frozen=True, eq=False)
class Problem:
    """Base forecasts of every node on its own, which do not add up.

    Attributes:
        hierarchy: sums, and the constraint.
        mean: ``(nodes,)``.
        scale: ``(nodes,)`` their standard deviations: structural scaling, the root of the number
            of series in a node.
        truth: ``(nodes,)`` a point that adds up.
        item: ``(bottom,)`` the item of each bottom series.
    """

    hierarchy: Hierarchy
    mean: np.ndarray
    scale: np.ndarray
    truth: np.ndarray
    item: np.ndarray

    @property
    def full_S(self) -> sparse.csr_array:
        """``(nodes, bottom)`` the summing matrix of forecasters, with the bottom itself."""
        S = self.hierarchy.S
        return sparse.csr_array(sparse.vstack([S, sparse.eye_array(S.shape[1])]))


def table(num_stores: int = 10) -> pd.DataFrame:
    """A row for each series: 3,049 items in each of the stores."""
    department = np.repeat(list(ITEMS_OF_DEPARTMENTS), list(ITEMS_OF_DEPARTMENTS.values()))
    items = pd.DataFrame({"item": np.arange(len(department)), "department": department})
    items["category"] = items.department.str.split().str[0]
    state = np.repeat(list(STORES_OF_STATES), list(STORES_OF_STATES.values()))
    stores = pd.DataFrame({"store": np.arange(10), "state": state})
    return items.merge(stores[:num_stores], how="cross")


def make(num_stores: int) -> Problem:
    """The hierarchy of one store (CA_1: 3,049 series, 11 sums) or of all (30,490 and 12,350)."""
    series = table(num_stores)
    hierarchy = summing_matrix(series, LEVELS if num_stores > 1 else OF_ONE_STORE)
    rng = np.random.default_rng(0)
    truth = hierarchy.with_sums(rng.gamma(2.0, 1.0, len(series)))
    size = hierarchy.with_sums(np.ones(len(series)))
    scale = np.sqrt(size)
    mean = truth + scale * rng.standard_normal(len(truth))
    return Problem(hierarchy, mean, scale, truth, series["item"].to_numpy())
