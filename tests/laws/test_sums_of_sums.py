"""Hierarchies: rows with a variable of their own, which takes what rounding leaves of a draw."""

import mpmath
import numpy as np
import pytest
from scipy import sparse

from constrained_core import SparseMatrix, plan_constraint
from tests.adapters import assert_close, each_backend

GROUPS = np.kron(np.eye(3), np.ones((1, 4)))
S = np.concatenate([np.ones((1, 12)), GROUPS, np.kron(np.ones((1, 3)), np.eye(4))])
A = np.hstack([np.eye(len(S)), -S])
M, N = A.shape
GENERATOR = np.random.default_rng(0)
LOC, K = GENERATOR.normal(size=N), np.zeros(M)
NOISE = GENERATOR.normal(size=(9, N))
SCALES = {
    "one": np.ones(N),
    "even": np.linspace(0.5, 20.0, N),
    "sums fixed": np.where(np.arange(N) < M, 1e-3, 2.0),
    "sums free": np.where(np.arange(N) < M, 1e6, 1.0),
}
each_scale = pytest.mark.parametrize("scale", SCALES)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def kriged(scale, noise):
    """Draws from white noise, in 40 digits."""
    with mpmath.workdps(40):
        rows = mpmath.matrix(A.tolist())
        variances = mpmath.diag([mpmath.mpf(s) ** 2 for s in scale])
        weights = variances * rows.T * (rows * variances * rows.T) ** -1
        points = [
            mpmath.matrix([mpmath.mpf(m) + mpmath.mpf(s) * mpmath.mpf(e) for m, s, e in entries])
            for entries in (zip(LOC, scale, one, strict=True) for one in noise)
        ]
        return np.array([(x - weights * (rows * x)).T.tolist()[0] for x in points], dtype=float)


def worst_residual(draws, dtype):
    draws = draws.astype(np.longdouble)
    return (np.abs(draws @ A.T) / (np.abs(draws) @ np.abs(A).T)).max() / np.finfo(dtype).eps


def normal(backend, scale, dtype="float64"):
    loc, scale = (backend.array(part, dtype) for part in (LOC, scale))
    k = backend.array(K, dtype)
    return backend.library.ConstrainedNormal(loc, scale, sparse.csr_array(A), k)


@each_backend
@each_scale
@each_dtype
def test_draws_are_those_of_kriging(backend, scale, dtype):
    law = normal(backend, SCALES[scale].astype(dtype), dtype)
    draws = backend.numpy(law._conditional.draw(backend.array(NOISE, dtype)))
    assert draws.dtype == dtype and worst_residual(draws, dtype) <= 4
    expected = kriged(SCALES[scale], NOISE)
    tolerance = 1e-9 if dtype == "float64" else 1e-3
    # Of the scale of each variable, and of the rounding of numbers of its size.
    size = SCALES[scale] + np.abs(expected) * 8 * np.finfo(dtype).eps / tolerance
    assert (np.abs(draws - expected) / size).max() <= tolerance


@each_backend
@each_dtype
def test_low_rank_laws_and_fields(backend, dtype):
    array = lambda value: backend.array(value, dtype)  # noqa: E731
    factor, scale = GENERATOR.normal(size=(N, 2)), SCALES["even"]
    rows, k = sparse.csr_array(A), array(K)
    low_rank = backend.library.ConstrainedLowRankMultivariateNormal(
        array(LOC), array(factor), array(scale**2), rows, k
    )
    field = backend.library.ConstrainedGMRF(
        array(LOC), sparse.diags_array((1 / scale**2).astype(dtype)).tocsr(), rows, k
    )
    for law in (low_rank, field):
        draws = backend.draws(law, 0, (20,))
        assert draws.dtype == dtype and worst_residual(draws, dtype) <= 4


@each_backend
def test_gradients_of_draws(backend):
    """The last step has none: what it moves is rounding."""

    def total(given):
        law = backend.library.ConstrainedNormal(
            given["loc"], given["scale"], sparse.csr_array(A), backend.array(K)
        )
        return (law._conditional.draw(backend.array(NOISE[0])) * backend.array(weights)).sum()

    weights, at = np.cos(np.arange(N)), {"loc": LOC, "scale": SCALES["even"]}
    found = backend.gradients(total, at)
    step = 1e-6 * np.cos(1.7 * np.arange(N))

    def moved(sign):
        point = LOC + SCALES["even"] * NOISE[0] + sign * step * (1 + NOISE[0])
        squares = (SCALES["even"] + sign * step) ** 2
        multipliers = np.linalg.solve((A * squares) @ A.T, A @ point)
        return weights @ (point - squares * (A.T @ multipliers))

    along = step @ (found["loc"] + found["scale"])
    assert_close(along, 0.5 * (moved(1) - moved(-1)), 1e-7)


HAS_OWN = {
    "sums of sums": (A, True),
    "one row": (np.ones((1, 5)), True),
    "a chain of balances": (np.eye(3, 4) - np.eye(3, 4, 1), False),
    "an entry of its own that is small": (np.array([[1e-3, 1.0, 1.0], [0, 1.0, 2.0]]), False),
    "a redundant row": (np.concatenate([A, A[:1] + A[1:2]]), True),
    "no row": (np.zeros((0, 3)), False),
    "one variable": (np.array([[2.0]]), True),
}


@pytest.mark.parametrize("name", HAS_OWN)
def test_variables_of_one_row(name):
    rows, expected = HAS_OWN[name]
    plan = plan_constraint(SparseMatrix.of(sparse.csr_array(rows)))
    assert plan.has_own == expected
    if expected:
        kept = rows[plan.kept] * plan.row_scale[:, None]
        assert_close(kept[np.arange(plan.rank), plan.own_variables], plan.own_entries, 0.0)
        others = np.delete(kept[:, plan.own_variables], 0, axis=0)
        assert (np.count_nonzero(kept[:, plan.own_variables], axis=0) == 1).all()
        assert len(others) == plan.rank - 1
