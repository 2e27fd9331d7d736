"""What cannot be planned: the message says what is wrong, where, and what to do."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constrained_core import (
    ConstraintError,
    GroupSum,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
    check_lattice,
    count_fiber,
    enumerate_fiber,
    plan_fiber,
)
from tests.core.fibers import points
from tests.core.matrices import incidence, margins

ONES = np.ones(3)


def refusal(error: type[ConstraintError], *arguments, **options) -> str:
    for _ in range(2):  # an error is not remembered as a plan
        with pytest.raises(error) as raised:
            plan_fiber(*arguments, **options)
    assert type(raised.value) is error
    return str(raised.value)


@pytest.mark.parametrize("A, k, parts", [
    ([[1, 0.5, 1]], [1], ["A[0, 1] = 0.5", "whole numbers", "scale"]),
    ([[1, np.nan, 1]], [1], ["A[0, 1] = nan"]),
    ([[1, 1, 1]], [1.5], ["k[0] = 1.5", "round k"]),
    ([[1, 1, 1]], [[1], [np.inf]], ["k[1, 0] = inf"]),
    (GroupSum([0, 0, 1], 2, [1, 0.5, 1]), [1, 1], ["weights[1] = 0.5"]),
])  # fmt: skip
def test_not_whole(A, k, parts: list[str]):
    text = refusal(ConstraintError, A, k)
    assert all(part in text for part in parts), text


def test_unknown_k_of_an_unbounded_law():
    assert "give k_max of shape (m,)" in refusal(ConstraintError, [[1, 1, 1]], None)


@pytest.mark.parametrize("A, k, upper, parts", [
    ([[1, 1, 1]], [-1], None, ["k[0] between 0 and inf", "row 0", "got -1"]),
    ([[1, 1, 1]], [4], ONES, ["k[0] between 0 and 3", "got 4"]),
    ([[1, 1, -1]], [[0], [3]], ONES, ["k[1, 0] between -1 and 2", "got 3"]),
    (GroupSum([0, 0, 1], 2), [[2, 1], [1, 2]], ONES, ["k[1, 1] between 0 and 1"]),
    ([[2, 1, 0], [0, 1, 3]], [1, 2], None, ["k = [1, 2]", "no integer x with 0 <= x <= upper"]),
    ([[2, 3, 0], [0, 0, 1]], [[2, 1], [1, 1]], None, ["k[1] = [1, 1]", "no integer x"]),
    ([[2, 0, 4]], [3], None, ["multiples of 2", "k[0] is 3"]),
    ([[1, 1, 0], [1, 1, 0]], [2, 3], None, ["row 1 of A is row 0", "disagreement of 1"]),
])  # fmt: skip
def test_no_point(A, k, upper, parts: list[str]):
    text = refusal(InfeasibleConstraintError, A, k, upper=upper)
    assert all(part in text for part in parts), text
    assert "correct k" in text


@given(st.data())
def test_refused_only_without_a_point(data: st.DataObject):
    A = data.draw(arrays(np.int64, (2, 4), elements=st.integers(-1, 3)))
    k = data.draw(arrays(np.int64, 2, elements=st.integers(-2, 6)))
    upper = data.draw(arrays(np.int64, 4, elements=st.integers(0, 2)))
    count = len(points(A, k, upper))
    if count == 0:
        refusal(InfeasibleConstraintError, A, k, upper=upper)
    else:
        assert count_fiber(plan_fiber(A, k, upper=upper), k) == count


def test_other_k_than_planned():
    plan = plan_fiber([[1, 2, 0], [0, 1, 1]], [3, 2])
    check_lattice(plan, np.array([[3, 2]]))
    with pytest.raises(InfeasibleConstraintError, match=r"k\[1\] = \[3, 1\]"):
        check_lattice(plan, np.array([[3, 2], [3, 1]]))
    with pytest.raises(InfeasibleConstraintError, match="plan the fiber for this k"):
        enumerate_fiber(plan, np.array([3, 1]))


@pytest.mark.parametrize("A, variables", [
    ([[1, -1, 0], [0, 0, 1]], {0, 1}),
    ([[2, -3, 1], [0, 0, 1]], {0, 1}),
    (incidence([(0, 1), (1, 2), (2, 0), (0, 3)], 4), {0, 1, 2}),
    ([[1, 1, -1, -1]], {0, 1, 2, 3}),
])  # fmt: skip
def test_unbounded(A, variables: set[int]):
    """The direction that is named is one: A d = 0, d >= 0."""
    A = np.array(A, dtype=np.int64)
    text = refusal(UnboundedSupportError, A, A.sum(axis=1))
    terms = re.findall(r"(?:(\d+) )?x\[(\d+)\]", text)
    direction = np.zeros(A.shape[1], dtype=np.int64)
    for size, variable in terms:
        direction[int(variable)] = int(size or 1)
    assert terms and set(np.flatnonzero(direction)) <= variables
    assert not (A @ direction).any()
    plan_fiber(A, A.sum(axis=1), upper=np.full(A.shape[1], 2))
    plan_fiber(np.vstack([A, np.ones(A.shape[1])]), [*A.sum(axis=1), A.shape[1]])


def test_too_many_transitions():
    A, k = margins(5, 5), np.full(10, 30)
    text = refusal(IntractableConstraintError, A, k, max_transitions=10_000)
    found = re.search(r"at least (\d+) transitions .* of 25 columns, the budget is 10000;", text)
    assert found and int(found[1]) > 10_000
    assert "FiberSampler" in text and "fewer rows" in text


def test_two_large_totals():
    """Refused before arrays of that size are made."""
    refusal(IntractableConstraintError, [[1, 2, 1], [0, 1, 3]], [10**8, 10**8])


def test_padding_past_its_budget(monkeypatch: pytest.MonkeyPatch):
    trellis = plan_fiber([[1, 2, 3]], [30]).trellis
    monkeypatch.setattr("constrained_core.fiber.trellis.MAX_STACKED", 100)
    with pytest.raises(IntractableConstraintError, match=r"entries for \d+ transitions"):
        _ = trellis.segments


def test_groups_with_many_coefficients():
    """One trellis would be far too wide for them; the same groups of one coefficient are fine."""
    index = np.repeat(np.arange(10_000), 2)
    weights = np.tile([1.0, 2.0], 10_000)
    k = np.full(10_000, 3)
    refusal(IntractableConstraintError, GroupSum(index, 10_000, weights), k)
    plan_fiber(GroupSum(index, 10_000), k)


def test_too_many_points():
    k = np.array([30])
    plan = plan_fiber(np.ones((1, 10)), k)
    assert count_fiber(plan, k) == 211915132
    with pytest.raises(IntractableConstraintError, match=r"has 211915132 points.*1000000"):
        enumerate_fiber(plan, k)


def test_infinitely_many_points():
    plan = plan_fiber([[0, 1, 0]], [2])
    for function in (count_fiber, enumerate_fiber):
        with pytest.raises(UnboundedSupportError, match="variable 0 is in no row"):
            function(plan, np.array([2]))
