"""The same content is analysed once; changed content is noticed; the memory of plans is bounded."""

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from constrained_core import GroupSum, plan_constraint
from constrained_core.cache import Content
from constrained_core.linear import planner


class Counter:
    """How many dense matrices were analysed."""

    def __init__(self) -> None:
        self.calls = 0

    def counting(self, function):
        def counted(*args):
            self.calls += 1
            return function(*args)

        return counted


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    """One for all tests here, so that none meets the matrices of another."""
    return np.random.default_rng(31)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    counter = Counter()
    monkeypatch.setattr(planner, "factor_rows", counter.counting(planner.factor_rows))
    yield counter


def test_same_content_is_analysed_once(counter: Counter, rng):
    matrix = rng.normal(size=(4, 30))
    plans = {plan_constraint(np.array(matrix)) for _ in range(10)}
    assert (len(plans), counter.calls) == (1, 1)


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda m: m.T.copy().T, lambda m: np.repeat(m, 2, axis=1)[:, ::2],
], ids=["fortran", "transposed", "strided"])  # fmt: skip
def test_layout_in_memory_does_not_matter(layout, counter: Counter, rng):
    matrix = rng.normal(size=(4, 31))
    assert plan_constraint(matrix) is plan_constraint(layout(matrix))
    assert counter.calls == 1


@pytest.mark.parametrize("size", [(2, 3), (40, 100)])
def test_change_in_place_is_noticed(size: tuple[int, int], counter: Counter, rng):
    """Every entry counts, also in a matrix too large to look at whole for its key."""
    matrix = rng.normal(size=size)
    for calls, entry in enumerate(rng.integers(matrix.size, size=20), start=1):
        before = plan_constraint(matrix)
        assert counter.calls == calls
        kept = before.rows.copy()
        matrix.flat[entry] += 1.0
        after = plan_constraint(matrix)
        assert after is not before
        np.testing.assert_array_equal(after.rows, matrix * after.row_scale[:, None])
        np.testing.assert_array_equal(before.rows, kept)  # a plan keeps no view of A


def test_shape_and_dtype_are_content(counter: Counter):
    matrix = np.eye(4)[:3] * 0.7
    plans = [plan_constraint(m) for m in (matrix, matrix.reshape(2, 6), matrix.astype(np.float32))]
    assert len({id(plan) for plan in plans}) == 3
    assert counter.calls == 3


def test_alternating_matrices_stay_known(counter: Counter, rng):
    matrices = rng.normal(size=(8, 3, 10))
    for _ in range(5):
        for matrix in matrices:
            plan_constraint(matrix)
    assert counter.calls == len(matrices)


def test_memory_is_bounded(counter: Counter, rng):
    first = rng.normal(size=(3, 10))
    alive = weakref.ref(plan_constraint(first))
    for matrix in rng.normal(size=(300, 3, 10)):
        plan_constraint(matrix)
    gc.collect()
    assert alive() is None
    plan_constraint(first)
    assert counter.calls == 302


def test_memory_of_groups_is_bounded(rng):
    groups = GroupSum(rng.integers(0, 3, 20), 3)
    alive = weakref.ref(plan_constraint(groups))
    assert plan_constraint(GroupSum(groups.index, 3)) is alive()
    for index in rng.integers(0, 3, (300, 20)):
        plan_constraint(GroupSum(index, 3))
    gc.collect()
    assert alive() is None


def test_an_error_is_not_remembered():
    matrix = np.ones((2, 3))
    matrix[1, 1] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="finite"):
            plan_constraint(matrix)
    matrix[1, 1] = 2.0
    assert plan_constraint(matrix).rank == 2


def test_threads(rng):
    matrices = rng.normal(size=(50, 3, 10))

    def scaled_rows(i: int) -> np.ndarray:
        plan = plan_constraint(matrices[i])
        return plan.rows / plan.row_scale[:, None]

    order = rng.integers(50, size=400)
    with ThreadPoolExecutor(8) as pool:
        for i, rows in zip(order, pool.map(scaled_rows, order), strict=True):
            np.testing.assert_array_equal(rows, matrices[i])


def test_a_lookup_compares_an_array_once(monkeypatch: pytest.MonkeyPatch, rng):
    """Of a large matrix, that is what a lookup takes."""
    compared, equal = [], Content.__eq__
    monkeypatch.setattr(Content, "__eq__", lambda *pair: compared.append(pair) or equal(*pair))
    matrix = rng.normal(size=(3, 17))
    plan = plan_constraint(matrix)
    compared.clear()
    assert plan_constraint(matrix.copy()) is plan
    assert len(compared) == 1
