"""log_prob and constraint_log_prob against the oracles."""

from dataclasses import replace

import numpy as np
import pytest

from tests import oracles
from tests.adapters import assert_close, each_backend, each_case, each_law, shared_law
from tests.cases import CASES, COMPILED, GAUSSIAN, named, select

EXACT = {"float32": 1e-4, "float64": 1e-10}
"""Relative figures of the contract."""

DENSE = select(
    "covariance-row", "covariance-dense", "covariance-redundant", "diagonal-dense",
    "low_rank-dense", "student_tril-row", "student_scale-dense", "covariance-batched",
)  # fmt: skip


@each_law(CASES, COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_prob_in_reduced_coordinates(backend, case, dtype, rng):
    seen = case.rounded(dtype)
    x = seen.points(rng).astype(dtype)
    expected = np.stack([seen.expected(oracles.log_prob, row) for row in x])
    found = backend.log_prob(backend.law(seen, dtype), x, dtype)
    assert found.dtype == np.dtype(dtype)
    assert_close(found, expected, EXACT[dtype])


@each_law(GAUSSIAN, COMPILED)
def test_log_prob_is_scipys_degenerate_gaussian(backend, case, rng):
    x = case.points(rng)
    expected = np.stack([case.expected(oracles.log_prob_allow_singular, row) for row in x])
    assert_close(backend.log_prob(shared_law(backend, case), x), expected, 1e-10)


@each_backend
@each_case(select("student_scale-dense", "student_scale-weighted_groups"))
def test_student_log_prob_is_a_ratio_of_densities(backend, case, rng):
    x = case.points(rng, count=1)[0]
    expected = case.expected(oracles.log_prob_by_quadrature, x)
    assert_close(backend.log_prob(shared_law(backend, case), x), expected, 1e-10)


@each_law(CASES, COMPILED)
def test_constraint_log_prob(backend, case):
    expected = case.expected(oracles.constraint_log_prob)
    found = backend.value(shared_law(backend, case), "constraint_log_prob")
    assert_close(found, expected, 1e-10)


@each_law(DENSE, COMPILED)
def test_log_prob_ignores_an_invertible_change_of_rows(backend, case, rng):
    """And the density of the constraint, on all of R^m, takes its determinant."""
    rows = case.dense_A.shape[-2]
    change = rng.normal(size=(rows, rows)) + 2 * np.eye(rows)
    other = replace(case, A=change @ case.dense_A, k=case.rows_k @ change.T)
    x = case.points(rng)
    law, changed = shared_law(backend, case), backend.law(other)
    assert_close(backend.log_prob(changed, x), backend.log_prob(law, x), 1e-10)
    if all(problem.rank == rows for problem in case.problems.values()):
        log_det = np.linalg.slogdet(change)[1]
        before = backend.value(law, "constraint_log_prob")
        assert_close(backend.value(changed, "constraint_log_prob"), before - log_det, 1e-10)


@each_backend
@each_case(
    select("covariance-none", "diagonal-none", "student_tril-none", "covariance-single_free")
)
def test_no_rows_is_the_base_law(backend, case, rng):
    law = shared_law(backend, case)
    x = case.params["loc"] + rng.normal(size=case.n)
    assert_close(backend.log_prob(law, x), backend.log_prob(law.base_dist, x), 1e-12)
    assert backend.value(law, "constraint_log_prob") == 0


@each_backend
@each_case(select("covariance-full", "low_rank-full", "student_tril-full", "diagonal-single_point"))
def test_full_rank_is_a_point_mass(backend, case):
    law = backend.law(case, validate_args=False)
    (problem,) = case.problems.values()
    assert backend.log_prob(law, problem.origin) == 0
    assert backend.log_prob(law, problem.origin + 1.0) == -np.inf
    np.testing.assert_allclose(backend.draws(law, 0, (2,)), [problem.origin] * 2, rtol=1e-10)


@each_backend
def test_a_batch_of_values_against_one_law(backend, rng):
    case = named("diagonal-weighted_groups")
    x = case.points(rng, count=6).reshape(2, 3, case.n)
    found = backend.log_prob(shared_law(backend, case), x)
    expected = [[oracles.log_prob(case.problems[()], value) for value in row] for row in x]
    assert_close(found, np.array(expected), 1e-10)


@each_backend
def test_rows_as_vector_or_matrix(backend, rng):
    case = named("covariance-row")
    other = replace(case, A=case.dense_A, k=case.rows_k)
    x = case.points(rng)
    expected = backend.log_prob(shared_law(backend, case), x)
    assert_close(backend.log_prob(backend.law(other), x), expected, 1e-12)


@each_backend
@each_case(select("covariance-dense", "diagonal-dense", "student_scale-dense"))
def test_constraint_from_numpy(backend, case, rng):
    """A concrete A may be a NumPy array in either framework."""
    x = case.points(rng)
    arguments = {name: backend.array(value) for name, value in case.params.items()}
    law = getattr(backend.library, case.law)(**arguments, A=case.A, k=case.k)
    assert_close(backend.log_prob(law, x), backend.log_prob(shared_law(backend, case), x), 1e-13)
