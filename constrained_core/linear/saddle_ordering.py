"""The order in which a saddle-point matrix is eliminated: chosen once for a pattern.

A fill-reducing order (minimum degree, SciPy's SuperLU) of K = [[Q, A'], [A, 0]] may reach a row of
A before its variables, where the diagonal has no pivot. A trial factorisation with exchanges of
rows tells where that is; these indices come last, in a small dense matrix. If they are many, all
rows of A come after all variables.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import SuperLU, splu

from constrained_core.linear.elimination_tree import Supernodes
from constrained_core.linear.saddle_pattern import SaddlePattern

__all__ = ["SMALL_PIVOT", "Ordering", "factor_in_order", "order_saddle", "postponed"]

SMALL_PIVOT = 1e-9
"""Pivot of a matrix of entries of about one, below which an index is taken late."""
MAX_DENSE = 64
"""Rows of A that are late for the number of their entries."""
MAX_EXCHANGED = 64
"""Exchanges from which all rows of A come after all variables."""
MAX_TRIALS = 64
MAX_TIES = 16
"""Directions that are looked for at once along which a matrix is all but singular."""
SINGULAR = 1e8
"""Growth of a unit vector by the inverse of such a matrix."""
NUDGE = 1e-13
EXCHANGE = 0.01
"""Pivots below this share of their column are exchanged in a trial."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """Where the indices of K go.

    Attributes:
        pattern: of K.
        early: ``(n + r - t,)`` indices of K in the order of elimination.
        late: ``(t,)`` the others.
    """

    pattern: SaddlePattern
    early: np.ndarray
    late: np.ndarray
    _lower_places: tuple[sparse.csc_array, np.ndarray] | None = None  # of the latest L

    @cached_property
    def order(self) -> np.ndarray:
        """``(n + r,)`` all indices."""
        return np.concatenate([self.early, self.late])

    @cached_property
    def place(self) -> np.ndarray:
        """``(n + r,)`` the place of every index."""
        return np.argsort(self.order)

    @cached_property
    def has_variables_first(self) -> bool:
        """Whether all variables are early, before any row."""
        n = self.pattern.num_variables
        return len(self.early) >= n and bool((self.early[:n] < n).all())

    @cached_property
    def _blocks(self) -> tuple["_Block", "_Block", "_Block"]:
        row, column = (self.place[index] for index in self.pattern.entries)
        first, last = len(self.early), len(self.late)
        is_early = row < first, column < first
        return (
            _Block.of(is_early[0] & is_early[1], row, column, (first, first)),
            _Block.of(is_early[0] & ~is_early[1], row, column - first, (first, last)),
            _Block.of(~is_early[0] & ~is_early[1], row - first, column - first, (last, last)),
        )

    def split(self, values: np.ndarray) -> tuple[sparse.csc_array, np.ndarray, np.ndarray]:
        """K11, and K12 and K22 as dense matrices, from the values of K."""
        first, across, last = self._blocks
        return first.fill(values), across.fill(values).toarray(), last.fill(values).toarray()

    @cached_property
    def supernodes(self) -> Supernodes:
        """Of the triangle of K11, whatever the values."""
        pattern = self._blocks[0].pattern
        if len(self.early):
            pattern = factor_in_order(_dominant(pattern)).L.tocsc().sorted_indices()
        return Supernodes(pattern)

    def spread(self, lower: sparse.csc_array) -> np.ndarray:
        """The store of the supernodes, filled with L."""
        places = self._lower_places
        if places is None or not _same_pattern(places[0], lower):
            column = np.repeat(np.arange(lower.shape[0]), np.diff(lower.indptr))
            places = lower, self.supernodes.places(lower.indices, column)
            object.__setattr__(self, "_lower_places", places)
        store = np.zeros(self.supernodes.store_size, dtype=lower.dtype)
        store[places[1]] = lower.data
        return store

    @cached_property
    def inverse_places(self) -> tuple[np.ndarray, np.ndarray]:
        """Entries of Q and A that lie in K11, and their places in the store of its supernodes."""
        row, column = (self.place[index] for index in self.pattern.inverse_entries)
        inside = np.flatnonzero(np.maximum(row, column) < len(self.early))
        row, column = row[inside], column[inside]
        return inside, self.supernodes.places(np.maximum(row, column), np.minimum(row, column))


def _same_pattern(one: sparse.csc_array, other: sparse.csc_array) -> bool:
    return np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of K by columns: its data are ``values[order]``."""

    order: np.ndarray
    pattern: sparse.csc_array

    @classmethod
    def of(
        cls, inside: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]
    ) -> "_Block":
        order = np.flatnonzero(inside)
        order = order[np.lexsort((row[order], column[order]))]
        counts = np.bincount(column[order], minlength=shape[1])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        index = row[order].astype(np.int32)
        return cls(order, sparse.csc_array((np.ones(len(order)), index, starts), shape=shape))

    def fill(self, values: np.ndarray) -> sparse.csc_array:
        pattern = self.pattern
        return sparse.csc_array(
            (values[self.order], pattern.indices, pattern.indptr), shape=pattern.shape
        )


def factor_in_order(matrix: sparse.csc_array, exchange: float = 0.0) -> SuperLU:
    """LU without reordering columns, and with pivots on the diagonal unless they are small."""
    return splu(
        matrix,
        permc_spec="NATURAL",
        diag_pivot_thresh=exchange,
        options={"SymmetricMode": True},
    )


def order_saddle(pattern: SaddlePattern, scaled: np.ndarray) -> Ordering:
    """An order that serves these values of K, scaled to about one."""
    ordering = _by_degree(pattern)
    dense = len(ordering.late)
    for _ in range(MAX_TRIALS):
        weak = _without_pivot(ordering, scaled, EXCHANGE)
        if len(ordering.late) - dense + len(weak) > MAX_EXCHANGED:
            return _variables_first(pattern, scaled)
        if len(weak) == 0:
            break
        ordering = postponed(ordering, weak)
    return ordering


def _variables_first(pattern: SaddlePattern, scaled: np.ndarray) -> Ordering:
    """All variables, then all rows: K11 has the signs of Q, then of -A Q^-1 A'."""
    n = pattern.num_variables
    row, column = pattern.entries
    ones = sparse.csc_array((np.ones(len(row)), (row, column)), shape=(pattern.size,) * 2)
    variables = _minimum_degree(ones[:n, :n])
    rows = ones[n:, :n]
    ordering = Ordering(
        pattern,
        np.concatenate([variables, n + _minimum_degree((rows @ rows.T).tocsc())]),
        np.zeros(0, dtype=np.int64),
    )
    for _ in range(MAX_TRIALS):
        weak = _without_pivot(ordering, scaled, 0.0)
        if len(weak) == 0:
            break
        ordering = postponed(ordering, weak)
    return ordering


def _by_degree(pattern: SaddlePattern) -> Ordering:
    counts = np.bincount(pattern.a_row, minlength=pattern.num_rows)
    many = np.flatnonzero(counts > 10 * np.sqrt(pattern.size))
    late = pattern.num_variables + many[np.argsort(-counts[many])][:MAX_DENSE]
    others = np.setdiff1d(np.arange(pattern.size), late)
    unordered = Ordering(pattern, others, late)
    order = _minimum_degree(unordered._blocks[0].pattern)
    return Ordering(pattern, others[order], late)


def _minimum_degree(pattern: sparse.csc_array) -> np.ndarray:
    """The indices in the order of elimination."""
    if pattern.shape[0] == 0:
        return np.zeros(0, dtype=np.int64)
    factor = splu(
        _dominant(pattern),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.argsort(factor.perm_c)


def _dominant(pattern: sparse.csc_array) -> sparse.csc_array:
    """A diagonally dominant matrix of this pattern, whose factor has all entries that any has."""
    column = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    off = pattern.indices != column
    wave = 1.5 + np.cos(column[off] + 1.7 * pattern.indices[off]) / 3  # no sum of them is zero
    matrix = sparse.csc_array((-wave, (pattern.indices[off], column[off])), shape=pattern.shape)
    diagonal = 1.0 + abs(matrix).sum(0) + abs(matrix).sum(1)
    return (matrix + sparse.diags_array(diagonal)).tocsc().sorted_indices()


def _without_pivot(ordering: Ordering, scaled: np.ndarray, exchange: float) -> np.ndarray:
    """Early places that have no pivot on the diagonal, or along which K11 is all but singular."""
    matrix = ordering.split(scaled)[0]
    if matrix.shape[0] == 0:
        return np.zeros(0, dtype=np.int64)
    is_variable = ordering.early < ordering.pattern.num_variables
    nudge = np.where(is_variable, NUDGE, -NUDGE)  # nothing is exactly singular
    factor = factor_in_order((matrix + sparse.diags_array(nudge)).tocsc(), exchange)
    small = np.argsort(factor.perm_c)[np.abs(factor.U.diagonal()) < SMALL_PIVOT]
    exchanged = np.flatnonzero(factor.perm_r != factor.perm_c)
    weak = np.union1d(small, exchanged)
    return weak if len(weak) else _ties(factor)


def _ties(factor: SuperLU) -> np.ndarray:
    """Places that tie the vectors down which a matrix all but annuls: where they are large."""
    size = factor.shape[0]
    vectors = np.random.default_rng(0).standard_normal((size, min(size, MAX_TIES)))
    for _ in range(2):
        vectors = factor.solve(vectors / np.linalg.norm(vectors, axis=0))
    annulled = vectors[:, np.linalg.norm(vectors, axis=0) > SINGULAR]
    if annulled.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    triangle, places = linalg.qr(annulled.T, mode="r", pivoting=True)
    size_of = np.abs(np.diagonal(triangle))
    return np.sort(places[: int((size_of > 1e-3 * size_of[0]).sum())])


def postponed(ordering: Ordering, places: np.ndarray) -> Ordering:
    """The order with early places last."""
    early = np.delete(ordering.early, places)
    return Ordering(
        ordering.pattern, early, np.concatenate([ordering.late, ordering.early[places]])
    )
