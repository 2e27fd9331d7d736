"""Sparse A under scales that differ: digits are those of the dense law, which mpmath confirms."""

import numpy as np
import pytest
from scipy import sparse

from tests.adapters import each_backend

A = np.array(
    [
        [0, 3, 0, 1, -1, 2],
        [0, 1, 1, -2, 0, 1],
        [-1, -1, 1, 0, 0, -1],
        [2, -1, -1, 0, 2, 0],
        [-2, 1, 2, 1, -1, 0],
        [2, 0, 2, 1, 1, -1],  # depends on others
    ],
    float,
)
SCALE = np.array([178.0, 553.2, 86.03, 1.246e-3, 0.07097, 5.203e-3])
K = A @ np.array([70.7, -6.59, 3.85, -2.21, 12.88, 10.05])


@each_backend
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_digits_where_rows_share_large_variables(backend, spread):
    """Small variables have residuals of their own: those of the whole said nothing of them (a log
    density of -3429758 for -3429768, draws that missed 1,500 times what they may)."""
    scale = backend.array(np.where(SCALE < 1, SCALE, SCALE / spread))
    dense, law = (
        backend.library.ConstrainedNormal(
            backend.array(np.zeros(6)), scale, matrix, backend.array(K), validate_args=False
        )
        for matrix in (A, sparse.csr_array(A))
    )
    for name in ("mean", "constraint_log_prob"):
        np.testing.assert_allclose(
            backend.value(law, name), backend.value(dense, name), rtol=1e-10, atol=1e-10
        )
    draws = backend.draws(law, 0, (200,))
    allowed = 4 * np.finfo(float).eps * (np.abs(draws) @ np.abs(A).T + np.abs(K))
    assert (np.abs(draws @ A.T - K) <= allowed).all()
