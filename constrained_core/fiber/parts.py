"""The parts of an integer constraint: free variables, groups, and what is left for a trellis."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.lattice import Lattice, integer_weights, lattice_of
from constrained_core.fiber.tables import TwoWayTable, find_table
from constrained_core.groups import GroupSum

__all__ = ["FiberParts", "split"]

MAX_BLOCKS = 1000
"""Blocks of which it is looked whether they are tables."""


@dataclass(frozen=True, eq=False)
class FiberParts:
    """A constraint taken apart; k and bounds play no part yet.

    Attributes:
        shape: ``(m, n)``.
        lattice: the lattice of A.
        free: ``(f,)`` variables in no row.
        groups: blocks of one row with one coefficient, or None.
        variables: ``(p,)`` all other variables.
        rows: ``(r,)`` the rows of A in these variables only, redundant ones included: what is
            left of k there must stay within reach, and more rows notice earlier when it is not.
        columns: ``(p, r)`` their coefficients, sparse.
        block: ``(p,)`` the independent block of each variable.
        positive, negative: sums over variables, as ``(m, n)`` sparse arrays of coefficients.
    """

    shape: tuple[int, int]
    lattice: Lattice
    free: np.ndarray
    groups: DisjointGroups | None
    variables: np.ndarray
    rows: np.ndarray
    columns: sparse.csc_array
    block: np.ndarray
    positive: sparse.csr_array
    negative: sparse.csr_array

    @cached_property
    def kind(self) -> np.ndarray:
        """``(p,)`` a number for each different column."""
        return np.unique(self.columns.toarray(), axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def tables(self) -> tuple[TwoWayTable, ...]:
        """Blocks that are complete tables with all row and column sums."""
        labels, first = np.unique(self.block, return_index=True)
        if len(labels) > MAX_BLOCKS:
            return ()
        kept = np.isin(self.rows, self.lattice.kept)
        insides = [np.flatnonzero(self.block == label) for label in labels[np.argsort(first)]]
        found = (find_table(self.variables[i], self.columns[i], self.rows, kept) for i in insides)
        return tuple(table for table in found if table is not None)

    def without(self, variables: np.ndarray) -> "FiberParts":
        """The same with some of ``variables`` left to others."""
        left = ~np.isin(self.variables, variables)
        gone = abs(self.columns[~left]).sum(axis=0) > 0
        rows = ~gone & (abs(self.columns[left]).sum(axis=0) > 0)
        return replace(
            self,
            variables=self.variables[left],
            rows=self.rows[rows],
            columns=self.columns[left][:, rows],
            block=self.block[left],
        )


def split(matrix: np.ndarray | GroupSum, grouped: bool) -> FiberParts:
    """Take a constraint apart.

    Args:
        matrix: ``(m, n)`` int64, or groups.
        grouped: whether blocks of one row with one coefficient are groups, not trellis columns.
    """
    lattice = lattice_of(matrix)
    entries = _sparse(matrix)
    kept = entries[lattice.kept]
    touched = np.bincount(entries.indices, minlength=matrix.shape[1]) > 0
    block, row_block = _blocks(kept)
    rows_in = np.bincount(row_block, minlength=block.max(initial=-1) + 1)
    in_group = touched & (rows_in[block] == 1) & grouped & _single_coefficient(kept, block)
    variables = np.flatnonzero(touched & ~in_group)
    outside = np.ones(matrix.shape[1])
    outside[variables] = 0
    pure = (abs(entries) @ outside == 0) & (np.diff(entries.indptr) > 0)
    rows = np.flatnonzero(pure)
    return FiberParts(
        shape=matrix.shape,
        lattice=lattice,
        free=np.flatnonzero(~touched),
        groups=_groups(kept, lattice.kept, block, row_block, np.flatnonzero(in_group)),
        variables=variables,
        rows=rows,
        columns=entries[rows][:, variables].T,
        block=block[variables],
        positive=entries.maximum(0),
        negative=entries.minimum(0),
    )


def _sparse(matrix: np.ndarray | GroupSum) -> sparse.csr_array:
    if not isinstance(matrix, GroupSum):
        return sparse.csr_array(matrix)
    columns = np.arange(matrix.shape[1])
    entries = sparse.csr_array(
        (integer_weights(matrix), (matrix.index, columns)), shape=matrix.shape
    )
    entries.eliminate_zeros()
    return entries


def _blocks(kept: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Connected components: the block of every variable and of every row."""
    num_rows, num_variables = kept.shape
    rows = np.repeat(np.arange(num_rows), np.diff(kept.indptr))
    size = num_rows + num_variables
    graph = sparse.csr_array(
        (np.ones(len(rows), dtype=bool), (rows, num_rows + kept.indices)), shape=(size, size)
    )
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    return label[num_rows:], label[:num_rows]


def _single_coefficient(kept: sparse.csr_array, block: np.ndarray) -> np.ndarray:
    """``(n,)`` whether all coefficients in the block of a variable are equal."""
    size = block.max(initial=-1) + 1
    least, largest = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
    np.minimum.at(least, block[kept.indices], kept.data)
    np.maximum.at(largest, block[kept.indices], kept.data)
    return (least == largest)[block]


def _groups(
    kept: sparse.csr_array,
    kept_rows: np.ndarray,
    block: np.ndarray,
    row_block: np.ndarray,
    variables: np.ndarray,
) -> DisjointGroups | None:
    if len(variables) == 0:
        return None
    executed = np.flatnonzero(np.isin(row_block, block[variables]))
    number = np.zeros(block.max() + 1, dtype=np.int64)
    number[row_block[executed]] = np.arange(len(executed))
    return DisjointGroups(
        variables=variables,
        index=number[block[variables]],
        rows=kept_rows[executed],
        divisor=kept.data[kept.indptr[executed]],
    )
