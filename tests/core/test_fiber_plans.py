"""Plans of fibers: their parts, their bounds, and the points that they stand for."""

import dataclasses
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constrained_core import (
    ConstraintError,
    GroupSum,
    InfeasibleConstraintError,
    check_lattice,
    count_fiber,
    enumerate_fiber,
    plan_fiber,
)
from constrained_core.fiber import planner
from tests.core.fibers import System, integer_systems, points
from tests.core.matrices import margins


def each_k(system: System) -> np.ndarray:
    return system.k.reshape(int(np.prod(system.k.shape[:-1])), -1)


@given(system=integer_systems())
def test_points_against_brute_force(system: System):
    plan = system.plan()
    for k in each_k(system):
        expected = points(system.A, k, system.upper)
        np.testing.assert_array_equal(enumerate_fiber(plan, k), expected)
        assert count_fiber(plan, k) == len(expected) > 0


@given(system=integer_systems())
def test_rows_of_A_from_the_plan(system: System):
    """Those of the parts are as given; all others are zero, or told by a relation."""
    plan = system.plan()
    rows, entries = plan.matrix
    np.testing.assert_array_equal(entries, system.A[rows])
    assert not system.A[plan.zero_rows].any() and np.isin(plan.kept, rows).all()
    assert not (system.k @ plan.relations.T).any()
    parts = [part.rows for part in (plan.groups, plan.trellis) if part is not None]
    parts += [table.told for table in plan.tables]
    untold = np.setdiff1d(np.arange(plan.num_rows), np.concatenate([plan.zero_rows, *parts]))
    assert len(plan.relations) == len(untold)
    assert (plan.relations[np.arange(len(untold)), untold] != 0).all()


@given(system=integer_systems())
def test_upper_is_the_largest_value(system: System):
    """Exactly so in the trellis; in groups a bound, which only a small law may not reach."""
    plan = system.plan()
    everything = np.concatenate([points(system.A, k, system.upper) for k in each_k(system)])
    largest = everything.max(axis=0)
    assert (largest <= plan.upper).all()
    if plan.trellis is not None:
        np.testing.assert_array_equal(
            largest[plan.trellis.variables], plan.upper[plan.trellis.variables]
        )


@given(system=integer_systems())
def test_every_variable_is_in_one_part(system: System):
    for grouped in (True, False):
        plan = system.plan(grouped=grouped)
        parts = [plan.free]
        parts += [] if plan.groups is None else [plan.groups.variables]
        parts += [] if plan.trellis is None else [plan.trellis.variables]
        every = np.sort(np.concatenate(parts))
        np.testing.assert_array_equal(every, np.arange(plan.num_variables))
        np.testing.assert_array_equal(plan.free, np.flatnonzero(~system.A.any(axis=0)))
        assert grouped or plan.groups is None


@given(system=integer_systems())
def test_groups_say_the_same_as_their_rows(system: System):
    plan = system.plan()
    assume(plan.groups is not None)
    groups, columns = plan.groups, system.A[:, plan.groups.variables]
    for group in range(groups.num_groups):
        row = columns[groups.rows[group]]
        expected = np.where(groups.index == group, groups.divisor[group], 0)
        np.testing.assert_array_equal(row, expected)
        members = groups.members[group]
        found = np.flatnonzero(groups.index == group)
        np.testing.assert_array_equal(members[: len(found)], found)
        assert (members[len(found) :] == len(groups.variables)).all()
        assert groups.sizes[group] == len(found)
    np.testing.assert_array_equal(
        groups.totals(system.k) * groups.divisor, system.k[..., groups.rows]
    )


@given(data=st.data())
def test_mixed_signs_without_largest_values(data: st.DataObject):
    """Bounds that only a linear programme finds."""
    A = data.draw(arrays(np.int64, (2, 4), elements=st.integers(-1, 3)))
    k = A @ data.draw(arrays(np.int64, 4, elements=st.integers(0, 2)))
    try:
        plan = plan_fiber(A, k, merge=data.draw(st.booleans()))
    except ConstraintError:
        assume(False)
    assume((plan.upper >= 0).all() and np.prod(plan.upper + 2) < 20_000)
    np.testing.assert_array_equal(enumerate_fiber(plan, k), points(A, k, plan.upper + 1))


@given(system=integer_systems(bounded=True))
def test_unknown_k_of_a_bounded_law(system: System):
    """The plan has every k that can be reached, and no other."""
    plan = plan_fiber(system.A, None, upper=system.upper)
    box = np.indices(system.upper + 1).reshape(system.A.shape[1], -1).T
    counts: dict[tuple, int] = {}
    for k in map(tuple, box @ system.A.T):
        counts[k] = counts.get(k, 0) + 1
    for k, count in counts.items():
        check_lattice(plan, np.array(k))
        assert count_fiber(plan, np.array(k)) == count
    for k in map(tuple, np.array(list(counts)) + 1):
        if k not in counts:
            with pytest.raises(InfeasibleConstraintError):
                check_lattice(plan, np.array(k))


@given(system=integer_systems(bounded=False))
def test_bounded_k_of_an_unbounded_law(system: System):
    k_max = np.maximum(system.k, 0).reshape(-1, len(system.A)).max(axis=0)
    plan = plan_fiber(system.A, None, k_max=k_max, merge=system.merge)
    for k in each_k(system):
        if (k >= 0).all():
            np.testing.assert_array_equal(enumerate_fiber(plan, k), points(system.A, k, None))
    with pytest.raises(InfeasibleConstraintError):
        check_lattice(plan, k_max + 1)


def test_redundant_row_may_leave_groups():
    A = [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
    plan = plan_fiber(A, [5, 2, 3])
    assert plan.trellis is None
    assert plan.rank == 2 and plan.kept.tolist() == [1, 2]
    assert plan.upper.tolist() == [2, 2, 3, 3]


def test_coefficients_of_groups():
    plan = plan_fiber([[2, 2, 0, 0], [0, 0, -3, -3]], [[4, -3], [6, -9]])
    assert plan.groups.divisor.tolist() == [2, -3]
    assert plan.groups.totals(np.array([6, -9])).tolist() == [3, 3]
    assert plan.upper.tolist() == [3, 3, 3, 3]


def test_more_than_two_values_are_no_groups():
    assert plan_fiber(np.ones((1, 4)), [3], upper=np.full(4, 2)).groups is None
    assert plan_fiber(np.ones((1, 4)), [3], upper=np.ones(4)).trellis is None
    assert plan_fiber(np.ones((1, 4)), [3], upper=np.ones(4), grouped=False).groups is None


def test_equal_columns_are_merged():
    A = np.array([[1, 1, 2, 1], [0, 0, 1, 1]])
    plan = plan_fiber(A, [6, 2], merge=True)
    assert plan.trellis.num_columns == 3
    assert plan.trellis.column[0] == plan.trellis.column[1]
    apart = plan_fiber(A, [6, 2])
    assert apart.trellis.num_columns == 4
    assert count_fiber(plan, np.array([6, 2])) == count_fiber(apart, np.array([6, 2]))


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (2, 0)])
def test_nothing_to_plan(shape: tuple[int, int]):
    plan = plan_fiber(np.zeros(shape), np.zeros(shape[0]), upper=np.ones(shape[1]))
    assert (plan.groups, plan.trellis, plan.rank) == (None, None, 0)
    np.testing.assert_array_equal(
        enumerate_fiber(plan, np.zeros(shape[0])), points(np.zeros(shape), np.zeros(shape[0]), 1)
    )


def test_variables_in_no_row():
    plan = plan_fiber([[0, 1, 0]], [2])
    assert plan.free.tolist() == [0, 2]
    assert plan.upper.tolist() == [-1, 2, -1]


def test_empty_batch():
    plan = plan_fiber([[1, 2], [0, 1]], np.zeros((0, 2)))
    assert plan.trellis.start_of(np.zeros((0, 2), dtype=np.int64)).shape == (0,)


def test_types_and_layouts_are_one_content():
    A, k = margins(2, 3), np.array([3, 3, 2, 2, 2])
    plan = plan_fiber(A, k, merge=True)
    assert plan_fiber(np.asfortranarray(A.astype(np.float32)), k, merge=True) is plan
    assert plan_fiber(A.astype(np.int8), np.stack([k, k]), merge=True) is plan
    assert plan_fiber(A, k) is not plan
    assert plan_fiber(A, k, upper=np.full(6, 4)) is not plan
    assert plan_fiber(A, k + [1, 0, 1, 0, 0], merge=True) is not plan
    assert {plan: 1}[plan_fiber(A, k.astype(float), merge=True)] == 1


def test_matrix_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch):
    calls = []
    split = planner.split
    monkeypatch.setattr(planner, "split", lambda *a: calls.append(a) or split(*a))
    A = np.array([[1, 1, 1, 0], [0, 1, 2, 7]])
    for total in range(7, 20):
        plan_fiber(A, [total, 7])
    assert len(calls) == 1


def test_memory_is_bounded():
    alive = weakref.ref(plan_fiber([[1, 2]], [101]))
    for k in range(200):
        plan_fiber([[1, 2]], [k])
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("matrix", [GroupSum([0, 1, 1], 2), np.array([[1, 2, 0], [0, 1, 1]])])
def test_plans_can_be_pickled(matrix):
    k = np.array([3, 2])
    plan = plan_fiber(matrix, k)
    again = pickle.loads(pickle.dumps(plan))
    np.testing.assert_array_equal(enumerate_fiber(again, k), enumerate_fiber(plan, k))


def test_plans_are_frozen():
    plan = plan_fiber([[1, 2, 0, 0], [0, 0, 1, 1]], [3, 2])
    for part in (plan, plan.groups, plan.trellis, plan.lattice):
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)


def test_threads():
    """Plans of one content, asked for at once, are right for each."""
    totals = np.random.default_rng(4).integers(0, 12, size=200)
    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda t: count_fiber(plan_fiber([[1, 2]], [t]), np.array([t])), totals)
        assert list(counts) == (totals // 2 + 1).tolist()


def test_groups_of_similar_sizes():
    """One long group beside many short ones is not laid out with them; nothing is lost."""
    rng = np.random.default_rng(0)
    index = rng.permutation(np.concatenate([np.arange(3000), np.zeros(20_000, int), [1] * 70]))
    groups = plan_fiber(GroupSum(index, 3000), np.full(3000, 2)).groups
    assert sum(part.members.size for part in groups.by_size) <= 2 * len(index)
    rows = np.concatenate([part.rows for part in groups.by_size])
    np.testing.assert_array_equal(np.sort(rows), groups.rows)
    for part in groups.by_size:
        np.testing.assert_array_equal(index[part.variables], part.rows[part.index])
        np.testing.assert_array_equal(part.divisor, 1)
    even = plan_fiber(GroupSum(np.arange(12) // 3, 4), np.full(4, 2)).groups
    assert even.by_size == (even,)
