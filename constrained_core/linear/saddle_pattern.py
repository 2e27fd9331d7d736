"""Where a saddle-point matrix has entries."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from constrained_core.cache import ByContent
from constrained_core.linear.structure import power_of_two_scale

__all__ = ["SaddlePattern"]


@dataclass(frozen=True, eq=False)
class SaddlePattern(ByContent):
    """Where Q and A of K = [[Q, A'], [A, 0]] have entries.

    Attributes:
        q_row, q_column: ``(nq,)`` entries of the symmetric Q, both triangles, each once.
        a_row, a_column: ``(na,)`` entries of A, each once.
        num_variables: n.
        num_rows: r.
        settled: ``(d,)`` variables that A x = k alone determines, or None: their entries of the
            inverse are rounding.
    """

    q_row: np.ndarray
    q_column: np.ndarray
    a_row: np.ndarray
    a_column: np.ndarray
    num_variables: int
    num_rows: int
    settled: np.ndarray | None = None

    @property
    def size(self) -> int:
        """n + r."""
        return self.num_variables + self.num_rows

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """``(nq + 2 na,)`` rows and columns of the entries of K: Q, A and A'."""
        below = self.a_row + self.num_variables
        row = np.concatenate([self.q_row, below, self.a_column])
        return row, np.concatenate([self.q_column, self.a_column, below])

    @cached_property
    def of_precision(self) -> "SaddlePattern":
        """That of Q alone."""
        none = np.zeros(0, dtype=np.int64)
        return SaddlePattern(self.q_row, self.q_column, none, none, self.num_variables, 0)

    @property
    def inverse_entries(self) -> tuple[np.ndarray, np.ndarray]:
        """``(nq + na,)`` rows and columns of those of Q and A."""
        row, column = self.entries
        count = len(self.q_row) + len(self.a_row)
        return row[:count], column[:count]

    def values(self, q: np.ndarray, a: np.ndarray) -> np.ndarray:
        """``(nq + 2 na,)`` values of the entries of K."""
        return np.concatenate([q, a, a])

    @cached_property
    def is_diagonal(self) -> bool:
        """Whether Q has entries on its diagonal only."""
        return len(self.q_row) == self.num_variables and bool((self.q_row == self.q_column).all())

    def filled(self, values: np.ndarray) -> sparse.csr_array:
        """K."""
        return sparse.csr_array((values, self.entries), shape=(self.size, self.size))

    def scale(self, values: np.ndarray) -> np.ndarray:
        """``(n + r,)`` powers of two T such that T K T has a diagonal and rows of A of about 1."""
        variables, a = self.white_rows(values)
        squares = np.bincount(self.a_row, a**2, minlength=self.num_rows)
        return np.concatenate([variables, power_of_two_scale(np.sqrt(squares))])

    def steep_scale(self, values: np.ndarray) -> np.ndarray:
        """The same T with all entries of A from about 1 on."""
        variables, a = self.white_rows(values)
        smallest = np.array([a.min(initial=np.inf, where=a > 0)])
        rows = power_of_two_scale(smallest) if np.isfinite(smallest) else 1.0
        return np.concatenate([variables, np.full(self.num_rows, rows)])

    def white_rows(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Powers of two that bring the diagonal of Q to about 1, and the size of the entries of A
        times those of their variables."""
        size = np.abs(values)
        on_diagonal = np.flatnonzero(self.q_row == self.q_column)
        diagonal = np.zeros(self.num_variables)
        diagonal[self.q_row[on_diagonal]] = size[on_diagonal]
        variables = power_of_two_scale(np.sqrt(diagonal))
        a = size[len(self.q_row) : len(self.q_row) + len(self.a_row)] * variables[self.a_column]
        return variables, a
