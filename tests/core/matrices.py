"""Constraint matrices with known facts, and Hypothesis strategies that make more of them."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

__all__ = ["MATRICES", "Known", "incidence", "integer_matrices", "margins", "scaled_matrices"]


class Known(NamedTuple):
    """A matrix and the rank that it was made to have."""

    matrix: np.ndarray
    rank: int

    @property
    def rounding(self) -> float:
        """What rounding of the entries or of a QR, n eps, does to the log volume of the rows.

        d log |det M| = tr(M^-1 dM): as much as the condition of the rows at unit length.
        """
        norms = np.linalg.norm(self.matrix, axis=-1)
        rows = self.matrix[norms > 0] / norms[norms > 0, None]
        values = np.linalg.svd(rows, compute_uv=False)[: self.rank]
        return self.matrix.shape[-1] * float(np.finfo(np.float64).eps * values[0] / values[-1])


def incidence(edges: list[tuple[int, int]], num_nodes: int) -> np.ndarray:
    """Node-edge incidence of a directed graph; its rank is the nodes less the components."""
    matrix = np.zeros((num_nodes, len(edges)))
    for column, (tail, head) in enumerate(edges):
        matrix[tail, column], matrix[head, column] = -1.0, 1.0
    return matrix


def margins(num_rows: int, num_columns: int) -> np.ndarray:
    """Row and column sums of a table; one of them is redundant."""
    rows = np.kron(np.eye(num_rows), np.ones(num_columns))
    return np.vstack([rows, np.kron(np.ones(num_rows), np.eye(num_columns))])


def _combined(num_rows: int, num_variables: int, extra: int, seed: int) -> np.ndarray:
    """Random rows followed by random combinations of them, shuffled."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(num_rows, num_variables))
    return rng.permutation(np.vstack([rows, rng.normal(size=(extra, num_rows)) @ rows]))


def _scaled(matrix: np.ndarray, low: float, high: float) -> np.ndarray:
    return matrix * np.geomspace(low, high, len(matrix))[:, None]


_RING = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
_TWO_PARTS = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 3)]
_PLAIN = np.array([[1.0, 2, 0, -1, 3], [0, 1, 1, 1, 0], [2, 0, 0, 1, 1]])

MATRICES = {
    "random": Known(np.random.default_rng(0).normal(size=(4, 9)), 4),
    "combinations": Known(_combined(5, 12, 4, seed=1), 5),
    "many combinations": Known(_combined(2, 6, 10, seed=2), 2),
    "duplicates": Known(_PLAIN[[0, 1, 0, 2, 1, 0]], 3),
    "scaled duplicates": Known(np.vstack([_PLAIN, 3 * _PLAIN[1], -0.1 * _PLAIN[0]]), 3),
    "zero rows": Known(np.insert(_PLAIN, [0, 2], 0.0, axis=0), 3),
    "only zeros": Known(np.zeros((2, 4)), 0),
    "ring": Known(incidence(_RING, 4), 3),
    "two components": Known(incidence(_TWO_PARTS, 5), 3),
    "margins": Known(margins(4, 5), 8),
    "badly scaled rows": Known(_scaled(_PLAIN, 1e-8, 1e8), 3),
    "badly scaled and redundant": Known(
        np.vstack([_PLAIN * 1e8, _PLAIN * 1e-8, _PLAIN[:1] * 1e-8 + _PLAIN[1:2] * 1e-8]), 3
    ),
    "square": Known(np.random.default_rng(3).normal(size=(5, 5)), 5),
    "square and redundant": Known(_combined(3, 5, 2, seed=4), 3),
    "more rows than columns": Known(_combined(4, 4, 5, seed=5), 4),
    "axes": Known(np.eye(6)[[4, 1, 5]] * np.array([[2.0], [-1.0], [1e-8]]), 3),
    "one row": Known(np.array([[3.0, -1.0, 0.5]]), 1),
    "one row thrice": Known(np.outer([1.0, -2.0, 1e-8], [3.0, -1.0, 0.5]), 1),
    "ones": Known(np.ones((1, 7)), 1),
    "no rows": Known(np.zeros((0, 3)), 0),
    "no variables": Known(np.zeros((0, 0)), 0),
    "nearly parallel": Known(np.array([[1.0, 1, 1, 1], [1, 1, 1, 1 + 1e-9], [1, 2, 3, 4]]), 3),
    "Vandermonde": Known(np.vander(np.linspace(0.5, 1.5, 7), increasing=True)[:, :6].T, 6),
}


@st.composite
def integer_matrices(draw, max_rows: int = 5, max_variables: int = 7) -> np.ndarray:
    """Small integer matrices; about half have redundant rows."""
    size = draw(st.integers(1, max_rows)), draw(st.integers(1, max_variables))
    matrix = draw(arrays(np.int64, size, elements=st.integers(-3, 3)))
    extra = draw(st.integers(0, 2))
    mixing = draw(arrays(np.int64, (extra, size[0]), elements=st.integers(-2, 2)))
    order = draw(st.permutations(range(size[0] + extra)))
    return np.vstack([matrix, mixing @ matrix])[order].astype(np.float64)


@st.composite
def scaled_matrices(draw) -> np.ndarray:
    """Integer matrices whose rows are scaled by powers of two from 2^-27 to 2^27, exactly."""
    matrix = draw(integer_matrices())
    exponent = draw(arrays(np.int64, len(matrix), elements=st.integers(-27, 27)))
    return np.ldexp(matrix, exponent[:, None].astype(np.int32))
