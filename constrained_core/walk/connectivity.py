"""Whether the moves of a walk are known to reach every point of a fiber."""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["Connectivity", "connects", "unimodularity"]

MAX_MINORS = 20_000
"""Bases of a small matrix that are looked at one by one."""


@dataclass(frozen=True)
class Connectivity:
    """Whether every point of the fiber is reached from every other.

    Attributes:
        is_connected: true or false where it is known, None where it is not.
        reason: why.
    """

    is_connected: bool | None
    reason: str


def unimodularity(matrix: np.ndarray) -> str | None:
    """Why the elementary directions of A have no entry but -1, 0 and 1; None if not known.

    Recognised are incidence matrices of networks (two-way tables, disjoint sums) and their
    transposes, rows or columns of consecutive ones, all after columns and rows with one entry are
    put aside; and any matrix with few enough bases.

    Args:
        matrix: ``(m, n)`` int64.
    """
    core = _without_units(matrix)
    if not core.size:
        return "A is totally unimodular: its rows and columns with one entry leave nothing"
    if np.abs(core).max() == 1:
        for part, name in ((core, "columns"), (core.T, "rows")):
            if _is_network(part):
                return f"A is totally unimodular: its {name} are the edges of a network"
            if _is_interval(part):
                return f"A is totally unimodular: consecutive ones in its {name}"
    return _equal_minors(np.unique(matrix, axis=1))


def _without_units(matrix: np.ndarray) -> np.ndarray:
    """Without rows and columns that are zero, have a single entry of +-1, or repeat another."""
    before = None
    while before is None or matrix.shape != before:
        before = matrix.shape
        for _ in range(2):
            counts = np.count_nonzero(matrix, axis=0)
            single = (counts == 1) & (np.abs(matrix).sum(axis=0) == 1)
            matrix = matrix[:, (counts > 0) & ~single]
            if matrix.size:
                first = np.take_along_axis(matrix, (matrix != 0).argmax(axis=0)[None], axis=0)
                _, kept = np.unique(matrix * np.sign(first), axis=1, return_index=True)
                matrix = matrix[:, np.sort(kept)]
            matrix = matrix.T
    return matrix


def _is_network(matrix: np.ndarray) -> bool:
    """At most two entries in each column, and signs of rows that make them opposite.

    Heller and Tompkins (1956): the rows are coloured so that equal entries join rows of different
    colours and opposite ones rows of the same.
    """
    if (np.count_nonzero(matrix, axis=0) > 2).any():
        return False
    pairs = matrix[:, np.count_nonzero(matrix, axis=0) == 2]
    m = len(matrix)
    first = (pairs != 0).argmax(axis=0)
    last = m - 1 - (pairs[::-1] != 0).argmax(axis=0)
    every = np.arange(pairs.shape[1])
    differs = pairs[first, every] == pairs[last, every]
    # Two copies of every row: a row joined to its own copy would need both colours.
    ends = np.concatenate([np.where(differs, last + m, last), np.where(differs, last, last + m)])
    edges = np.ones(2 * len(every)), (np.concatenate([first, first + m]), ends)
    _, label = connected_components(csr_array(edges, shape=(2 * m, 2 * m)), directed=False)
    return bool((label[:m] != label[m:]).all())


def _is_interval(matrix: np.ndarray) -> bool:
    """Entries of 0 and 1, the ones of every column in one run."""
    if (matrix < 0).any():
        return False
    starts = np.diff(matrix, axis=0, prepend=0) > 0
    return bool((starts.sum(axis=0) <= 1).all())


def _equal_minors(matrix: np.ndarray) -> str | None:
    """All largest minors zero or of one size, by trying every basis."""
    if np.abs(matrix).max() > 1000:
        return None
    rank = int(np.linalg.matrix_rank(matrix))
    if comb(matrix.shape[1], rank) > MAX_MINORS:
        return None
    rows = _independent_rows(matrix, rank)
    every = np.array(list(combinations(range(matrix.shape[1]), rank)))
    minors = np.abs(np.rint(np.linalg.det(matrix[rows][:, every].transpose(1, 0, 2).astype(float))))
    found = np.unique(minors[minors > 0])
    return f"A is unimodular: its {len(every)} bases have equal minors" if found.size == 1 else None


def _independent_rows(matrix: np.ndarray, rank: int) -> np.ndarray:
    rows: list[int] = []
    for row in range(len(matrix)):
        if len(rows) < rank and np.linalg.matrix_rank(matrix[rows + [row]]) > len(rows):
            rows.append(row)
    return np.array(rows, dtype=np.int64)


def connects(points: np.ndarray, moves: np.ndarray) -> bool:
    """Whether moves along lines join all points of a fiber.

    Args:
        points: ``(count, n)`` all of the fiber.
        moves: ``(M, n)`` directions; a step is any multiple that ends on the fiber.
    """
    labels = []
    for move in moves:
        # Points are on one line where they agree beside multiples of the move.
        pivot = int(np.flatnonzero(move)[0])
        steps = points[:, pivot] // move[pivot]
        _, line = np.unique(points - steps[:, None] * move, axis=0, return_inverse=True)
        labels.append(line.reshape(-1))
    count = len(points)
    rows = np.tile(np.arange(count), len(labels))
    lines = np.concatenate([label + count * (1 + i) for i, label in enumerate(labels)] or [rows])
    size = count * (1 + len(labels))
    graph = csr_array((np.ones(len(rows)), (rows, lines)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return bool((component[:count] == component[0]).all())
