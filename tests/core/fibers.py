"""Small systems A x = k over integers, their points by brute force, and a strategy for them."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constrained_core import FiberPlan, plan_fiber

__all__ = ["LARGEST", "System", "integer_systems", "points"]

LARGEST = 3
"""Brute force looks at 0..LARGEST where the base law has no largest value."""


@dataclass(frozen=True, eq=False)
class System:
    """A x = k for a batch of k, each with a point on its fiber.

    A law without largest values gets its own from rows of ones, so that brute force sees all.
    """

    A: np.ndarray
    k: np.ndarray
    upper: np.ndarray | None
    merge: bool

    def plan(self, **options) -> FiberPlan:
        return plan_fiber(self.A, self.k, upper=self.upper, merge=self.merge, **options)


def points(A: np.ndarray, k: np.ndarray, upper: np.ndarray | int | None) -> np.ndarray:
    """``(count, n)`` all x in 0..upper with A x = k, in lexicographic order."""
    largest = np.broadcast_to(LARGEST if upper is None else upper, A.shape[1])
    every = list(product(*(range(u + 1) for u in largest)))
    box = np.array(every, dtype=np.int64).reshape(len(every), A.shape[1])
    return box[(box @ A.T == k).all(axis=-1)]


@st.composite
def integer_systems(draw: st.DrawFn, bounded: bool | None = None) -> System:
    """Entries -1..3, at most 3 rows and 6 variables; often redundant rows and equal columns."""
    num_rows, num_variables = draw(st.integers(0, 3)), draw(st.integers(1, 6))
    A = draw(arrays(np.int64, (num_rows, num_variables), elements=st.integers(-1, 3)))
    if num_rows > 1 and draw(st.booleans()):
        A[-1] = draw(st.integers(-1, 2)) * A[0]
    if num_variables > 2 and draw(st.booleans()):
        A[:, -1] = A[:, 0]
    bounded = draw(st.booleans()) if bounded is None else bounded
    upper = draw(arrays(np.int64, num_variables, elements=st.integers(0, 2)))
    upper = draw(st.sampled_from([upper, np.ones(num_variables, dtype=np.int64)]))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    x = draw(arrays(np.int64, (*batch, num_variables), elements=st.integers(0, 2)))
    if bounded:
        return System(A, np.minimum(x, upper) @ A.T, upper, False)
    A = np.vstack([A, np.ones((1, num_variables), dtype=np.int64)])
    x = x * (np.cumsum(x, axis=-1) <= LARGEST)
    return System(A, x @ A.T, None, draw(st.booleans()))
