"""The lattice of a matrix: an echelon basis of the integer combinations of its columns.

Python integers throughout. The basis is that of the Hermite normal form (Cohen 1993, section 2.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

from constrained_core.errors import InfeasibleConstraintError

__all__ = ["EchelonBasis", "echelon_basis"]


@dataclass(frozen=True, eq=False)
class EchelonBasis:
    """A basis in which right-hand sides are resolved row by row.

    Attributes:
        entries: ``(m, r)`` Python integers; column j is zero in the rows before its pivot.
        order: ``(m,)`` the order of the rows.
        pivots: ``(r,)`` the pivot row of every column, in this order.
    """

    entries: np.ndarray
    order: np.ndarray
    pivots: np.ndarray

    def check(self, k: np.ndarray) -> None:
        """Check that every ``k (*batch, m)`` has integer coordinates in the basis.

        Raises:
            InfeasibleConstraintError: rows that disagree, or a divisibility that fails.
        """
        word = self._word(int(np.abs(k).max(initial=0)))
        given = k.reshape(-1, len(self.order)).astype(word)
        entries, rank = self.entries.astype(word), len(self.pivots)
        found, column = np.zeros((len(given), rank), dtype=word), 0
        for row in self.order:
            left = given[:, row] - found[:, :column] @ entries[row, :column]
            if column < rank and self.pivots[column] == row:
                pivot = entries[row, column]
                self._require(left % pivot == 0, k, row, column, is_pivot=True)
                found[:, column] = left // pivot
                column += 1
            else:
                self._require(left == 0, k, row, column, is_pivot=False)

    def contains(self, k: np.ndarray) -> np.ndarray:
        """``(*batch,)`` which of ``k (*batch, m)`` have integer coordinates in the basis."""
        word = self._word(int(np.abs(k).max(initial=0)))
        given = k.reshape(-1, len(self.order)).astype(word)
        entries, rank = self.entries.astype(word), len(self.pivots)
        found, column = np.zeros((len(given), rank), dtype=word), 0
        inside = np.ones(len(given), dtype=bool)
        for row in self.order:
            left = given[:, row] - found[:, :column] @ entries[row, :column]
            if column < rank and self.pivots[column] == row:
                found[:, column] = left // entries[row, column]
                left = left - found[:, column] * entries[row, column]
                column += 1
            inside &= (left == 0).astype(bool)
        return inside.reshape(k.shape[:-1])

    def _word(self, largest: int) -> np.dtype:
        """The type int64 where no intermediate result can overflow, else Python integers."""
        bounds: list[int] = []
        peak = max((abs(int(entry)) for entry in self.entries.flat), default=0)
        for row in self.order:
            terms = zip(self.entries[row], bounds, strict=False)
            size = largest + sum(abs(entry) * bound for entry, bound in terms)
            peak = max(peak, size)
            if len(bounds) < len(self.pivots) and self.pivots[len(bounds)] == row:
                bounds.append(size // self.entries[row, len(bounds)])
        return np.dtype(np.int64 if peak < 2**62 else object)

    def _require(
        self, holds: np.ndarray, k: np.ndarray, row: int, column: int, *, is_pivot: bool
    ) -> None:
        holds = np.asarray(holds, dtype=bool)
        if holds.all():
            return
        where = [int(i) for i in np.unravel_index(int(np.argmin(holds)), k.shape[:-1])]
        values = k[tuple(where)].tolist()
        if is_pivot:
            why = self._indivisible(values, column)
        else:
            why = self._disagreement(values, row, column)
        place = f"with k{where}, " if where else ""
        raise InfeasibleConstraintError(f"A x = k has no integer solution: {place}{why}.")

    def _disagreement(self, k: list[int], row: int, rank: int) -> str:
        """A redundant row in terms of others, and what they imply."""
        rows = self.pivots[:rank]
        weights = self._combination(self.entries[row, :rank], rows)
        implied = sum(w * k[i] for w, i in zip(weights, rows, strict=True))
        return (
            f"row {row} of A is {_text(weights, rows)}, so that k[{row}] should be {implied}, got "
            f"{k[row]}, a disagreement of {abs(implied - k[row])}; correct k, or drop the row"
        )

    def _indivisible(self, k: list[int], column: int) -> str:
        """A combination of rows whose entries have a divisor that k there does not have."""
        rows = self.pivots[: column + 1]
        weights = self._combination([0] * column + [1], rows)
        divisor = lcm(*(w.denominator for w in weights))
        whole = [int(w * divisor) % divisor for w in weights]
        whole = [w - divisor if 2 * w > divisor else w for w in whole]
        value = sum(w * k[i] for w, i in zip(whole, rows, strict=True))
        return (
            f"the entries of {_text(whole, rows)} of A are multiples of {divisor}, but k there is "
            f"{value}; correct k"
        )

    def relation(self, row: int) -> np.ndarray:
        """``(m,)`` Python integers y with ``y k = 0`` for all k of the lattice, not zero in a row
        that is no pivot."""
        weights = self._combination(self.entries[row], self.pivots)
        factor = lcm(*(weight.denominator for weight in weights))
        found = np.zeros(len(self.order), dtype=object)
        found[self.pivots] = [-int(weight * factor) for weight in weights]
        found[row] = factor
        return found

    def _combination(self, right: Sequence[int] | np.ndarray, rows: np.ndarray) -> list[Fraction]:
        """The weights with ``weights @ entries[rows] = right``, by back substitution."""
        rest = [Fraction(int(value)) for value in right]
        weights = [Fraction(0)] * len(rows)
        for j in reversed(range(len(rows))):
            weights[j] = rest[j] / int(self.entries[rows[j], j])
            for i in range(j + 1):
                rest[i] -= weights[j] * int(self.entries[rows[j], i])
        return weights


def echelon_basis(matrix: np.ndarray, order: np.ndarray) -> EchelonBasis:
    """Basis of the integer combinations of columns, by Euclid's algorithm row after row.

    Args:
        matrix: ``(m, n)`` int64.
        order: ``(m,)`` the order in which rows are resolved.
    """
    vectors = _widened(np.unique(matrix, axis=1).T)
    pivots: list[int] = []
    for row in order:
        top = len(pivots)
        while np.count_nonzero(vectors[top:, row]) > 1:
            candidates = top + np.flatnonzero(vectors[top:, row])
            least = candidates[np.argmin(np.abs(vectors[candidates, row]))]
            vectors = _reduced(vectors, candidates[candidates != least], least, row)
        if not vectors[top:, row].any():
            continue
        found = top + int(np.flatnonzero(vectors[top:, row])[0])
        vectors[[top, found]] = vectors[[found, top]]
        vectors[top] *= 1 if vectors[top, row] > 0 else -1
        # Entries of the basis stay below their pivot, so that they do not grow.
        vectors = _reduced(vectors, np.arange(top), top, row)
        pivots.append(int(row))
    entries = vectors[: len(pivots)].T.astype(object)
    return EchelonBasis(entries, order, np.array(pivots, dtype=np.int64))


def _reduced(vectors: np.ndarray, others: np.ndarray, by: int, row: int) -> np.ndarray:
    """Multiples of one vector taken from others, so that theirs is the remainder in a row."""
    factor = vectors[others, row] // vectors[by, row]
    large = np.flatnonzero(factor)
    vectors[others[large]] -= factor[large, None] * vectors[by]
    return _widened(vectors)


def _widened(vectors: np.ndarray) -> np.ndarray:
    """Python integers where products could pass 64 bits."""
    is_small = vectors.dtype == object or np.abs(vectors).max(initial=0) < 2**31
    return vectors if is_small else vectors.astype(object)


def _text(weights: Sequence[Fraction | int], rows: np.ndarray) -> str:
    terms = []
    for weight, row in zip(weights, rows, strict=True):
        if weight:
            size = "" if abs(weight) == 1 else f"{abs(weight)} "
            terms.append(f"{'-' if weight < 0 else '+'} {size}row {row}")
    return " ".join(terms).removeprefix("+ ")
