"""Sparse A under scales that differ: digits are those of the dense law, which mpmath confirms."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from tests.adapters import each_backend
from tests.laws.exact import Exact, dot, fractions, solve, times, transposed

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


def flows(num_nodes: int, num_flows: int, seed: int = 0) -> np.ndarray:
    """Balances of a network that is open at some nodes."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((num_nodes, num_flows))
    for flow in range(num_flows):
        start, end = rng.choice(num_nodes + 1, 2, replace=False)
        for node, sign in ((start, -1.0), (end, 1.0)):
            if node < num_nodes:
                rows[node, flow] = sign
    assert np.linalg.matrix_rank(rows) == num_nodes
    return rows


BEYOND = [("float32", 1e2), ("float32", 1e4), *(("float64", large) for large in (1e2, 1e6, 1e10))]


@each_backend
@pytest.mark.parametrize(("dtype", "large"), BEYOND)
def test_flows_that_are_not_measured(backend, large, dtype):
    """As data reconciliation has them: a third of all scales is large. Squares of scales had lost
    the small ones (a mean off by 2e-7 of itself at 1e4, an error at 1e6)."""
    rng, rows = np.random.default_rng(1), flows(8, 20)
    loc, scale, k = rng.normal(size=20), np.exp(rng.normal(size=20)) / 10, rng.normal(size=8)
    scale[rng.random(20) < 0.3] = large
    loc, scale, k = (one.astype(dtype).astype(float) for one in (loc, scale, k))
    exact = Exact.of({"loc": loc, "scale": scale}, rows, k)

    def law(matrix, t=0.0):
        moved = backend.array(scale, dtype) * (1 + t * backend.array(np.cos(np.arange(20)), dtype))
        make = backend.library.ConstrainedNormal
        return make(backend.array(loc, dtype), moved, matrix, backend.array(k, dtype))

    eps, found = float(np.finfo(dtype).eps), law(sparse.csr_array(rows))
    mean = np.array([float(entry) for entry in exact.mean])
    # The mean follows loc and k, which are about 1, by factors of a few units.
    assert (np.abs(backend.value(found, "mean") - mean) <= 100 * eps * (np.abs(mean) + 1)).all()
    np.testing.assert_allclose(backend.value(found, "variance"), exact.variance, rtol=100 * eps)
    for name in ("entropy", "constraint_log_prob"):
        value = float(backend.value(found, name))
        assert value == pytest.approx(getattr(exact, name), rel=100 * eps), name
        slopes = [slope(backend, law, matrix, name) for matrix in (rows, sparse.csr_array(rows))]
        assert slopes[1] == pytest.approx(slopes[0], rel=1e4 * eps, abs=1e4 * eps), name


@each_backend
@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e3), ("float64", 1e4), ("float64", 1e8)])
def test_slopes_in_scales(backend, large, dtype):
    """Of sums of means, and of draws. By way of the entries of A diag(scale), the slopes of
    large scales were products with multipliers whose rounding errors are large beside the small
    ones: 4 digits were left at 1e6, none at 1e8."""
    rng, rows = np.random.default_rng(2), flows(30, 80, seed=1)
    scale = np.exp(rng.normal(size=80)) / 10
    scale[rng.random(80) < 0.3] = large
    loc, k = rng.normal(size=80), rng.normal(size=30)
    loc, scale, k = (one.astype(dtype).astype(float) for one in (loc, scale, k))
    eps, weight = float(np.finfo(dtype).eps), rng.normal(size=80)
    mean_weight, draw_weight = (backend.array(one, dtype) for one in (weight, weight / scale))

    def law(matrix, params):
        moved = backend.array(scale, dtype) * params["log_scale"]
        make = backend.library.ConstrainedNormal
        return make(backend.array(loc, dtype), moved, matrix, backend.array(k, dtype))

    at = {"log_scale": np.ones(80, dtype)}
    slopes = backend.gradients(
        lambda params: (law(sparse.csr_array(rows), params).mean * mean_weight).sum(), at
    )["log_scale"]
    exact = exact_slopes(rows, k - rows @ loc, scale, weight)
    assert np.abs(slopes - exact).max() <= 1e3 * eps * np.abs(exact).max()

    def slopes_of_draw(matrix):
        return backend.gradients(
            lambda params: (backend.sample(law(matrix, params), 0) * draw_weight).sum(), at
        )["log_scale"]

    dense, slopes = map(slopes_of_draw, (rows, sparse.csr_array(rows)))
    assert np.abs(slopes - dense).max() <= 1e4 * eps * np.abs(dense).max()


def exact_slopes(
    rows: np.ndarray, gap: np.ndarray, scale: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Of ``weight' W A' y`` with ``A W A' y = gap`` in logarithms of scales, W their squares."""
    matrix = fractions(rows)
    weights = [value**2 for value in fractions(scale)[0]]
    weighed = [[w * a for w, a in zip(weights, row, strict=True)] for row in matrix]
    (asked,) = fractions(weight)
    right = [[Fraction(float(g)), dot(row, asked)] for g, row in zip(gap, weighed, strict=True)]
    found = times(transposed(matrix), solve(times(weighed, transposed(matrix)), right)[0])
    return np.array(
        [float(2 * w * y * (t - u)) for w, t, (y, u) in zip(weights, asked, found, strict=True)]
    )


def slope(backend, law, matrix, name):
    def figure(t):
        found = getattr(law(matrix, t), name)
        return (found() if callable(found) else found).sum()

    return float(backend.value_and_slope(figure)(0.0)[1])
