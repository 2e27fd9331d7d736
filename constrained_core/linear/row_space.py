"""Sparse rows and their Gram matrix, by a factorisation that never forms it."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

__all__ = ["RowSpace", "factor_symmetric"]

WELL_CONDITIONED = 1e-2
"""Rows whose smallest singular value is below it are factored again, with a smaller alpha."""


def factor_symmetric(matrix: sparse.sparray) -> SuperLU:
    """SuperLU that leaves a symmetric matrix its sparsity, pivoting where it must.

    Raises:
        RuntimeError: a pivot is exactly zero.
    """
    return splu(
        sparse.csc_array(matrix),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.01,
        options={"SymmetricMode": True},
    )


class RowSpace:
    """Independent rows R with K = [[alpha I, R'], [R, 0]] factored.

    alpha is 1, or near the smallest singular value of R where that is small: K is then as well
    conditioned as R is, not as R R' (Bjorck 1967).

    Args:
        rows: ``(r, n)`` of lengths near one.
    """

    def __init__(self, rows: sparse.csr_array) -> None:
        self.rows = rows
        self.rank, self.num_variables = rows.shape
        self._alpha = 1.0
        if self.rank == 0:
            return
        self._factor = self._factored()
        smallest = self.smallest_singular_value()
        if smallest < WELL_CONDITIONED:
            self._alpha = smallest
            self._factor = self._factored()

    def _factored(self) -> SuperLU:
        return factor_symmetric(self._matrix)

    @property
    def _matrix(self) -> sparse.csc_array:
        corner = self._alpha * sparse.eye_array(self.num_variables)
        return sparse.csc_array(sparse.block_array([[corner, self.rows.T], [self.rows, None]]))

    @property
    def row_order(self) -> np.ndarray:
        """``(r,)`` the rows in the order in which they were eliminated."""
        if self.rank == 0:
            return np.zeros(0, dtype=np.int64)
        return np.argsort(self._factor.perm_c[self.num_variables :])

    @property
    def log_volume(self) -> float:
        """1/2 log det(R R')."""
        if self.rank == 0:
            return 0.0
        log_det = float(np.log(np.abs(self._factor.U.diagonal())).sum())
        return (log_det - (self.num_variables - self.rank) * float(np.log(self._alpha))) / 2

    def smallest_singular_value(self) -> float:
        """Of the rows, by inverse iteration."""
        block = np.random.default_rng(0).normal(size=(self.rank, min(self.rank, 3)))
        for _ in range(3):
            block, _ = np.linalg.qr(block)
            right = np.concatenate([np.zeros((self.num_variables, block.shape[1])), block])
            block = self._factor.solve(right)[self.num_variables :]
        block, _ = np.linalg.qr(block)
        return float(np.linalg.svd(self.rows.T @ block, compute_uv=False).min())

    def coefficients(self, others: np.ndarray) -> np.ndarray:
        """``(p, r)`` C with ``C R`` nearest to the ``(p, n)`` other rows."""
        if self.rank == 0:
            return np.zeros((len(others), 0))
        matrix = self._matrix
        right = np.zeros((matrix.shape[0], len(others)))
        right[: self.num_variables] = others.T
        solution = self._factor.solve(right)
        for _ in range(2):
            solution += self._factor.solve(right - matrix @ solution)
        return solution[self.num_variables :].T
