"""Sums of many terms far from zero: rounding errors are those that the promise has, whatever n."""

import numpy as np
import pytest

from constrained_core.linear.parts import FEW, parts_of_groups
from tests.adapters import each_backend
from tests.laws.test_support import PROMISED_ROUNDINGS

N = 20_000


def groups(rng) -> np.ndarray:
    return rng.integers(0, 2, N)


def exact_roundings(A: np.ndarray, k: np.ndarray, x: np.ndarray, dtype: str) -> np.ndarray:
    """``|A x - k|`` in eps of the terms, in the longest numbers that there are."""
    A, k, x = (np.asarray(part, np.longdouble) for part in (A, k, x))
    eps = np.finfo(dtype).eps
    return np.asarray(abs(x @ A.T - k) / (eps * (abs(x) @ abs(A).T + abs(k))), float)


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["groups", "dense"])
def test_draws_are_on_the_subspace(backend, kind, dtype, rng):
    """Sums of values near 10, added in turn, are wrong by tens of eps."""
    if kind == "groups":
        index = groups(rng)
        given, A = backend.library.GroupSum(index, 2), np.eye(2)[:, index]
    else:
        given = A = rng.uniform(0.5, 1.5, (2, N)).astype(dtype)
    k = 10 * A.sum(-1)
    loc, scale = np.ones(N), rng.uniform(0.5, 2.0, N)
    law = backend.library.ConstrainedNormal(
        backend.array(loc, dtype),
        backend.array(scale, dtype),
        given if kind == "groups" else backend.array(given, dtype),
        backend.array(k, dtype),
    )
    k = np.asarray(k, dtype)
    x = backend.draws(law, 0, (2,))
    # Equal terms have equal rounding errors, which do not average.
    equal = np.asarray(law.project(backend.array(np.full(N, 9.9), dtype)))
    for one in (*x, backend.draws(law, 1), equal):
        assert exact_roundings(A, k, one, dtype).max() <= PROMISED_ROUNDINGS
    found = np.asarray(law.residual(backend.array(x[0], dtype)), np.longdouble)
    exact = x[0].astype(np.longdouble) @ A.T.astype(np.longdouble) - k
    allowed = 2 * np.finfo(dtype).eps * (abs(A) @ abs(x[0]) + k)
    assert (abs(found - exact) <= allowed).all()


@pytest.mark.parametrize("sizes", [[1000, 5, 0, 129], [3, 2], []])
def test_parts_of_groups(sizes):
    """Each has few entries of one group."""
    index = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    found = parts_of_groups(index, len(sizes))
    if max(sizes, default=0) <= FEW:
        assert found is None
        return
    part, group_of_part = found
    np.testing.assert_array_equal(group_of_part[part], index)
    assert np.bincount(part).max() <= FEW
    assert len(group_of_part) == sum(-(-size // FEW) for size in sizes)
