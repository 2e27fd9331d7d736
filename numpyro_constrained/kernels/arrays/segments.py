"""Sums of entries by a static index, added in small groups so that rounding stays that of few."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from constrained_core.sparse import SparsePattern

__all__ = ["Entries", "Segments", "entries_of"]

MAX_WIDTH = 32


class Segments:
    """Sums over the entries of each segment.

    One running sum over many entries has rounding errors of the size of their total, each; here
    groups of a few are added, then their sums.

    Args:
        index: ``(p,)`` the segment of every entry.
        size: number of segments.
    """

    def __init__(self, index: np.ndarray, size: int) -> None:
        self.size, self._num_entries, self._levels = size, len(index), []
        counts: np.ndarray = np.bincount(index, minlength=size)
        while len(index) and counts.max() > 1:
            level, index = _grouped(index, counts)
            self._levels.append(level)
            counts = np.bincount(index, minlength=size)
        # Where every segment has one sum at most, they are put in place.
        self._last = np.full(size, len(index), np.int32)
        self._last[index] = np.arange(len(index))

    def totals(self, values: Array) -> Array:
        """``(..., p)`` to ``(..., size)``."""
        for level in self._levels:
            values = _padded(values)[..., level].sum(-1)
        return _padded(values)[..., self._last]


def _padded(values: Array) -> Array:
    return jnp.concatenate([values, jnp.zeros((*values.shape[:-1], 1), values.dtype)], -1)


def _grouped(index: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(groups, width)`` the entries of every group, filled up with the one past the last, and
    the segment of each group."""
    largest, mean = int(counts.max()), len(index) / int((counts > 0).sum())
    width = largest if largest <= MAX_WIDTH and largest <= 4 * mean else int(np.ceil(2 * mean))
    width = max(2, min(width, largest, MAX_WIDTH))
    order = np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    within = np.arange(len(index)) - starts[index[order]]
    groups_of = (counts + width - 1) // width
    first_group = np.concatenate([[0], np.cumsum(groups_of)])
    level = np.full((first_group[-1], width), len(index), np.int32)
    level[first_group[:-1][index[order]] + within // width, within % width] = order
    return level, np.repeat(np.arange(len(counts)), groups_of)


class Entries(NamedTuple):
    """Where a sparse matrix has entries, and the sums over them.

    Attributes:
        row, column: ``(nnz,)`` int32.
        by_row, by_column: sums over the entries of each.
    """

    row: np.ndarray
    column: np.ndarray
    by_row: Segments
    by_column: Segments


@lru_cache(maxsize=64)
def entries_of(pattern: SparsePattern) -> Entries:
    """Those of a pattern, made once."""
    row, column = pattern.row.astype(np.int32), pattern.column.astype(np.int32)
    num_rows, num_columns = pattern.shape
    return Entries(row, column, Segments(row, num_rows), Segments(column, num_columns))
