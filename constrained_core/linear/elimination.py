"""Sparse elimination: r variables with well conditioned columns that follow from the others."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from constrained_core.linear.structure import cleaned

__all__ = ["Elimination"]

REFINEMENTS = 2
"""Steps of iterative refinement: one repairs an unlucky pivot order, the second is for safety."""

MAX_FILL = 50
"""Followers are made where they have at most so many times the entries of A."""

BLOCK = 256
"""Right-hand sides that are solved for at once."""


class Elimination:
    """``A[:, pivots]`` factored, so that pivots follow from the other variables.

    Args:
        matrix: ``(r, n)`` independent rows.
        pivots: ``(r,)`` variables, ascending.
        free: ``(n - r,)`` the others, ascending.
    """

    def __init__(self, matrix: sparse.csc_array, pivots: np.ndarray, free: np.ndarray) -> None:
        self._pivot_columns = sparse.csc_array(matrix[:, pivots])
        self._free_columns = sparse.csc_array(matrix[:, free])
        self._rank = len(pivots)
        self._factor = splu(self._pivot_columns) if self._rank else None

    @property
    def log_volume(self) -> float:
        """log |det A[:, pivots]|."""
        if self._factor is None:
            return 0.0
        return float(np.log(np.abs(self._factor.U.diagonal())).sum())

    def complete(self, k: np.ndarray, free_values: np.ndarray) -> np.ndarray:
        """The pivots ``(..., r)`` that satisfy the rows."""
        batch = np.broadcast_shapes(k.shape[:-1], free_values.shape[:-1])
        moved = self._multiply(self._free_columns, free_values)
        return self.solve(np.broadcast_to(k - moved, (*batch, self._rank)))

    def complete_adjoint(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of ``complete``: what ``(..., r)`` means for k and for the free values."""
        on_k = self.solve(gradient, transposed=True)
        return on_k, -self._multiply(self._free_columns.T, on_k)

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """``A[:, pivots]^-1 right``, or by its transpose, for ``(..., r)``."""
        if self._factor is None or right.size == 0:
            return np.zeros(right.shape)
        columns = np.ascontiguousarray(right.reshape(-1, self._rank).T, dtype=np.float64)
        matrix = self._pivot_columns.T if transposed else self._pivot_columns
        how = "T" if transposed else "N"
        solution = self._factor.solve(columns, how)
        for _ in range(REFINEMENTS):
            solution += self._factor.solve(columns - matrix @ solution, how)
        return solution.T.reshape(right.shape)

    def _multiply(self, matrix: sparse.sparray, values: np.ndarray) -> np.ndarray:
        columns = values.reshape(-1, matrix.shape[1]).T
        return (matrix @ columns).T.reshape(*values.shape[:-1], matrix.shape[0])

    def followers(self) -> sparse.csr_array | None:
        """``A[:, pivots]^-1 A[:, free]`` without rounding errors, or None where it is too full."""
        budget = MAX_FILL * (self._pivot_columns.nnz + self._free_columns.nnz)
        free_size, blocks, size = self._free_columns.shape[1], [], 0
        for start in range(0, free_size, BLOCK):
            right = self._free_columns[:, start : start + BLOCK].toarray()
            solution = self.solve(right.T)
            block = sparse.csr_array(cleaned(solution))
            size += block.nnz
            if size > budget:
                return None
            blocks.append(block)
        if not blocks:
            return sparse.csr_array((self._rank, free_size))
        return sparse.csr_array(sparse.vstack(blocks).T)
