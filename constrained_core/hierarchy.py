"""Hierarchies of sums: from a table of groups to the matrix A under which forecasts add up."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from constrained_core.errors import ConstraintError
from constrained_core.sparse import SparseMatrix

__all__ = ["Hierarchy", "summing_matrix"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Sums of bottom series, and the constraint that ties them together.

    The nodes are the sums, level by level as asked for, then the bottom series: y = (S b, b).

    Attributes:
        A: ``(sums, nodes)`` the rows [I, -S] of A y = 0.
        k: ``(sums,)`` zeros.
        S: ``(sums, bottom)`` which series each sum adds.
        labels: ``(sums,)`` the level of each sum and its group, as tuples.
    """

    A: SparseMatrix
    k: np.ndarray
    S: sparse.csr_array
    labels: list[tuple[tuple[Hashable, ...], tuple[Any, ...]]]

    def with_sums(self, bottom: np.ndarray) -> np.ndarray:
        """``(..., nodes)`` all nodes from the bottom series ``(..., bottom)``."""
        return np.concatenate([bottom @ self.S.T, bottom], axis=-1)


def summing_matrix(table: Any, levels: Iterable[Sequence[Hashable]]) -> Hierarchy:
    """The sums of a hierarchy, or of several crossed ones, from a table of groups.

    Args:
        table: a column of labels for each grouping, one label for each bottom series: a data frame,
            a structured array, or a mapping from names to sequences of one length.
        levels: which sums there are; each level is the names of the columns whose combinations are
            its groups, and no names are the grand total. A level that tells every series apart
            would repeat the bottom and is better left out.

    Raises:
        ConstraintError: columns that are not in the table, of different lengths or of one name;
            labels that are missing or cannot be ordered; a level that is no sequence of names.

    Example:
        >>> shops = {"state": ["CA", "CA", "TX"], "item": ["a", "b", "a"]}
        >>> hierarchy = summing_matrix(shops, [(), ("state",), ("item",)])
        >>> hierarchy.S.toarray().astype(int)
        array([[1, 1, 1],
               [1, 1, 0],
               [0, 0, 1],
               [1, 0, 1],
               [0, 1, 0]])
        >>> hierarchy.labels[1]
        (('state',), ('CA',))
    """
    columns = {name: _column(name, table[name]) for name in _column_names(table)}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise ConstraintError(
            "table: expected columns of one length, a label for each bottom series, got lengths "
            f"{sorted(lengths)}; give a data frame, a structured array or a mapping."
        )
    (num_bottom,) = lengths
    rows, labels = [], []
    for level in levels:
        names = _level_names(level)
        groups, own = _groups(columns, names, num_bottom)
        shape = len(own), num_bottom
        rows.append(
            sparse.csr_array((np.ones(num_bottom), (groups, range(num_bottom))), shape=shape)
        )
        labels += [(names, label) for label in own]
    S = sparse.csr_array(sparse.vstack(rows)) if rows else sparse.csr_array((0, num_bottom))
    A = sparse.hstack([sparse.eye_array(S.shape[0]), -S])
    return Hierarchy(SparseMatrix.of(A), np.zeros(S.shape[0]), S, labels)


def _column_names(table: Any) -> Iterable[Hashable]:
    if isinstance(table, np.ndarray):
        return table.dtype.names or ()
    return () if isinstance(table, Sequence) else table


def _column(name: Hashable, given: Any) -> np.ndarray:
    """The labels of a column; those of a list as they are, where NumPy makes 1 and "1" the same."""
    column = np.asarray(given, dtype=object if isinstance(given, Sequence) else None)
    if column.ndim != 1:
        raise ConstraintError(
            f"table: expected one label for each bottom series in column {name!r}, got shape "
            f"{column.shape}; give every column a name of its own."
        )
    is_masked = np.ma.getmaskarray(np.asanyarray(given, column.dtype))
    missing = np.flatnonzero(_missing(column) | is_masked)
    if len(missing):
        raise ConstraintError(
            f"table: expected a label for each bottom series, got none in column {name!r} at "
            f"{missing[0]}; fill it, or leave the series out."
        )
    return column


def _missing(column: np.ndarray) -> np.ndarray:
    """Where there is None, NaN or what else is not equal to itself, as the NA of pandas."""
    if column.dtype != object:
        return np.asarray(column != column)
    return np.array([label is None or (label == label) is not True for label in column], dtype=bool)


def _level_names(level: Any) -> tuple[Hashable, ...]:
    if isinstance(level, str) or not isinstance(level, Iterable):
        raise ConstraintError(
            f"levels: expected a sequence of names of columns for each level, got {level!r}; write "
            f"({level!r},)."
        )
    return tuple(level)


def _ordered(name: Hashable, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that there are, and which of them each bottom series has."""
    try:
        return np.unique(column, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in column})
        raise ConstraintError(
            f"table: expected labels of one kind, which can be ordered, in column {name!r}, got "
            f"{' and '.join(kinds)}; convert them, by astype(str) say."
        ) from error


def _groups(
    columns: Mapping[Hashable, np.ndarray], names: tuple[Hashable, ...], num_bottom: int
) -> tuple[np.ndarray, list[tuple[Any, ...]]]:
    """The group of every bottom series, and the labels of the groups."""
    groups, labels = np.zeros(num_bottom, dtype=np.int64), [()] * min(num_bottom, 1)
    for name in names:
        if name not in columns:
            raise ConstraintError(
                f"levels: expected names of columns of the table, {list(columns)}, got {name!r}."
            )
        values, own = _ordered(name, columns[name])
        pairs, groups = np.unique(groups * len(values) + own, return_inverse=True)
        own_labels = values.tolist()
        labels = [(*labels[i // len(values)], own_labels[i % len(values)]) for i in pairs]
    return groups, labels
