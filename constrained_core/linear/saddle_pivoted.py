"""Saddle-point matrices of scales that differ by much: Q is diagonal and positive.

An elimination that stays symmetric adds up squares of scales in the rows of A, where those of the
small ones are lost. With pivots chosen by size (SciPy's SuperLU), and rows of A so large that no
pivot of Q comes before one of theirs, variables are taken from rows that hold them, nothing is
squared, and determinant and inverse keep their digits whatever the scales are. That takes several
times as long, and columns of the inverse one by one.
"""

from functools import cached_property

import numpy as np
from scipy.sparse.linalg import splu

from constrained_core.linear.saddle_factor import SaddleFactor
from constrained_core.linear.saddle_pattern import SaddlePattern
from constrained_core.linear.saddle_refined import REFINEMENTS, RefinedFactor

__all__ = ["PivotedFactor", "ScalesFactor"]

COLUMNS = 64
"""Columns of the inverse that are made at once."""
SINGULAR = 1e-3
"""Relative change of a solution by its last refinement from which a matrix has no inverse."""
SMALL_SIZE = 300
"""Size of a matrix up to which all digits are worth their time."""
NARROW = 1e-4
"""What is left of a row, or of the variance of a variable, below which a symmetric factor has lost
digits: four, and twice as many of a matrix that is not small."""
WORK = 2e9
"""Products that the digits of a selected inverse may take: seconds."""
FEW_DIGITS = 1e-11
"""Clearance of a symmetric factor below which they are taken whatever they take."""
UNEVEN = 1e2
"""Ratio of entries of A times scales from which small variances tell of scales."""


class PivotedFactor(RefinedFactor):
    """K with known values, factored with exchanges of rows.

    Args:
        pattern: of K.
        values: ``(nq + 2 na,)`` its entries; they may be complex, for derivatives by a complex
            step.

    Raises:
        LinAlgError: K is singular.
    """

    def __init__(self, pattern: SaddlePattern, values: np.ndarray) -> None:
        super().__init__(pattern, values, pattern.steep_scale(values))
        self._is_even = False  # multipliers are of the size of the small scales
        whole = self._whole.tocsc()
        try:
            self._factor = splu(whole, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=1.0)
        except RuntimeError as error:  # a pivot is exactly zero
            raise np.linalg.LinAlgError("singular") from error
        if np.isrealobj(values) and not self._is_regular():
            raise np.linalg.LinAlgError("singular up to rounding")

    def _is_regular(self) -> bool:
        right = np.random.default_rng(0).standard_normal((1, self.pattern.size))
        solution = self._solve(right)
        for _ in range(REFINEMENTS):
            change = self._solve(self._residual(solution, right))
            solution += change
            if np.abs(change).max(initial=0.0) <= SINGULAR * np.abs(solution).max(initial=0.0):
                return True
        return False

    num_late = 0

    @property
    def num_entries(self) -> int:
        """Entries of the factor."""
        return int(self._factor.nnz)

    @cached_property
    def log_det(self) -> float:
        """log |det K|."""
        scaled = np.log(np.abs(self._factor.U.diagonal())).sum()
        return float(scaled - 2 * np.log(self.scale).sum())

    def _solve(self, right: np.ndarray) -> np.ndarray:
        return self._factor.solve(np.asfortranarray(right.T, dtype=self._whole.dtype)).T

    def fill_inverse(self, values: np.ndarray, is_asked: np.ndarray) -> None:
        """Put what the columns ``is_asked`` of variables have of the selected inverse into all its
        values ``(nq + na,)``."""
        row, column = self.pattern.inverse_entries
        entries = np.flatnonzero(is_asked[column])
        entries = entries[np.argsort(column[entries], kind="stable")]
        asked, place = np.unique(column[entries], return_inverse=True)
        first = np.searchsorted(place, np.arange(0, len(asked) + COLUMNS, COLUMNS))
        for i, start in enumerate(range(0, len(asked), COLUMNS)):
            columns = asked[start : start + COLUMNS]
            unit = np.zeros((len(columns), self.pattern.size))
            every = np.arange(len(columns))
            unit[every, columns] = 1.0
            inverse = self._solve(unit)
            is_small = np.abs(inverse[every, columns]) < NARROW
            if is_small.any() and np.isrealobj(inverse):
                inverse[is_small] = self._refined(unit[is_small])
            inverse *= self.scale[columns, None] * self.scale
            inside = entries[first[i] : first[i + 1]]
            values[inside] = inverse[place[first[i] : first[i + 1]] - start, row[inside]]


class ScalesFactor:
    """K with known values, by the factor that keeps their digits.

    Args:
        pattern: of K.
        values: ``(nq + 2 na,)`` its entries; they may be complex.
        symmetric: its symmetric factor, if there is one.

    Raises:
        LinAlgError: K is singular.
    """

    def __init__(
        self, pattern: SaddlePattern, values: np.ndarray, symmetric: SaddleFactor | None
    ) -> None:
        self.pattern, self._values, self._symmetric = pattern, values, symmetric
        self._enough = NARROW if pattern.size <= SMALL_SIZE else NARROW**2
        self._is_clear = symmetric is not None and symmetric.clearance >= self._enough
        self._best: SaddleFactor | PivotedFactor = (
            symmetric if symmetric is not None and self._is_clear else self._pivoted
        )

    @cached_property
    def _pivoted(self) -> PivotedFactor:
        return PivotedFactor(self.pattern, self._values)

    def moved(self, values: np.ndarray) -> "ScalesFactor":
        """Of other values of K close by."""
        symmetric = None if self._symmetric is None else self._symmetric.moved(values)
        return ScalesFactor(self.pattern, values, symmetric)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``K^-1 right`` for ``(..., n + r)``."""
        return self._best.solve(right)

    @property
    def log_det(self) -> float:
        """log |det K|."""
        return self._best.log_det

    @property
    def loss(self) -> float:
        """Relative error of what is found without refinement, where it may be large."""
        return self._best.loss

    @property
    def num_entries(self) -> int:
        """Entries of the factor."""
        return self._best.num_entries

    @property
    def num_late(self) -> int:
        """Indices that come last, where the factor is dense."""
        return self._best.num_late

    @cached_property
    def selected_inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """``K^-1`` where Q has entries, ``(nq,)``, and where A has, ``(na,)``."""
        size = len(self.pattern.q_row)
        if self._symmetric is None:
            values = np.zeros(size + len(self.pattern.a_row), self._values.dtype)
            is_weak = np.ones(self.pattern.num_variables, dtype=bool)
        else:
            values = np.concatenate(self._symmetric.selected_inverse)
            is_weak = self._is_weak(values[:size])
        if is_weak.any():
            self._pivoted.fill_inverse(values, is_weak)
        return values[:size], values[size:]

    def _is_weak(self, on_q: np.ndarray) -> np.ndarray:
        """Columns of the symmetric inverse to be made anew, where that is worth its time."""
        n = self.pattern.num_variables
        is_weak = np.ones(n, dtype=bool)
        if self._is_clear:
            a = self.pattern.white_rows(self._values)[1]
            is_uneven = a.max(initial=0.0) > UNEVEN * a.min(initial=np.inf, where=a > 0)
            share = np.abs(on_q * self._values[:n])
            is_weak[self.pattern.q_row] = (share < self._enough) & is_uneven
            if self.pattern.settled is not None:
                is_weak[self.pattern.settled] = False
        has_digits = self._symmetric is not None and self._symmetric.clearance >= FEW_DIGITS
        if has_digits and is_weak.any():
            is_dear = float(is_weak.sum()) * self._pivoted.num_entries > WORK
            is_weak &= not is_dear
        return is_weak
