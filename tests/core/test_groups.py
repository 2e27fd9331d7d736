"""``GroupSum``: what it takes, what it refuses, and when two are the same."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_core import ConstraintError, GroupSum


def dense(index, num_groups, weights=None) -> np.ndarray:
    matrix = np.zeros((num_groups, len(index)))
    for variable, group in enumerate(index):
        matrix[group, variable] = 1.0 if weights is None else weights[variable]
    return matrix


@given(data=st.data(), num_groups=st.integers(1, 6), size=st.integers(0, 12))
def test_to_dense(data, num_groups: int, size: int):
    index = data.draw(st.lists(st.integers(0, num_groups - 1), min_size=size, max_size=size))
    weights = data.draw(st.lists(st.floats(-9, 9), min_size=size, max_size=size))
    for given_weights in (None, weights):
        groups = GroupSum(index, num_groups, given_weights)
        assert groups.shape == (num_groups, size)
        np.testing.assert_array_equal(groups.to_dense(), dense(index, num_groups, given_weights))


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda i: np.array(i, np.uint8)])
def test_index_of_any_integer_kind(kind):
    groups = GroupSum(kind([0, 2, 2]), 3)
    assert groups.index.dtype == np.int64
    assert groups == GroupSum([0, 2, 2], 3)


def test_weights_become_float64():
    assert GroupSum([0, 0], 1, weights=[1, 2]).weights.dtype == np.float64
    assert GroupSum([0, 0], 1, np.ones(2, np.float32)).weights.dtype == np.float64


REFUSED = {
    "index of two dimensions": (([[0, 1]], 2), ["index of shape (n,)", "(1, 2)"]),
    "a scalar index": ((0, 1), ["index of shape (n,)", "()"]),
    "an index of reals": (([0.0, 1.0], 2), ["integer", "float64"]),
    "an index of booleans": (([True, False], 2), ["integer", "bool"]),
    "a group too large": (([0, 3, 1], 3), ["0..2", "index[1] = 3", "num_groups"]),
    "a negative group": (([0, 1, -1], 3), ["0..2", "index[2] = -1", "renumber"]),
    "too few weights": (([0, 1], 2, [1.0]), ["shape (2,)", "(1,)", "one weight per variable"]),
    "weights of two dimensions": (([0, 1], 2, [[1.0, 2.0]]), ["shape (2,)", "(1, 2)"]),
    "NaN weights": (([0, 1], 2, [1.0, np.nan]), ["finite", "NaN"]),
    "infinite weights": (([0, 1], 2, [np.inf, 1.0]), ["finite", "infinity"]),
    "weights that are no numbers": (([0, 1], 2, ["a", "b"]), ["known numbers", "dense A"]),
}


@pytest.mark.parametrize("arguments, parts", REFUSED.values(), ids=REFUSED)
def test_refused(arguments: tuple, parts: list[str]):
    with pytest.raises(ConstraintError) as raised:
        GroupSum(*arguments)
    for part in ["GroupSum: expected", *parts]:
        assert part in str(raised.value)


def test_equal_by_content():
    one, same = GroupSum([0, 1, 1], 2), GroupSum(np.array([0, 1, 1]), 2)
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same}) == 1


@pytest.mark.parametrize("other", [
    GroupSum([0, 1, 0], 2),
    GroupSum([0, 1, 1], 3),
    GroupSum([0, 1, 1], 2, weights=[1.0, 2.0, 1.0]),
    GroupSum([0, 1], 2),
    "GroupSum",
    None,
], ids=["index", "num_groups", "weights", "size", "text", "none"])  # fmt: skip
def test_not_equal(other):
    assert GroupSum([0, 1, 1], 2) != other


def test_immutable():
    index, weights = np.array([0, 1]), np.array([1.0, 2.0])
    groups = GroupSum(index, 2, weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        groups.num_groups = 3
    for array in (groups.index, groups.weights):
        with pytest.raises(ValueError):
            array[0] = 1
    index[0], weights[0] = 1, 5.0
    assert groups == GroupSum([0, 1], 2, [1.0, 2.0]), "it keeps copies"


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]
)
def test_copies_are_equal(clone):
    groups = GroupSum([0, 1, 1], 3, [1.0, 0.5, -2.0])
    hash(groups)
    assert clone(groups) == groups
    assert hash(clone(groups)) == hash(groups)


def test_repr_is_short():
    assert repr(GroupSum([0, 0, 1], 2)) == "GroupSum(3 variables, num_groups=2, unweighted)"
    assert "weighted)" in repr(GroupSum(np.zeros(10**5, int), 1, np.ones(10**5)))
