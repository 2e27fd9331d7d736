"""Frozen facts about a fiber, the integer points with ``A x = k`` and ``0 <= x <= upper``.

The variables fall into parts: those that can have one value only, those in no row, groups whose sum
is given, tables with independent rows and columns, and a trellis that spends what is left of k,
column after column.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.lattice import Lattice
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis

__all__ = ["NO_POINT", "FiberPlan", "FixedVariables"]

TRELLIS_LOSS = 8
"""How many times more digits a trellis loses than a single sum of the same counts."""

TABLE_LOSS = 16
"""The same for the total of a table with independent rows and columns."""

NO_POINT = (
    "sample: expected parameters that give A x = k a positive probability, got one of exactly "
    "zero; check for rates or probabilities of exactly 0 or 1."
)


@dataclass(frozen=True, eq=False)
class FixedVariables:
    """Variables that the parameters give one value only: rate 0, probability 0 or 1.

    Attributes:
        variables: ``(f,)`` ascending.
        values: ``(f,)`` int64.
        shift: ``(m,)`` what they add to A x.
        columns: ``(e, m)`` the different columns of A that they have.
        column: ``(f,)`` which of them each has.
    """

    variables: np.ndarray
    values: np.ndarray
    shift: np.ndarray
    columns: np.ndarray
    column: np.ndarray


@dataclass(frozen=True, eq=False)
class FiberPlan:
    """All that is known of ``{x integer : A x = k, 0 <= x <= upper}`` without parameters.

    Where parameters give some variables one value only, these are ``fixed``, and all else is said
    of the others, whose right-hand sides are ``sides(k)``.

    Attributes:
        num_rows: m.
        num_variables: n.
        independent: ``(r,)`` independent rows of A, ascending.
        entries: ``(r, n)`` these rows, sparse.
        upper: ``(n,)`` the largest value of every variable on any of the fibers; -1 for a
            variable in no row whose base law is unbounded.
        fixed: the variables of one value, or None.
        possible: ``(n, C)`` the values of positive probability of the trellis's variables, or None
            where that is all of them.
        free: ``(f,)`` the variables in no row.
        groups: the independent blocks of one row with one coefficient, or None.
        tables: the independent blocks that are tables with independent rows and columns.
        margins: ``(R + C,)`` the largest sums of the rows and columns of every table.
        trellis: all other variables, or None.
        lattice: the right-hand sides that have integer solutions.
        row_range: ``(2, m)`` floats, the least and the largest (A x)_i, infinite if unbounded.
    """

    num_rows: int
    num_variables: int
    independent: np.ndarray
    entries: sparse.csr_array
    upper: np.ndarray
    fixed: FixedVariables | None
    possible: np.ndarray | None
    free: np.ndarray
    groups: DisjointGroups | None
    tables: tuple[TwoWayTable, ...]
    margins: tuple[np.ndarray, ...]
    trellis: Trellis | None
    lattice: Lattice
    row_range: np.ndarray

    @cached_property
    def largest(self) -> int:
        """The largest value of any variable."""
        return int(self.upper.max(initial=0))

    @cached_property
    def largest_terms(self) -> int:
        """A largest count of Poisson variables, by which digits are lost: those of a trellis are
        lost in the sums over its columns too, those of a table in factorials of its total."""
        in_trellis = 0 if self.trellis is None else 1 + int(self.trellis.largest.max(initial=-1))
        totals = [
            int(margins[: table.shape[0]].sum())
            for table, margins in zip(self.tables, self.margins, strict=True)
        ]
        in_tables = max(totals, default=0)
        return max(self.largest, TRELLIS_LOSS * in_trellis, TABLE_LOSS * in_tables)

    @property
    def rank(self) -> int:
        """r, the number of independent rows of A."""
        return len(self.independent)

    @cached_property
    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of A that decide all others ``(r,)``, and their entries ``(r, n)`` int64."""
        return self.independent, self.entries.toarray()

    @cached_property
    def zero_rows(self) -> np.ndarray:
        """Rows of A without an entry: k is zero there."""
        return np.flatnonzero(self.lattice.divisor == 0)

    @cached_property
    def relations(self) -> np.ndarray:
        """``(c, m)`` int64 y, modulo 2^64, with ``y k = 0`` wherever A x = k has a solution: one
        for each row that follows from rows of several parts, of which none knows it."""
        parts = [part.rows for part in (self.groups, self.trellis) if part is not None]
        parts += [table.told for table in self.tables]
        untold = np.setdiff1d(np.arange(self.num_rows), np.concatenate([self.zero_rows, *parts]))
        return self.lattice.relations(untold)

    @property
    def kept(self) -> np.ndarray:
        """Independent rows, ascending, of the variables that are not fixed."""
        return self.lattice.kept

    def contains(self, sides: np.ndarray) -> np.ndarray:
        """``(*batch,)`` for which right-hand sides ``(*batch, m)`` there is a point, as far as they
        are planned."""
        inside = self.lattice.contains(sides)
        least, largest = self.row_range
        inside = inside & ((sides >= least) & (sides <= largest)).all(axis=-1)
        for table in self.tables:
            inside = inside & (table.margins(sides) >= 0).all(axis=-1)
        return inside if self.trellis is None else inside & (self.trellis.find(sides) >= 0)

    def sides(self, k: np.ndarray) -> np.ndarray:
        """``(*batch, m)`` what k leaves for the variables that are not fixed."""
        return k if self.fixed is None else k - self.fixed.shift
