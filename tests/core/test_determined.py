"""Variables that the constraint alone determines."""

import numpy as np
import pytest
from hypothesis import given

from constrained_core import GroupSum, plan_constraint
from constrained_core.linear.plan import DensePlan
from tests.core import exact
from tests.core.matrices import integer_matrices, scaled_matrices


@given(matrix=scaled_matrices())
def test_determined_as_in_rational_arithmetic(matrix: np.ndarray):
    np.testing.assert_array_equal(plan_constraint(matrix).determined, exact.determined(matrix))


@given(matrix=integer_matrices())
def test_solution_gives_their_values(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if not isinstance(plan, DensePlan):
        return
    points = np.random.default_rng(0).normal(size=(5, plan.num_variables))
    scaled_k = (points @ matrix.T)[:, plan.kept] * plan.row_scale
    assert plan.solution.shape == (len(plan.determined), plan.rank)
    values = scaled_k @ plan.solution.T
    np.testing.assert_allclose(values, points[:, plan.determined], rtol=1e-12, atol=1e-13)


@given(matrix=integer_matrices())
def test_solution_against_rational_arithmetic(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if not isinstance(plan, DensePlan) or plan.rank == 0:
        return
    unit = np.eye(plan.num_variables)[plan.determined]
    expected = np.array(exact.coefficients(plan.rows, unit), dtype=np.float64)
    np.testing.assert_allclose(plan.solution, expected.reshape(plan.solution.shape), atol=1e-12)


def test_rows_that_do_not_matter_have_coefficients_of_zero():
    """Else a variable that is held at zero would not be seen to be."""
    plan = plan_constraint(np.array([[1.0, 1, 1, 0, 0], [0, 0, 0, 3, 0], [1, 1, 1, 0, 0.7]]))
    np.testing.assert_array_equal(plan.determined, [3, 4])
    np.testing.assert_array_equal(plan.solution != 0, [[False, True, False], [True, False, True]])


KNOWN = {
    "none": (np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), []),
    "alone in a row": (np.array([[0.0, 3, 0, 0], [1, 0, 1, 1]]), [1]),
    "by two rows": (np.array([[1.0, 1, 1, 0], [1, 1, 2, 0]]), [2]),
    "all": (np.array([[1.0, 1], [1, -1]]), [0, 1]),
    "one row": (np.array([[0.0, 0, -2]]), [2]),
    "one row of several": (np.array([[0.0, 1, -2]]), []),
    "one variable": (np.array([[5.0]]), [0]),
    "redundant rows": (np.array([[1.0, 1, 0], [0, 0, 1], [1, 1, 1]]), [2]),
    "rows apart by 1e16": (np.array([[1e8, 1e8, 0], [0, 0, 1e-8]]), [2]),
    "no rows": (np.zeros((0, 2)), []),
    "zero rows": (np.zeros((2, 2)), []),
}


@pytest.mark.parametrize("matrix, expected", KNOWN.values(), ids=KNOWN)
def test_known_cases(matrix: np.ndarray, expected: list[int]):
    np.testing.assert_array_equal(plan_constraint(matrix).determined, expected)


@pytest.mark.parametrize("small", [1e-6, 1e-9, 1e-12])
def test_a_small_coefficient_leaves_a_variable_free(small: float):
    """x0 + small x1 = k fixes neither, however small it is: x1 may be large."""
    plan = plan_constraint(np.array([[1.0, small, 0, 0], [0, 0, 1, 1]]))
    np.testing.assert_array_equal(plan.determined, [])


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-8])
def test_as_many_independent_rows_as_variables_determine_all(gap: float):
    plan = plan_constraint(np.array([[1.0, 1], [1, 1 + gap]]))
    np.testing.assert_array_equal(plan.determined, [0, 1])


def test_groups_of_one_member():
    plan = plan_constraint(GroupSum([3, 0, 1, 1, 3, 4], num_groups=5))
    np.testing.assert_array_equal(plan.determined, [1, 5])
    np.testing.assert_array_equal(plan.kept[plan.determined_rows], [0, 4])


def test_members_of_zero_weight_do_not_count():
    plan = plan_constraint(GroupSum([0, 0, 1, 1], 2, weights=[1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(plan.determined, [0])
