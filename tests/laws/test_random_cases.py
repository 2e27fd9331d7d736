"""Random small laws, rank deficient and integer ones among them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests import oracles
from tests.adapters import Backend, assert_close, each_backend
from tests.cases import MVN, Case
from tests.laws.test_support import PROMISED_ROUNDINGS, roundings


def _matrices(elements) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(0, 4), st.integers(1, 6))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=elements))


INTEGER = _matrices(st.integers(-3, 3).map(float))
SEEDS = st.integers(0, 2**32 - 1)


def _case(A: np.ndarray, seed: int, smallest: int = 1) -> Case:
    """A dense Gaussian and a k that A reaches exactly, at an x of entries from `smallest` on.

    Without zeros in x no variable is pinned at 0, where an oracle's point has no size that its
    rounding could be relative to.
    """
    rng = np.random.default_rng(seed)
    n = A.shape[-1]
    root = rng.normal(size=(n, n))
    params = {"loc": rng.normal(size=n), "covariance_matrix": root @ root.T + 0.3 * np.eye(n)}
    x = rng.integers(smallest, 5, n) * rng.choice([-1.0, 1.0], n)
    return Case("random", MVN, params, A, A @ x)


def _check(backend: Backend, case: Case) -> None:
    law = backend.law(case)
    (problem,) = case.problems.values()
    x = oracles.point(problem, np.random.default_rng(0))
    size = 1 + np.abs(problem.k).max(initial=0.0)
    assert law.rank == problem.rank
    assert_close(backend.log_prob(law, x), oracles.log_prob(problem, x), 1e-10 * size)
    assert_close(backend.value(law, "mean"), oracles.mean(problem), 1e-10 * size)
    assert_close(backend.value(law, "covariance"), oracles.covariance(problem), 1e-10)
    draws = backend.draws(law, 0, (5,))
    assert np.max(roundings(case, draws, "float64"), initial=0.0) <= PROMISED_ROUNDINGS


@each_backend
@given(A=INTEGER, seed=SEEDS)
def test_integer_constraints(backend, A, seed):
    _check(backend, _case(A, seed))


@each_backend
@given(A=INTEGER, mix=SEEDS, seed=SEEDS)
def test_real_rows_of_the_same_space(backend, A, mix, seed):
    """Rows mixed and scaled by reals, full rank kept by adding multiples of the identity."""
    rng = np.random.default_rng(mix)
    rows = min(A.shape)
    A = A[:rows] + rng.normal(size=(rows, A.shape[-1])) + 6 * np.eye(rows, A.shape[-1])
    _check(backend, _case(A * 10.0 ** rng.integers(-3, 4, (rows, 1)), seed))


@each_backend
@given(A=INTEGER, seed=SEEDS)
def test_a_law_accepts_its_own_draws(backend, A, seed):
    """Pinned zeros and consistent rows with k = 0 among them."""
    case = _case(A, seed, smallest=0)
    law = backend.law(case, validate_args=True)
    draws = backend.sample(law, 0, (5,))
    assert np.all(np.isfinite(backend.numpy(law.log_prob(draws))))
    found = roundings(case, backend.numpy(draws), "float64")
    assert np.max(found, initial=0.0) <= PROMISED_ROUNDINGS
