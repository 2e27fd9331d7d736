"""Frozen facts about a fibre, the integer points with ``A x = k`` and ``0 <= x <= upper``.

The variables fall into parts: those that can have one value only, those in no row, groups whose sum
is given, tables with independent rows and columns, and a chain that spends what is left of k column
after column.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from scipy import sparse

from constrained_core.errors import InfeasibleConstraintError, IntractableConstraintError
from constrained_core.fibre_deals import Deal
from constrained_core.fibre_segments import first_values, is_worth_offsets, segment_ends
from constrained_core.fibre_tables import TableFibre
from constrained_core.lattice import Lattice

__all__ = ["NO_POINT", "ChainSegment", "FibreChain", "FibrePlan", "FixedFibre", "GroupFibre"]

MAX_STACKED = 100_000_000
"""Budget of tables of one size, 400 MB."""

CHAINED_LOSS = 8
"""How many times more digits a chain loses than a single sum of the same counts."""

NO_POINT = (
    "sample: expected parameters that give A x = k a positive probability, got one of exactly "
    "zero; check for rates or probabilities of exactly 0 or 1."
)


@dataclass(frozen=True, eq=False)
class FixedFibre:
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
class GroupFibre:
    """Disjoint groups: the members of group g sum to ``k[rows[g]] / divisor[g]``.

    Attributes:
        variables: ``(p,)`` the variables in groups, ascending.
        index: ``(p,)`` the group of each, 0..g-1.
        rows: ``(g,)`` the row of A of every group.
        divisor: ``(g,)`` the one coefficient in that row, not zero.
    """

    variables: np.ndarray
    index: np.ndarray
    rows: np.ndarray
    divisor: np.ndarray

    @property
    def num_groups(self) -> int:
        """g."""
        return len(self.rows)

    @cached_property
    def sizes(self) -> np.ndarray:
        """``(g,)`` number of members of every group."""
        return np.bincount(self.index, minlength=self.num_groups)

    @cached_property
    def members(self) -> np.ndarray:
        """``(g, L)`` positions in ``variables``, padded with p, for layouts of equal length."""
        order = np.argsort(self.index, kind="stable")
        first = np.cumsum(self.sizes) - self.sizes
        group = self.index[order]
        members = np.full((self.num_groups, self.sizes.max(initial=0)), len(order))
        members[group, np.arange(len(order)) - first[group]] = order
        return members

    def totals(self, k: np.ndarray) -> np.ndarray:
        """``(*batch, g)`` sums of the groups from a feasible k, ``(*batch, m)``."""
        return k[..., self.rows] // self.divisor

    def capacity(self, totals: np.ndarray) -> int:
        """The largest number of ones, or of zeros if they are fewer, of a group of subsets with
        such ``(*batch, g)`` sums."""
        return int(np.minimum(totals, self.sizes - totals).max(initial=0))

    @cached_property
    def by_size(self) -> "tuple[GroupFibre, ...]":
        """The groups; in sets of similar sizes where one layout of all would be mostly empty."""
        if self.num_groups * self.sizes.max(initial=0) <= 4 * len(self.variables):
            return (self,)
        scale = np.ceil(np.log2(self.sizes)).astype(int)
        return tuple(self._chosen(np.flatnonzero(scale == size)) for size in np.unique(scale))

    def _chosen(self, groups: np.ndarray) -> "GroupFibre":
        number = np.full(self.num_groups, -1)
        number[groups] = np.arange(len(groups))
        index = number[self.index]
        return GroupFibre(
            variables=self.variables[index >= 0],
            index=index[index >= 0],
            rows=self.rows[groups],
            divisor=self.divisor[groups],
        )


@dataclass(frozen=True, eq=False)
class ChainSegment:
    """Consecutive columns of a chain with tables padded to one size, as a scan takes them.

    Attributes:
        start, stop: its columns are ``start..stop - 1``.
        size: T, at least the number of states of every level from ``start`` to ``stop``; it is
            the dead state everywhere.
        first: ``(stop - start, S)`` int32.
        next: ``(stop - start, S, W)`` int32.
    """

    start: int
    stop: int
    size: int
    first: np.ndarray
    next: np.ndarray


@dataclass(frozen=True, eq=False)
class FibreChain:
    """A walk that spends k: from what is left of it, column j takes away u times itself.

    The states of level j are what can be left before column j; those of level 0 are the
    right-hand sides, and level q has one state, nothing left. Every state is on a path to it.
    Where rows are dealt out, some levels are no columns but units of a row.

    Attributes:
        variables: ``(p,)`` the variables of the chain, ascending.
        column: ``(p,)`` the column of each; equal columns are one where merged.
        rows: ``(r,)`` the rows of A that the states are made of.
        coefficients: ``(c, r)`` int64, the columns.
        levels: ``(c,)`` the level of every column; -1 for those to which units are dealt.
        largest: ``(c,)`` a bound of the values of every column.
        deals: the rows that are dealt out, mostly none.
        starts: ``(S_0, r)`` the right-hand sides, in lexicographic order.
        sizes: ``(q + 1,)`` number of states of every level.
        num_values: ``(q,)`` number of values, 0..U_j-1, of every level.
        first: q arrays ``(S_j,)``, int32: the first value that a state can take, or zeros.
        next: q arrays ``(S_j, W_j)``, int32: the state of level j + 1 after that value, the one
            after it and so on, or ``sizes[j + 1]``, the dead state, where there is none.
    """

    variables: np.ndarray
    column: np.ndarray
    rows: np.ndarray
    coefficients: np.ndarray
    levels: np.ndarray
    largest: np.ndarray
    deals: tuple[Deal, ...]
    starts: np.ndarray
    sizes: np.ndarray
    num_values: np.ndarray
    first: tuple[np.ndarray, ...]
    next: tuple[np.ndarray, ...]

    @property
    def num_columns(self) -> int:
        """q, the number of levels but the last."""
        return len(self.next)

    @cached_property
    def columns(self) -> GroupFibre:
        """The variables as groups: those of one column share its value."""
        return GroupFibre(
            variables=self.variables,
            index=self.column,
            rows=np.arange(len(self.coefficients)),
            divisor=np.ones(len(self.coefficients), dtype=np.int64),
        )

    @property
    def num_transitions(self) -> int:
        """Entries of all tables, dead ones included: the work of one pass."""
        return sum(table.size for table in self.next)

    def values(self, level: int) -> np.ndarray:
        """``(S_j, W_j)`` the values that the entries of a table stand for; those past the last
        one, of dead entries, are the last one."""
        values = self.first[level][:, None] + np.arange(self.next[level].shape[1])
        return np.minimum(values, self.num_values[level] - 1)

    @cached_property
    def segments(self) -> tuple[ChainSegment, ...]:
        """All tables, in runs of similar sizes.

        Raises:
            IntractableConstraintError: more than 10^8 entries, nearly all of them padding.
        """
        return self._stacked(self.first, self.next, self.sizes[1:])

    @cached_property
    def before(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """The same walks read from their end: ``first`` and ``next`` of the ways back.

        Of the states of level j + 1, the first value of column j by which each is reached, and
        ``(S_{j+1}, W'_j)`` the states of level j that come before by that value, the one after it
        and so on, or ``sizes[j]`` where there is none.
        """
        found = [self._ways_back(level) for level in range(self.num_columns)]
        return tuple(first for first, _ in found), tuple(table for _, table in found)

    def _ways_back(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        source, place = np.nonzero(self.next[level] < self.sizes[level + 1])
        target, value = self.next[level][source, place], self.first[level][source] + place
        first = first_values(target, value, int(self.sizes[level + 1]))
        place = value - first[target]
        shape = len(first), int(place.max(initial=-1)) + 1
        table = np.full(shape, self.sizes[level], dtype=np.int32)
        table[target, place] = source
        return first, table

    @cached_property
    def segments_before(self) -> tuple[ChainSegment, ...]:
        """Those of ``before``, in the runs of ``segments``: state for state of the level after.

        Raises:
            IntractableConstraintError: more than 10^8 entries, nearly all of them padding.
        """
        return self._stacked(*self.before, self.sizes[:-1])

    @cached_property
    def _runs(self) -> list[slice]:
        widths = np.array([table.shape[1] for table in self.next], dtype=np.int64)
        ends = segment_ends(self.sizes[:-1], widths)
        for deal in self.deals:  # is a run of its own
            ends = [end for end in ends if not deal.start < end < deal.stop]
            ends = sorted({*ends, deal.start, deal.stop} - {0})
        return [slice(*pair) for pair in zip([0, *ends], ends, strict=False)]

    def _stacked(
        self, firsts: tuple[np.ndarray, ...], tables: tuple[np.ndarray, ...], targets: np.ndarray
    ) -> tuple[ChainSegment, ...]:
        """Tables padded to one size in every run; ``targets`` are the dead states in them."""
        shapes = [
            (run.stop - run.start, max(map(len, tables[run])), self._width(run, tables))
            for run in self._runs
        ]
        size = sum(prod(shape) for shape in shapes)
        budget = max(MAX_STACKED, 2 * self.num_transitions)
        if size > budget:
            raise IntractableConstraintError(
                f"tables of few sizes need {size} entries for {self.num_transitions} "
                f"transitions, the budget is {budget}; draw with FiberSampler instead, or "
                "use smaller totals."
            )
        return tuple(
            self._segment(run, shape, firsts, tables, targets)
            for run, shape in zip(self._runs, shapes, strict=True)
        )

    def _width(self, run: slice, tables: tuple[np.ndarray, ...]) -> int:
        """Of the tables of a segment, which begin with value 0 where that costs little."""
        narrow = max(table.shape[1] for table in tables[run])
        wide = int(self.num_values[run].max())
        return narrow if is_worth_offsets(narrow, wide) else wide

    def _segment(
        self,
        run: slice,
        shape: tuple[int, int, int],
        firsts: tuple[np.ndarray, ...],
        tables: tuple[np.ndarray, ...],
        targets: np.ndarray,
    ) -> ChainSegment:
        size = int(self.sizes[run.start : run.stop + 1].max())
        table, first = np.full(shape, size, dtype=np.int32), np.zeros(shape[:2], dtype=np.int32)
        for place, level in enumerate(range(run.start, run.stop)):
            state, column = np.nonzero(tables[level] < targets[level])
            target, lowest = tables[level][state, column], firsts[level]
            if shape[2] == self.num_values[run].max():
                table[place, state, lowest[state] + column] = target
            else:
                table[place, state, column] = target
                first[place, : len(lowest)] = lowest
        return ChainSegment(run.start, run.stop, size, first, table)

    def after(self, level: int, value: int) -> np.ndarray:
        """``(S_j + 1,)`` the states of the next level after one value; the dead one where it cannot
        be."""
        dead = int(self.sizes[level + 1])
        place = value - self.first[level]
        inside = (place >= 0) & (place < self.next[level].shape[1])
        found = np.full(len(inside) + 1, dead)
        found[:-1][inside] = self.next[level][inside, place[inside]]
        return found

    def units(self, deal: Deal) -> np.ndarray:
        """``(S_j + 1,)`` how many units the states where a deal begins have; 0 of the dead one."""
        units = np.zeros(int(self.sizes[deal.stop]) + 1, dtype=np.int64)
        for level in reversed(range(deal.start, deal.stop)):
            alive = self.next[level] < self.sizes[level + 1]
            first, states = alive.argmax(axis=1), np.arange(len(alive))
            is_spent = self.first[level] + first == len(deal.columns)
            left = units[self.next[level][states, first]] + ~is_spent
            units = np.append(np.where(is_spent, 0, left), 0)
        return units

    def start_of(self, k: np.ndarray) -> np.ndarray:
        """Level-0 states of the right-hand sides.

        Args:
            k: ``(*batch, m)`` integers.

        Returns:
            ``(*batch,)`` indices into ``starts``.

        Raises:
            InfeasibleConstraintError: a right-hand side that is none of ``starts``.
        """
        found = self.find(k)
        if (found < 0).any():
            where = tuple(int(i) for i in np.argwhere(found < 0)[0])
            raise InfeasibleConstraintError(
                f"k{list(where) if where else ''}: expected one of the {len(self.starts)} "
                f"right-hand sides of the plan on rows {self.rows.tolist()}, got "
                f"{k[where][self.rows].tolist()}; plan the fibre for this k."
            )
        return found

    def find(self, k: np.ndarray) -> np.ndarray:
        """As ``start_of``, with -1 where k is none of ``starts``."""
        given = k[..., self.rows]
        if len(self.starts) == 1:
            return np.where((given == self.starts[0]).all(axis=-1), 0, -1)
        everything = np.concatenate([self.starts, given.reshape(-1, len(self.rows))])
        _, label = np.unique(everything, axis=0, return_inverse=True)
        label = label.reshape(-1)
        start = np.full(len(everything), -1)
        start[label[: len(self.starts)]] = np.arange(len(self.starts))
        return start[label[len(self.starts) :]].reshape(given.shape[:-1])


@dataclass(frozen=True, eq=False)
class FibrePlan:
    """All that is known of ``{x integer : A x = k, 0 <= x <= upper}`` without parameters.

    Where parameters give some variables one value only, these are ``fixed``, and all else is said
    of the others, whose right-hand sides are ``sides(k)``.

    Attributes:
        num_rows: m.
        num_variables: n.
        independent: ``(r,)`` independent rows of A, ascending.
        entries: ``(r, n)`` these rows, sparse.
        upper: ``(n,)`` the largest value of every variable on any of the fibres; -1 for a
            variable in no row whose base law is unbounded.
        fixed: the variables of one value, or None.
        possible: ``(n, C)`` the values of positive probability of the chain's variables, or None
            where that is all of them.
        free: ``(f,)`` the variables in no row.
        groups: the independent blocks of one row with one coefficient, or None.
        tables: the independent blocks that are tables with independent rows and columns.
        margins: ``(R + C,)`` the largest sums of the rows and columns of every table.
        chain: all other variables, or None.
        lattice: the right-hand sides that have integer solutions.
        row_range: ``(2, m)`` floats, the least and the largest (A x)_i, infinite if unbounded.
    """

    num_rows: int
    num_variables: int
    independent: np.ndarray
    entries: sparse.csr_array
    upper: np.ndarray
    fixed: FixedFibre | None
    possible: np.ndarray | None
    free: np.ndarray
    groups: GroupFibre | None
    tables: tuple[TableFibre, ...]
    margins: tuple[np.ndarray, ...]
    chain: FibreChain | None
    lattice: Lattice
    row_range: np.ndarray

    @property
    def largest_terms(self) -> int:
        """A largest count of Poisson variables, by which digits are lost: those of a chain are
        lost in the sums over its columns too."""
        chained = 0 if self.chain is None else 1 + int(self.chain.largest.max(initial=-1))
        return max(int(self.upper.max(initial=0)), CHAINED_LOSS * chained)

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
        parts = [part.rows for part in (self.groups, self.chain) if part is not None]
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
        return inside if self.chain is None else inside & (self.chain.find(sides) >= 0)

    def sides(self, k: np.ndarray) -> np.ndarray:
        """``(*batch, m)`` what k leaves for the variables that are not fixed."""
        return k if self.fixed is None else k - self.fixed.shift
