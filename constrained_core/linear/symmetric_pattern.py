"""Patterns of symmetric matrices: the precision of a field."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from constrained_core.errors import ConstraintError
from constrained_core.linear.saddle_pattern import SaddlePattern
from constrained_core.sparse import SparsePattern

__all__ = ["SymmetricPattern", "saddle_of", "saddle_of_rows", "symmetric_pattern", "union_of"]


class SymmetricPattern(NamedTuple):
    """Where a symmetric matrix has entries: both triangles, and the whole diagonal.

    Attributes:
        pattern: all places: those of the entries as given, then what is missing of the diagonal.
        mirror: ``(nq,)`` for every place the one across the diagonal.
        diagonal: ``(n,)`` the places of the diagonal.
    """

    pattern: SparsePattern
    mirror: np.ndarray
    diagonal: np.ndarray


@lru_cache(maxsize=64)
def symmetric_pattern(pattern: SparsePattern) -> SymmetricPattern:
    """The pattern of a symmetric matrix, completed by its diagonal.

    Raises:
        ConstraintError: it is not square, or not symmetric.
    """
    num_rows, n = pattern.shape
    place = pattern.row * n + pattern.column
    across = np.sort(pattern.column * n + pattern.row)
    if num_rows != n or not np.array_equal(np.sort(place), across):
        raise ConstraintError(
            "precision_matrix: expected a square Q whose entries are at symmetric places, both "
            f"triangles, got shape {pattern.shape} with {len(place)} entries; use (Q + Q.T) / 2."
        )
    missing = np.setdiff1d(np.arange(n) * (n + 1), place)
    places = np.concatenate([place, missing])
    order = np.argsort(places)

    def find(wanted: np.ndarray) -> np.ndarray:
        return order[np.searchsorted(places[order], wanted)]

    row, column = np.divmod(places, max(n, 1))
    return SymmetricPattern(
        pattern=SparsePattern(row, column, (n, n)),
        mirror=find(column * n + row),
        diagonal=find(np.arange(n) * (n + 1)),
    )


@lru_cache(maxsize=64)
def saddle_of(precision: SparsePattern, rows: SparsePattern | None) -> SaddlePattern:
    """Where [[Q, A'], [A, 0]] has entries; Q alone without rows."""
    none = np.zeros(0, dtype=np.int64)
    return SaddlePattern(
        q_row=precision.row,
        q_column=precision.column,
        a_row=none if rows is None else rows.row,
        a_column=none if rows is None else rows.column,
        num_variables=precision.shape[1],
        num_rows=0 if rows is None else rows.shape[0],
        settled=None if rows is None else rows.settled,
    )


@lru_cache(maxsize=64)
def saddle_of_rows(rows: SparsePattern) -> SaddlePattern:
    """Where [[Q, A'], [A, 0]] with diagonal Q has entries."""
    diagonal = np.arange(rows.shape[1])
    return saddle_of(SparsePattern(diagonal, diagonal, (rows.shape[1],) * 2), rows)


@lru_cache(maxsize=16)
def union_of(
    one: SparsePattern, other: SparsePattern
) -> tuple[SparsePattern, np.ndarray, np.ndarray]:
    """The pattern of both matrices, and where the entries of each are in it."""
    n = one.shape[1]
    first, second = (pattern.row * n + pattern.column for pattern in (one, other))
    places = np.union1d(first, second)
    row, column = np.divmod(places, max(n, 1))
    union = SparsePattern(row, column, one.shape)
    return union, np.searchsorted(places, first), np.searchsorted(places, second)
