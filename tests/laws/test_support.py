"""Draws lie on the subspace to the last bits."""

import numpy as np
import pytest

from tests import oracles
from tests.adapters import Backend, each_backend, each_case, each_law
from tests.cases import CASES, COMPILED, Case
from tests.laws.hard_cases import FLOAT64_CASES, HARD_CASES

PROMISED_ROUNDINGS = 4.0
SMALL = tuple(case for case in HARD_CASES if case.n <= 12)

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def roundings(case: Case, x: np.ndarray, dtype: str) -> np.ndarray:
    """|A x - k| in units of eps (|A||x| + |k|), per row."""
    return oracles.roundings(case.dense_A, x, case.rows_k, dtype)


def assert_promise(backend: Backend, case: Case, dtype: str, count: int) -> None:
    seen = case.rounded(dtype)
    draws = backend.draws(backend.law(seen, dtype), seed=1, shape=(count,))
    assert draws.shape == (count, *case.batch_shape, case.n)
    assert draws.dtype == np.dtype(dtype)
    assert np.all(np.isfinite(draws))
    assert np.max(roundings(seen, draws, dtype), initial=0.0) <= PROMISED_ROUNDINGS


@each_dtype
@each_law(CASES, COMPILED)
def test_draws_satisfy_the_constraint(backend, case, dtype):
    assert_promise(backend, case, dtype, count=50)


@each_dtype
@each_law(HARD_CASES, SMALL)
def test_draws_satisfy_hard_constraints(backend, case, dtype):
    assert_promise(backend, case, dtype, count=50)


@each_backend
@each_case(FLOAT64_CASES)
def test_draws_satisfy_constraints_across_scales(backend, case):
    assert_promise(backend, case, "float64", count=50)
