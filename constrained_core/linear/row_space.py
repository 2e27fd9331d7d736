"""Sparse rows and their Gram matrix."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

__all__ = ["SHIFT", "GramFactor", "RowSpace"]

SHIFT = 1e-13
"""d of A A' + d I, far above rounding errors, so that it treats all vanishing directions alike."""

FEW = 8
"""Products of entries of a column, beside entries, up to which A A' is made."""

WELL_CONDITIONED = 1e-3
"""Rows whose smallest singular value is below it are factored again, with a smaller alpha."""

LARGE = 5000
"""Sizes n + r above it keep alpha = 1: pivots off the diagonal would fill the factor."""


class GramFactor:
    """A A' + shift I factored by SuperLU.

    It is made where columns of A have few entries. Otherwise [[alpha I, A'], [A, -shift / alpha I]]
    is factored instead, which never forms it. With alpha near the smallest singular value of A that
    matrix is as well conditioned as A is, not as A A' (Bjorck 1967).

    Args:
        rows: ``(r, n)`` with r > 0.
        shift: a number, not negative.
        alpha: None for 1, where A A' may be made.

    Raises:
        RuntimeError: a pivot is exactly zero.
    """

    def __init__(
        self, rows: sparse.csr_array, shift: float = 0.0, alpha: float | None = None
    ) -> None:
        self.num_rows, num_variables = rows.shape
        count = np.bincount(rows.indices, minlength=num_variables)
        is_few = (count.astype(np.float64) ** 2).sum() <= FEW * rows.nnz
        is_small = self.num_rows**2 <= FEW * rows.nnz
        self._border = 0 if alpha is None and (is_few or is_small) else num_variables
        self._alpha = 1.0 if alpha is None else alpha
        lower = shift / self._alpha * sparse.eye_array(self.num_rows)
        if self._border:
            corner = self._alpha * sparse.eye_array(num_variables)
            matrix = sparse.block_array([[corner, rows.T], [rows, -lower]], format="csc")
        else:
            matrix = sparse.csc_array(rows @ rows.T + lower)
        self._factor = _factor_symmetric(matrix) if alpha is None else splu(matrix)

    @property
    def row_order(self) -> np.ndarray:
        """``(r,)`` the rows in the order in which they were eliminated."""
        return np.argsort(self._factor.perm_c[self._border :])

    @property
    def log_det(self) -> float:
        """log det(A A' + shift I)."""
        log_det = float(np.log(np.abs(self._factor.U.diagonal())).sum())
        if self._border:
            log_det -= (self._border - self.num_rows) * float(np.log(self._alpha))
        return log_det

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``(A A' + shift I)^-1 right`` for ``(r, b)``."""
        if not self._border:
            return self._factor.solve(right)
        padded = np.concatenate([np.zeros((self._border, right.shape[1])), right])
        return self._factor.solve(padded)[self._border :] / -self._alpha


def _factor_symmetric(matrix: sparse.csc_array) -> SuperLU:
    """SuperLU that leaves a symmetric matrix its sparsity, pivoting where it must."""
    return splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.01,
        options={"SymmetricMode": True},
    )


class RowSpace:
    """Independent rows, with what their Gram matrix says.

    Args:
        rows: ``(r, n)`` of lengths near one.
    """

    def __init__(self, rows: sparse.csr_array) -> None:
        self.rows = rows
        self.rank = rows.shape[0]
        self._factor = None if self.rank == 0 else _well_conditioned_factor(rows)

    @property
    def row_order(self) -> np.ndarray:
        """``(r,)`` the rows in the order in which they were eliminated."""
        return np.zeros(0, dtype=np.int64) if self._factor is None else self._factor.row_order

    @property
    def log_volume(self) -> float:
        """1/2 log det(R R')."""
        return 0.0 if self._factor is None else self._factor.log_det / 2

    def coefficients(self, others: np.ndarray) -> np.ndarray:
        """``(p, r)`` C with ``C R`` nearest to the ``(p, n)`` other rows."""
        if self._factor is None:
            return np.zeros((len(others), 0))
        solution = self._factor.solve(self.rows @ others.T)
        for _ in range(2):
            solution += self._factor.solve(self.rows @ (others.T - self.rows.T @ solution))
        return solution.T


def _well_conditioned_factor(rows: sparse.csr_array) -> GramFactor:
    is_large = sum(rows.shape) > LARGE
    try:
        factor = GramFactor(rows)
    except RuntimeError:  # A A' is singular to working precision, A is not
        factor, is_large = GramFactor(rows, SHIFT), False
    smallest = _smallest_singular_value(factor, rows)
    return factor if smallest >= WELL_CONDITIONED or is_large else GramFactor(rows, alpha=smallest)


def _smallest_singular_value(factor: GramFactor, rows: sparse.csr_array) -> float:
    """By inverse iteration."""
    block = np.random.default_rng(0).normal(size=(rows.shape[0], min(rows.shape[0], 3)))
    for _ in range(3):
        block, _ = np.linalg.qr(factor.solve(block))
    return float(np.linalg.svd(rows.T @ block, compute_uv=False).min())
