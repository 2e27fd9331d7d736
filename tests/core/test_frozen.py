"""Plans are frozen and hashable; errors form a hierarchy; bad matrices are refused."""

import dataclasses
import pickle

import numpy as np
import pytest

import constrained_core
from constrained_core import (
    ConstraintError,
    GroupSum,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
    errors,
    plan_constraint,
)
from constrained_core.linear.plan import DensePlan, GroupPlan, RowPlan

PLANS = {
    RowPlan: np.ones((1, 3)),
    GroupPlan: GroupSum([0, 1, 1], 2),
    DensePlan: np.array([[1.0, 2, 0], [0, 1, 1]]),
}
each_plan = pytest.mark.parametrize(
    "kind, matrix", PLANS.items(), ids=lambda p: getattr(p, "__name__", "")
)


@each_plan
def test_plans_are_frozen(kind: type, matrix):
    plan = plan_constraint(matrix)
    assert type(plan) is kind
    for field in dataclasses.fields(plan):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(plan, field.name, None)


@each_plan
def test_plans_are_keys(kind: type, matrix):
    """By identity, which the memory of plans makes that of the content."""
    assert {plan_constraint(matrix): 1}[plan_constraint(matrix)] == 1
    assert plan_constraint(matrix) != plan_constraint(np.eye(3))


@each_plan
def test_plans_can_be_pickled(kind: type, matrix):
    plan = plan_constraint(matrix)
    again = pickle.loads(pickle.dumps(plan))
    for field in dataclasses.fields(plan):
        if field.name != "dependence":
            np.testing.assert_array_equal(getattr(again, field.name), getattr(plan, field.name))


@pytest.mark.parametrize("error", [
    InfeasibleConstraintError, IntractableConstraintError, UnboundedSupportError
])  # fmt: skip
def test_hierarchy(error: type[Exception]):
    assert issubclass(error, ConstraintError)
    assert issubclass(ConstraintError, ValueError)
    assert error.__doc__


def test_errors_are_those_of_the_root():
    assert set(errors.__all__) <= set(constrained_core.__all__)
    for name in errors.__all__:
        assert getattr(constrained_core, name) is getattr(errors, name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_that_are_not_finite(value: float, dtype: type):
    matrix = np.ones((3, 4), dtype)
    matrix[1, 2] = value
    with pytest.raises(ConstraintError) as raised:
        plan_constraint(matrix)
    for part in ("A: expected finite entries", str(value), "(1, 2)", "check"):
        assert part in str(raised.value)
