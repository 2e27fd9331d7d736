"""Exact integer algebra of ``A x = k``: which right-hand sides have integer solutions, and why not.

Everything is done with integers: the columns of A are reduced to a basis of the lattice that they
generate (Hermite normal form, see Cohen 1993, section 2.4), and k is resolved in this basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from constrained_core.groups import GroupSum

__all__ = ["Lattice", "as_integers", "lattice_of"]

LARGEST = 2**53
"""Integers up to here survive a way through floats."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The right-hand sides ``{A x : x integer}``.

    Attributes:
        num_rows: m.
        kept: ``(r,)`` independent rows of A, ascending; sparse rows are preferred.
        basis: ``(m, r)`` Python integers, a basis in echelon form: column j is zero in the rows
            resolved before its pivot. None where every row is alone.
        order: ``(m,)`` the order in which rows are resolved.
        pivots: ``(r,)`` the pivot row of every column of the basis.
        divisor: ``(m,)`` greatest common divisor of every row, 0 for a row of zeros.
    """

    num_rows: int
    kept: np.ndarray
    basis: np.ndarray | None
    order: np.ndarray
    pivots: np.ndarray
    divisor: np.ndarray

    def check(self, k: np.ndarray) -> None:
        """Check that ``A x = k`` has an integer solution x, of any sign.

        Args:
            k: ``(*batch, m)`` integers.

        Raises:
            InfeasibleConstraintError: rows that disagree, or a divisibility that fails.
        """
        self._check_rows(k)
        if self.basis is not None and k.size:
            self._resolve(k)

    def _check_rows(self, k: np.ndarray) -> None:
        wrong = np.where(self.divisor > 0, k % np.maximum(self.divisor, 1), k) != 0
        if not wrong.any():
            return
        *where, row = (int(i) for i in np.argwhere(wrong)[0])
        value, divisor = int(k[(*where, row)]), int(self.divisor[row])
        why = f"the entries of row {row} of A are multiples of {divisor}, {value} is not"
        if divisor == 0:
            why = f"row {row} of A is zero, {value} is not"
        raise InfeasibleConstraintError(
            f"A x = k has no integer solution: {why} (k[{_index(where, row)}]); correct k."
        )

    def _resolve(self, k: np.ndarray) -> None:
        """Coordinates of k in the basis, row by row; each must be an integer."""
        given = k.reshape(-1, self.num_rows).astype(self._word(k))
        basis = self.basis.astype(given.dtype)
        found = np.zeros((len(given), len(self.pivots)), dtype=given.dtype)
        column = 0
        for row in self.order:
            left = given[:, row] - found[:, :column] @ basis[row, :column]
            if column < len(self.pivots) and self.pivots[column] == row:
                pivot = basis[row, column]
                self._require(left % pivot == 0, k, row, column)
                found[:, column] = left // pivot
                column += 1
            else:
                self._require(left == 0, k, row, column)

    def _word(self, k: np.ndarray) -> type:
        """int64 where no intermediate result can overflow, else Python integers."""
        largest, bound = int(np.abs(k).max(initial=0)), [0] * len(self.pivots)
        column, peak = 0, 0
        for row in self.order:
            terms = zip(self.basis[row, :column], bound, strict=False)
            size = largest + sum(abs(a) * b for a, b in terms)
            peak = max(peak, size)
            if column < len(self.pivots) and self.pivots[column] == row:
                bound[column] = size // abs(self.basis[row, column])
                column += 1
        fits = peak < 2**62 and all(abs(a) < 2**62 for a in self.basis.flat)
        return np.int64 if fits else object

    def _require(self, holds: np.ndarray, k: np.ndarray, row: int, column: int) -> None:
        holds = np.asarray(holds, dtype=bool)
        if holds.all():
            return
        where = [int(i) for i in np.unravel_index(int(np.argmin(holds)), k.shape[:-1])]
        values = [int(v) for v in k[tuple(where)]]
        is_pivot = column < len(self.pivots) and self.pivots[column] == row
        why = self._indivisible(values, column) if is_pivot else self._disagreement(values, row)
        place = f"k[{', '.join(map(str, where))}]: " if where else ""
        raise InfeasibleConstraintError(f"A x = k has no integer solution: {place}{why}.")

    def _disagreement(self, k: list[int], row: int) -> str:
        """A redundant row in terms of the others, and what they imply."""
        rows = self.pivots[: np.count_nonzero(_before(self.pivots, row, self.order))]
        weights = self._solve(self.basis[row, : len(rows)], rows)
        implied = sum(w * k[i] for w, i in zip(weights, rows, strict=True))
        return (
            f"row {row} of A is {_combination(weights, rows)}, so that k[{row}] should be "
            f"{implied}, got {k[row]}, a disagreement of {abs(implied - k[row])}; correct k, or "
            "drop the row"
        )

    def _indivisible(self, k: list[int], column: int) -> str:
        """A combination of rows whose entries have a divisor that k there does not have."""
        rows = self.pivots[: column + 1]
        unit = [0] * column + [1]
        weights = self._solve(unit, rows)
        divisor = int(np.lcm.reduce([w.denominator for w in weights], dtype=object))
        whole = [int(w * divisor) % divisor for w in weights]
        whole = [Fraction(w - divisor if 2 * w > divisor else w) for w in whole]
        value = sum(w * k[i] for w, i in zip(whole, rows, strict=True))
        return (
            f"the entries of {_combination(whole, rows)} of A are multiples of {divisor}, k "
            f"there is {value}, which is not; correct k"
        )

    def _solve(self, right: Sequence[int], rows: np.ndarray) -> list[Fraction]:
        """The combination of basis rows, ``weights @ basis[rows]``, that equals ``right``."""
        rest = [Fraction(int(value)) for value in right]
        weights = [Fraction(0)] * len(rows)
        for j in reversed(range(len(rows))):
            weights[j] = rest[j] / int(self.basis[rows[j], j])
            for i in range(j + 1):
                rest[i] -= weights[j] * int(self.basis[rows[j], i])
        return weights


def as_integers(name: str, values: Any) -> np.ndarray:
    """Values of any dtype as int64.

    Raises:
        ConstraintError: a value that is not a whole number, or too large to be one exactly.
    """
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        return values.astype(np.int64)
    with np.errstate(invalid="ignore"):
        wrong = ~((np.rint(values) == values) & (np.abs(values) <= LARGEST))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = f" at {where}" if where else ""
        raise ConstraintError(
            f"{name}: a discrete law needs integers of at most 2**53, got {values[where]}{place}; "
            f"multiply the row of A and its k by a common denominator, or round {name}."
        )
    return values.astype(np.int64)


def lattice_of(matrix: np.ndarray | GroupSum) -> Lattice:
    """The lattice of a matrix of int64, ``(m, n)``, or of groups with integer weights."""
    num_rows = matrix.shape[0]
    if isinstance(matrix, GroupSum):
        divisor = np.zeros(num_rows, dtype=np.int64)
        weights = 1 if matrix.weights is None else as_integers("weights", matrix.weights)
        np.gcd.at(divisor, matrix.index, weights)
        kept = np.flatnonzero(divisor)
        return Lattice(num_rows, kept, None, np.arange(num_rows), kept, divisor)
    divisor = np.gcd.reduce(matrix, axis=1, initial=0)
    order = np.argsort(np.count_nonzero(matrix, axis=1), kind="stable")
    basis, pivots = _hermite(np.unique(matrix, axis=1).T.astype(object), order)
    return Lattice(num_rows, np.sort(pivots), basis, order, pivots, divisor)


def _hermite(vectors: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Echelon basis ``(m, r)`` of the integer combinations of ``vectors (c, m)``; its pivots."""
    pivots: list[int] = []
    for row in order:
        top = len(pivots)
        rest = vectors[top:]
        while np.count_nonzero(rest[:, row]) > 1:
            candidates = np.flatnonzero(rest[:, row])
            least = candidates[np.argmin(np.abs(rest[candidates, row]))]
            factor = rest[:, row] // rest[least, row]
            factor[least] = 0
            rest -= factor[:, None] * rest[least]
        if not rest[:, row].any():
            continue
        found = top + int(np.flatnonzero(rest[:, row])[0])
        vectors[[top, found]] = vectors[[found, top]]
        vectors[top] *= 1 if vectors[top, row] > 0 else -1
        # Entries of the basis stay below their pivot, so that they do not grow.
        factor = vectors[:top, row] // vectors[top, row]
        vectors[:top] -= factor[:, None] * vectors[top]
        pivots.append(int(row))
    return vectors[: len(pivots)].T, np.array(pivots, dtype=np.int64)


def _before(rows: np.ndarray, row: int, order: np.ndarray) -> np.ndarray:
    """Which rows are resolved before ``row``."""
    rank = np.argsort(order)
    return rank[rows] < rank[row]


def _combination(weights: Sequence[Fraction], rows: np.ndarray) -> str:
    terms = []
    for weight, row in zip(weights, rows, strict=True):
        if weight:
            size = "" if abs(weight) == 1 else f"{abs(weight)} "
            terms.append(f"{'-' if weight < 0 else '+'} {size}row {row}")
    return " ".join(terms).removeprefix("+ ")


def _index(where: list[int], row: int) -> str:
    return ", ".join(map(str, [*where, row]))
