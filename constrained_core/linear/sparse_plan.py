"""The plan of a sparse constraint matrix: what is known of its rows, and how to eliminate."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from constrained_core.errors import ConstraintError
from constrained_core.linear.elimination import Elimination
from constrained_core.linear.plan import Plan
from constrained_core.linear.saddle_pattern import SaddlePattern
from constrained_core.linear.symmetric_pattern import saddle_of_rows
from constrained_core.sparse import SparsePattern

__all__ = ["SparsePlan"]

SIZEABLE = 0.1
"""Share of the largest entry of a row from which a variable can take what rounding left of it."""


@dataclass(frozen=True, eq=False)
class SparsePlan(Plan):
    """Sparse rows.

    Where the values of A are not known (traced, learned or a batch) the plan is that of its
    pattern: all rows are kept, as they are, values and volumes are NaN, and there are no pivots.

    Attributes:
        given: where all m rows have entries.
        given_values: ``(nnz,)`` their values.
        kept_entries: ``(nnz_kept,)`` those of the given entries that are executed: not zero, and
            in a row that is kept.
        pattern: where the r kept rows have entries, rows renumbered.
        values: ``(nnz_kept,)`` the scaled values there.
        chosen_pivots: ``(r,)`` variables that the others determine, or None.
    """

    given: SparsePattern
    given_values: np.ndarray
    kept_entries: np.ndarray
    pattern: SparsePattern
    values: np.ndarray
    chosen_pivots: np.ndarray | None

    @cached_property
    def matrix(self) -> sparse.csc_array:
        """``(r, n)`` the scaled rows."""
        entries = self.values, (self.pattern.row, self.pattern.column)
        return sparse.csc_array(entries, shape=self.pattern.shape)

    @property
    def has_own(self) -> bool:
        """Whether every row has a variable that no other row has, as the sums of a hierarchy do,
        with an entry that is not small beside its others."""
        return len(self._own) == self.rank > 0

    @property
    def own_variables(self) -> np.ndarray:
        """``(r,)`` these variables."""
        return self.pattern.column[self._own]

    @property
    def own_entries(self) -> np.ndarray:
        """``(r,)`` their entries of the scaled rows."""
        return self.values[self._own]

    @cached_property
    def _own(self) -> np.ndarray:
        """Entries of one such variable for every row that has one."""
        row, column, size = self.pattern.row, self.pattern.column, np.abs(self.values)
        count = np.bincount(column, minlength=self.num_variables)
        largest = np.zeros(self.rank)
        np.maximum.at(largest, row, size)
        alone = np.flatnonzero((count[column] == 1) & (size >= SIZEABLE * largest[row]))
        return alone[np.unique(row[alone], return_index=True)[1]]

    @property
    def saddle(self) -> SaddlePattern:
        """Where [[Q, A'], [A, 0]] with diagonal Q has entries."""
        return saddle_of_rows(self.pattern)

    @property
    def pivots(self) -> np.ndarray:
        """``(r,)`` variables that the others determine, of well conditioned columns."""
        if self.chosen_pivots is None:
            raise ConstraintError(
                "A: expected known values to choose coordinates of the subspace by, got values "
                "that are traced, learned or a batch; use a reparametrisation, or a constant A."
            )
        return self.chosen_pivots

    @cached_property
    def _eliminated(self) -> Elimination:
        return Elimination(self.matrix, self.pivots, self.free)

    @property
    def log_pivot_volume(self) -> float:
        """log |det| of the pivots' columns of the scaled rows.

        x = x0 + W u, u the free variables themselves, stretches volumes by ``exp(log_volume -
        log_pivot_volume)``.
        """
        return self._eliminated.log_volume

    def complete(self, scaled_k: np.ndarray, free_values: np.ndarray) -> np.ndarray:
        """The pivots that satisfy the scaled rows.

        Args:
            scaled_k: ``(..., r)`` right-hand sides of the scaled rows.
            free_values: ``(..., n - r)`` of the other variables.

        Returns:
            ``(..., r)`` in float64.
        """
        return self._eliminated.complete(scaled_k, free_values)

    def complete_adjoint(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of ``complete``.

        Args:
            gradient: ``(..., r)``.

        Returns:
            ``(..., r)`` and ``(..., n - r)``: the products of the transposed derivatives.
        """
        return self._eliminated.complete_adjoint(gradient)

    @cached_property
    def followers(self) -> sparse.csr_array | None:
        """``(r, n - r)`` F: the pivots of a null vector are -F times its other entries.

        None where F has more than ``MAX_FILL`` times the entries of A: use ``complete`` there.
        """
        return self._eliminated.followers(np.isin(self.pivots, self.determined))

    @property
    def elimination(self) -> sparse.csr_array:
        """``(n, n - r)`` the null vectors of which one free variable is 1, the others 0."""
        if self.followers is None:
            raise ConstraintError("A: its null vectors have too many entries; use complete.")
        stacked = sparse.vstack([-self.followers, sparse.eye_array(self.free_size)], format="csr")
        place = np.argsort(np.concatenate([self.pivots, self.free]))
        return stacked[place]

    def __getstate__(self) -> dict[str, Any]:
        # A factor of SuperLU cannot be pickled: it is made again.
        state = super().__getstate__()
        return {name: state[name] for name in state if name != "_eliminated"}
