"""Rank, and which rows are kept and dropped."""

import numpy as np
import pytest
from hypothesis import given

from constrained_core import plan_constraint
from constrained_core.linear.plan import Plan
from tests.core import exact
from tests.core.matrices import MATRICES, Known, incidence, integer_matrices, scaled_matrices

each_matrix = pytest.mark.parametrize("known", MATRICES.values(), ids=MATRICES)


def scaled_rows(matrix: np.ndarray, plan: Plan) -> np.ndarray:
    return matrix[plan.kept] * plan.row_scale[:, None]


def check_partition(plan: Plan, num_rows: int, rank: int) -> None:
    assert plan.rank == rank
    assert plan.num_rows == num_rows
    assert plan.has_full_row_rank == (rank == num_rows)
    assert plan.free_size == plan.num_variables - rank
    assert (np.diff(plan.kept) > 0).all()
    np.testing.assert_array_equal(np.sort([*plan.kept, *plan.dropped]), np.arange(num_rows))


@each_matrix
def test_rank_and_partition(known: Known):
    check_partition(plan_constraint(known.matrix), len(known.matrix), known.rank)


@given(matrix=scaled_matrices())
def test_kept_rows_are_independent_and_span_the_others(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    check_partition(plan, len(matrix), exact.rank(matrix))
    assert exact.rank(matrix[plan.kept]) == plan.rank


@each_matrix
@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_rank_does_not_depend_on_scale(known: Known, factor: float):
    assert plan_constraint(known.matrix * factor).rank == known.rank


@each_matrix
def test_rank_does_not_depend_on_the_order_of_rows(known: Known):
    assert plan_constraint(known.matrix[::-1]).rank == known.rank


@each_matrix
def test_redundant_rows_in_terms_of_the_scaled_rows(known: Known):
    """Up to rounding in a row's own scale, amplified where the rows are ill-conditioned."""
    plan = plan_constraint(known.matrix)
    dropped, implied = known.matrix[plan.dropped], plan.dependence @ scaled_rows(known.matrix, plan)
    assert plan.dependence.shape == (plan.num_rows - plan.rank, plan.rank)
    size = np.linalg.norm(dropped, axis=-1, keepdims=True)
    assert (np.abs(dropped - implied) <= 1e-13 * size).all()


@given(matrix=integer_matrices())
def test_dependence_against_rational_arithmetic(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if plan.rank == 0:
        return
    expected = exact.coefficients(scaled_rows(matrix, plan), matrix[plan.dropped])
    expected = np.array(expected, dtype=np.float64).reshape(-1, plan.rank)
    np.testing.assert_allclose(plan.dependence, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(plan.dependence == 0, expected == 0)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_nearly_parallel_rows_are_two(gap: float):
    row = np.random.default_rng(6).normal(size=20)
    other = row + gap * np.random.default_rng(7).normal(size=20)
    assert plan_constraint(np.stack([row, other])).rank == 2
    assert plan_constraint(np.stack([1e8 * row, 1e-8 * other])).rank == 2


def test_rows_parallel_up_to_rounding_are_one():
    row = np.random.default_rng(8).normal(size=50)
    assert plan_constraint(np.stack([row, row * 0.1 * 10 / 3, row / 7])).rank == 1


@pytest.mark.parametrize("seed", range(5))
def test_float32_rows_have_the_rank_of_their_precision(seed: int):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4, 15))
    matrix = np.vstack([rows, rng.normal(size=(3, 4)) @ rows])
    assert plan_constraint(matrix.astype(np.float32)).rank == 4
    assert plan_constraint(matrix.astype(np.float32).astype(np.float64)).rank == 7
    nearby = np.stack([rows[0], rows[0] + 1e-3 * rows[1]]).astype(np.float32)
    assert plan_constraint(nearby).rank == 2


def test_incidence_of_a_large_graph():
    rng = np.random.default_rng(9)
    edges = [(i, i + 1) for i in range(149)] + [
        tuple(rng.choice(150, 2, False)) for _ in range(250)
    ]
    assert plan_constraint(incidence(edges, 150)).rank == 149


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_multiple_of_a_row_is_redundant(size, dtype):
    """Exactly: the rounding of scaling and of the factorisation alone made two rows of two
    variables independent, once in a hundred."""
    rng = np.random.default_rng(size)
    for _ in range(1000):
        row = (rng.normal(size=size) * 10 ** rng.uniform(-2, 3)).astype(dtype)
        for factor in (-1, 2, 4):
            plan = plan_constraint(np.array([row, factor * row]))
            assert plan.rank == 1, row
