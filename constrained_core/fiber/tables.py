"""Two-way tables: blocks of a constraint whose rows are the row and column sums of one table.

Counts with independent rows and columns, given these sums, follow the generalised hypergeometric
law, for which everything is known in closed form.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

__all__ = ["TwoWayTable", "find_table"]

MAX_OVERLAPS = 5_000_000
"""Pairs of rows of A that are compared at most."""


@dataclass(frozen=True, eq=False)
class TwoWayTable:
    """The cells of a complete table of which all row and column sums are given.

    Its margins, first those of its rows, then those of its columns, are sums of rows of A: one of
    them may follow from the others and need not be a row of A.

    Attributes:
        variables: ``(p,)`` the cells, ascending.
        shape: number of rows R and of columns C.
        row, column: ``(p,)`` where each cell is.
        rows: ``(s,)`` the rows of A that the margins are made of.
        divisor: ``(s,)`` the one coefficient in each.
        weights: ``(R + C, s)`` the margins in terms of ``k[rows] / divisor``.
        told: ``(t,)`` all rows of A that are sums of margins.
        told_weights: ``(t, R + C)`` those sums.
    """

    variables: np.ndarray
    shape: tuple[int, int]
    row: np.ndarray
    column: np.ndarray
    rows: np.ndarray
    divisor: np.ndarray
    weights: np.ndarray
    told: np.ndarray
    told_weights: np.ndarray

    @cached_property
    def cell(self) -> np.ndarray:
        """``(p,)`` the number of every variable's cell, row after row."""
        return self.row * self.shape[1] + self.column

    @cached_property
    def cells(self) -> np.ndarray:
        """``(R C,)`` the variable of every cell: its place in ``variables``."""
        return np.argsort(self.cell)

    def margins(self, k: np.ndarray) -> np.ndarray:
        """``(*batch, R + C)`` row and column sums for right-hand sides ``(*batch, m)``."""
        return k[..., self.rows] // self.divisor @ self.weights.T

    def largest_margins(self, bounds: np.ndarray) -> np.ndarray:
        """``(R + C,)`` bounds of the margins where k is between ``bounds (2, m)``."""
        ends = np.sort(bounds[:, self.rows] / self.divisor, axis=0)
        ends = np.floor(ends)[:, None] * self.weights
        return ends.max(axis=0).sum(axis=-1).clip(0).astype(np.int64)


def find_table(
    variables: np.ndarray, columns: sparse.csc_array, rows: np.ndarray, kept: np.ndarray
) -> TwoWayTable | None:
    """The table that a block of variables is, in any order of cells and rows; None if it is none.

    Args:
        variables: ``(p,)`` the block.
        columns: ``(p, r)`` its coefficients, sparse.
        rows: ``(r,)`` numbers of the rows of A.
        kept: ``(r,)`` which of them are independent.
    """
    is_inside = np.diff(columns.tocsc().indptr) > 0
    used = np.flatnonzero(kept & is_inside)
    if len(variables) * len(used) > MAX_OVERLAPS:
        return None
    coefficients = columns[:, used].toarray()
    inside, divisor = coefficients != 0, _largest(coefficients)
    sides = _two_sides(inside)
    if sides is None or (coefficients != inside * divisor).any():
        return None
    row, column = (_class_of(inside[:, side]) for side in sides)
    shape = int(row.max()) + 1, int(column.max()) + 1
    if not _is_complete(row, column, shape):
        return None
    told = np.flatnonzero(is_inside)
    return TwoWayTable(
        variables=variables,
        shape=shape,
        row=row,
        column=column,
        rows=rows[used],
        divisor=divisor,
        weights=_margin_weights(sides, np.flatnonzero(inside.all(axis=0)), shape, len(used)),
        told=rows[told],
        told_weights=_sums_of_margins(columns[:, told].toarray(), row, column, shape),
    )


def _largest(coefficients: np.ndarray) -> np.ndarray:
    """``(s,)`` the largest coefficient of every row, with its sign."""
    if not coefficients.size:
        return np.zeros(coefficients.shape[1], dtype=np.int64)
    return coefficients[np.abs(coefficients).argmax(axis=0), np.arange(coefficients.shape[1])]


def _two_sides(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Row sums and column sums: those that share no cell with the first one, and those that share
    one. A sum of all cells is neither."""
    parts = np.flatnonzero(~inside.all(axis=0))
    overlaps = inside[:, parts].T.astype(np.int64) @ inside[:, parts].astype(np.int64)
    np.fill_diagonal(overlaps, 0)
    if not len(parts) or overlaps.max() > 1:
        return None
    first, other = (np.flatnonzero(overlaps[0] == size) for size in (0, 1))
    disjoint = all(not overlaps[np.ix_(side, side)].any() for side in (first, other))
    if not len(other) or not disjoint or not overlaps[np.ix_(first, other)].all():
        return None
    return parts[first], parts[other]


def _class_of(inside: np.ndarray) -> np.ndarray:
    """``(p,)`` which of disjoint rows each cell is in; one more for those in none."""
    return np.where(inside.any(axis=1), inside.argmax(axis=1), inside.shape[1])


def _is_complete(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether every cell of a table is there once."""
    if min(shape) < 2 or len(row) != shape[0] * shape[1]:
        return False
    return len(np.unique(row * shape[1] + column)) == len(row)


def _margin_weights(
    sides: tuple[np.ndarray, np.ndarray],
    whole: np.ndarray,
    shape: tuple[int, int],
    num_rows: int,
) -> np.ndarray:
    """Margins in terms of the rows of A: each is one, or what the others leave of the total."""
    weights = np.zeros((sum(shape), num_rows), dtype=np.int64)
    for side, other, begin, size in zip(sides, sides[::-1], (0, shape[0]), shape, strict=True):
        weights[begin + np.arange(len(side)), side] = 1
        if len(side) < size:
            weights[begin + len(side), whole if len(whole) else other] = 1
            weights[begin + len(side), side] = -1
    return weights


def _sums_of_margins(
    coefficients: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """``(t, R + C)`` rows of A as sums of margins, of which the first column sum is none."""
    cells = np.zeros((coefficients.shape[1], *shape), dtype=np.int64)
    cells[:, row, column] = coefficients.T
    return np.concatenate([cells[:, :, 0], cells[:, 0] - cells[:, :1, 0]], axis=1)
