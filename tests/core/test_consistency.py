"""``check_consistency``: k must obey the redundant rows; the message names the row and the gap."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constrained_core import (
    GroupSum,
    InfeasibleConstraintError,
    check_consistency,
    plan_constraint,
)
from tests.core import exact
from tests.core.matrices import MATRICES, Known, integer_matrices

REDUNDANT = {name: known for name, known in MATRICES.items() if known.rank < len(known.matrix)}
each_redundant = pytest.mark.parametrize("known", REDUNDANT.values(), ids=REDUNDANT)


def disagreement(matrix, k) -> tuple[int, float, float, float]:
    """Row, implied value, k and disagreement that the message names."""
    with pytest.raises(InfeasibleConstraintError) as raised:
        check_consistency(plan_constraint(matrix), k)
    text = str(raised.value)
    row = re.search(r"row (\d+) of A", text)
    implied = re.search(r"imply (\S+) there", text)
    given_k = re.search(r"but k\[(\d+)\] is (\S+?), a disagreement of (\S+?);", text)
    assert row and implied and given_k, text
    assert row[1] == given_k[1]
    assert "correct k" in text
    return int(row[1]), float(implied[1]), float(given_k[2]), float(given_k[3])


@each_redundant
@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_any_point_gives_a_consistent_k(known: Known, size: float, rng):
    points = size * rng.normal(size=(20, known.matrix.shape[-1]))
    check_consistency(plan_constraint(known.matrix), points @ known.matrix.T)


@each_redundant
def test_the_row_and_the_disagreement_are_named(known: Known, rng):
    plan = plan_constraint(known.matrix)
    k = known.matrix @ rng.normal(size=known.matrix.shape[-1])
    for row in plan.dropped:
        gap = max(0.25 * abs(k[row]), 1e-9)
        changed = k + gap * (np.arange(len(k)) == row)
        named, implied, value, named_gap = disagreement(known.matrix, changed)
        assert named == row
        assert implied == pytest.approx(k[row], rel=1e-5, abs=1e-12)
        assert value == pytest.approx(changed[row], rel=1e-5)
        assert named_gap == pytest.approx(gap, rel=1e-2)


@given(data=st.data(), matrix=integer_matrices())
def test_consistent_as_in_rational_arithmetic(data, matrix: np.ndarray):
    k = data.draw(arrays(np.float64, len(matrix), elements=st.integers(-3, 3).map(float)))
    if exact.is_consistent(matrix, k):
        check_consistency(plan_constraint(matrix), k)
    else:
        disagreement(matrix, k)


def test_one_batch_element_that_disagrees():
    matrix = np.array([[1.0, 0, 1], [0, 1, 0], [1, 1, 1]])
    k = np.tile([2.0, 3.0, 5.0], (4, 6, 1))
    check_consistency(plan_constraint(matrix), k)
    k[2, 5] = [1.0, 1.0, 2.5]
    row, *_, gap = disagreement(matrix, k)
    assert row in (0, 1, 2)
    assert gap == pytest.approx(0.5)


def test_zero_rows_need_zero():
    matrix = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    check_consistency(plan_constraint(matrix), np.array([0.0, 7.0, 0.0]))
    assert disagreement(matrix, np.array([0.0, 7.0, 1e-6])) == (2, 0.0, 1e-6, 1e-6)


def test_empty_groups_need_zero():
    groups = GroupSum([0, 3, 3], num_groups=5)
    check_consistency(plan_constraint(groups), np.array([[1.0, 0, 0, 2, 0], [4.0, 0, 0, 1, 0]]))
    assert disagreement(groups, np.array([1.0, 0, -0.5, 2, 0])) == (2, 0.0, -0.5, 0.5)


def test_groups_of_zero_weights_need_zero():
    groups = GroupSum([0, 1, 1], num_groups=2, weights=[2.0, 0.0, 0.0])
    check_consistency(plan_constraint(groups), np.array([1.0, 0.0]))
    assert disagreement(groups, np.array([1.0, 3.0]))[0] == 1


def test_rows_apart_by_orders_of_magnitude():
    """The tolerance is that of the row's own scale, not that of the largest row."""
    row = np.array([1.0, -2.0, 4.0])
    matrix = np.stack([1e8 * row, 1e-8 * row, np.eye(3)[0]])
    k = matrix @ np.array([1.0, 0.5, 2.0])
    check_consistency(plan_constraint(matrix), k)
    for i in (0, 1):
        changed = k.copy()
        changed[i] *= 1 + 1e-4
        assert disagreement(matrix, changed)[0] in (0, 1)


def test_float32_rounding_is_forgiven_and_mistakes_are_not(rng):
    rows = rng.normal(size=(3, 10))
    matrix = np.vstack([rows, rng.normal(size=(3, 3)) @ rows]).astype(np.float32)
    k = (rng.normal(size=(50, 10)).astype(np.float32) @ matrix.T).astype(np.float32)
    check_consistency(plan_constraint(matrix), k)
    k[7] *= np.float32(1.01) ** np.arange(6, dtype=np.float32)
    disagreement(matrix, k)


def test_float64_tolerance_is_that_of_float64():
    matrix = np.ones((2, 4))
    disagreement(matrix, np.array([1.0, 1.0 + 1e-6]))
    check_consistency(plan_constraint(matrix), np.array([1.0, 1.0 + 1e-14]))


@pytest.mark.parametrize("k", [np.zeros((0, 3)), np.zeros((4, 0, 3))], ids=["empty", "batch"])
def test_an_empty_batch_is_consistent(k: np.ndarray):
    check_consistency(plan_constraint(np.ones((3, 5))), k)


def test_no_rows_and_independent_rows_are_consistent(rng):
    check_consistency(plan_constraint(np.zeros((0, 3))), np.zeros((2, 0)))
    check_consistency(plan_constraint(rng.normal(size=(3, 5))), rng.normal(size=3))
