"""The plan of groups: that of the dense matrix, at O(n)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_core import GroupSum, InfeasibleConstraintError, check_consistency, plan_constraint
from constrained_core.linear.plan import GroupPlan
from tests.core.work import no_long_loop


@st.composite
def group_sums(draw) -> GroupSum:
    """Ragged groups, some empty, some alone; weights with zeros and scales apart."""
    num_groups, size = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    index = draw(st.lists(st.integers(0, num_groups - 1), min_size=size, max_size=size))
    if draw(st.booleans()):
        return GroupSum(index, num_groups)
    weight = st.sampled_from([0.0, 0.0, 1.0, -2.0, 0.3, 1e-8, 1e8])
    return GroupSum(index, num_groups, draw(st.lists(weight, min_size=size, max_size=size)))


def executed_rows(plan: GroupPlan) -> np.ndarray:
    return GroupSum(plan.index, plan.rank, plan.weights).to_dense()


@given(groups=group_sums())
def test_same_facts_as_the_dense_plan(groups: GroupSum):
    matrix = groups.to_dense()
    plan, dense = plan_constraint(groups), plan_constraint(matrix)
    assert (plan.num_rows, plan.num_variables) == groups.shape
    np.testing.assert_array_equal(plan.kept, dense.kept)
    np.testing.assert_array_equal(plan.dropped, dense.dropped)
    np.testing.assert_array_equal(plan.determined, np.flatnonzero(alone(matrix)))
    assert plan.free_size == dense.free_size
    assert plan.log_range_volume == pytest.approx(dense.log_range_volume, rel=1e-12, abs=1e-12)


def alone(matrix: np.ndarray) -> np.ndarray:
    """Variables that are the only ones of their row."""
    rows = (matrix != 0).sum(-1) == 1
    return (matrix[rows] != 0).any(0)


@given(groups=group_sums())
def test_rows_and_weights(groups: GroupSum):
    plan, matrix = plan_constraint(groups), groups.to_dense()
    if not isinstance(plan, GroupPlan):
        assert not matrix.any()
        return
    rows = executed_rows(plan)
    np.testing.assert_array_equal(rows, matrix[plan.kept] * plan.row_scale[:, None])
    norms = np.linalg.norm(rows, axis=-1)
    assert (norms >= 1).all()
    assert plan.weights is None or (norms < 2).all()
    assert plan.log_volume == pytest.approx(np.log(norms).sum(), rel=1e-13, abs=1e-13)
    given_weights = np.ones(plan.num_variables)
    if plan.given_weights is not None:
        given_weights = plan.given_weights
    weighted = GroupSum(plan.given_index, plan.num_rows, given_weights)
    np.testing.assert_array_equal(weighted.to_dense(), matrix)


@given(groups=group_sums())
def test_pivots_and_free_variables(groups: GroupSum):
    plan = plan_constraint(groups)
    if not isinstance(plan, GroupPlan):
        return
    np.testing.assert_array_equal(plan.index[plan.pivots], np.arange(plan.rank))
    assert plan.weights is None or plan.weights[plan.pivots].all()
    everything = np.sort([*plan.pivots, *plan.free])
    np.testing.assert_array_equal(everything, np.arange(plan.num_variables))
    assert len(plan.free) == plan.free_size
    np.testing.assert_array_equal(plan.determined_rows, plan.index[plan.determined])


def test_unit_weights_are_no_weights():
    plan = plan_constraint(GroupSum([0, 1, 1], 2, weights=[1.0, 1.0, 1.0]))
    assert plan.weights is None
    assert plan.given_weights is None
    np.testing.assert_array_equal(plan.row_scale, [1.0, 1.0])


def test_empty_groups_are_redundant():
    plan = plan_constraint(GroupSum([1, 1, 3], num_groups=5))
    np.testing.assert_array_equal(plan.kept, [1, 3])
    np.testing.assert_array_equal(plan.dropped, [0, 2, 4])
    np.testing.assert_array_equal(plan.given_index, [1, 1, 3])


@pytest.mark.parametrize("groups", [
    GroupSum([], num_groups=0), GroupSum([], num_groups=3), GroupSum([0, 1], 2, [0.0, 0.0])
], ids=["nothing", "no variables", "zero weights"])  # fmt: skip
def test_no_group_at_all(groups: GroupSum):
    plan = plan_constraint(groups)
    assert plan.rank == 0
    assert (plan.num_rows, plan.num_variables) == groups.shape
    check_consistency(plan, np.zeros(groups.num_groups))


def test_a_million_variables_take_no_loop():
    """10^5 groups, half of them empty; a dense matrix would need 800 GB."""
    size, num_groups = 10**6, 10**5
    rng = np.random.default_rng(0)
    index, weights = 2 * rng.integers(0, num_groups // 2, size), rng.normal(size=size)
    k = np.bincount(index, weights, minlength=num_groups)
    with no_long_loop():
        plan = plan_constraint(GroupSum(index, num_groups, weights))
        assert len(plan.pivots) + len(plan.free) == size
        check_consistency(plan, k)
        assert plan_constraint(GroupSum(index, num_groups, weights)) is plan
    k[plan.dropped[17]] = 1.0
    with pytest.raises(InfeasibleConstraintError, match=f"row {plan.dropped[17]} of A"):
        check_consistency(plan, k)
