"""One independent row: the constant row and the weighted one."""

import numpy as np
import pytest

from constrained_core import plan_constraint
from constrained_core.linear.plan import DensePlan, RowPlan


@pytest.mark.parametrize("value", [1.0, 3.0, -0.7, 1e-8, 1e8])
def test_a_constant_row_is_a_row_of_ones(value: float):
    plan = plan_constraint(np.full((1, 5), value))
    assert isinstance(plan, RowPlan)
    assert plan.weights is None
    assert plan.row_scale == pytest.approx([1 / value], rel=1e-15)
    assert plan.log_volume == pytest.approx(0.5 * np.log(5))
    assert plan.log_range_volume == pytest.approx(np.log(abs(value)) + 0.5 * np.log(5))


@pytest.mark.parametrize("factor", [1.0, -1e-8, 1e8])
def test_a_weighted_row_is_scaled(factor: float):
    row = factor * np.array([1.0, -2.0, 0.0, 4.0])
    plan = plan_constraint(row[None])
    assert isinstance(plan, RowPlan)
    np.testing.assert_array_equal(plan.weights, row * plan.row_scale)
    assert 1 <= np.linalg.norm(plan.weights) < 2
    assert plan.log_volume == pytest.approx(np.log(np.linalg.norm(plan.weights)), rel=1e-14)
    assert plan.log_range_volume == pytest.approx(np.log(np.linalg.norm(row)), rel=1e-14)


@pytest.mark.parametrize("row", [np.ones(3), np.array([1.0, 2.0, -1.0])], ids=["ones", "weights"])
def test_redundant_rows_leave_one(row: np.ndarray):
    matrix = np.outer([2.0, -1.0, 0.0, 0.5], row)
    plan = plan_constraint(matrix)
    assert isinstance(plan, RowPlan)
    assert plan.rank == 1
    executed = np.ones(3) if plan.weights is None else plan.weights
    np.testing.assert_allclose(plan.dependence * executed, matrix[plan.dropped], rtol=1e-14)


@pytest.mark.parametrize("row, determined", [
    ([0.0, 2.0, 0.0], [1]), ([1.0, 2.0, 0.0], []), ([3.0], [0]), ([1.0, 1e-12, 0.0], [])
])  # fmt: skip
def test_determined_variable(row: list[float], determined: list[int]):
    plan = plan_constraint(np.array([row]))
    np.testing.assert_array_equal(plan.determined, determined)


def test_a_zero_row_is_no_row():
    plan = plan_constraint(np.zeros((1, 4)))
    assert isinstance(plan, DensePlan)
    assert (plan.rank, plan.free_size) == (0, 4)


def test_a_million_variables():
    plan = plan_constraint(np.ones((1, 10**6)))
    assert isinstance(plan, RowPlan)
    assert plan.weights is None
