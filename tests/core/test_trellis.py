"""The path of a trellis: paths are points, no state is idle, and padding changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import assume, given

from constrained_core import (
    InfeasibleConstraintError,
    IntractableConstraintError,
    Trellis,
    count_fiber,
    enumerate_fiber,
    plan_fiber,
)
from constrained_core.fiber import trellis_segments, trellis_states
from constrained_core.fiber.trellis_order import column_order
from constrained_core.fiber.trellis_segments import segment_ends
from tests.core.fibers import System, integer_systems
from tests.core.matrices import margins


def trellis_of(system: System) -> Trellis:
    trellis = system.plan(grouped=False).trellis
    assume(trellis is not None)
    return trellis


def column_coefficients(system: System, trellis: Trellis) -> np.ndarray:
    """``(q, r)``; all variables of a column have the same."""
    columns = np.zeros((trellis.num_columns, len(trellis.rows)), dtype=np.int64)
    columns[trellis.column] = system.A[np.ix_(trellis.rows, trellis.variables)].T
    return columns


@given(system=integer_systems())
def test_tables_have_the_shapes_that_they_say(system: System):
    trellis = trellis_of(system)
    assert len(trellis.sizes) == trellis.num_columns + 1 == len(trellis.num_values) + 1
    assert trellis.sizes[0] == len(trellis.starts)
    assert trellis.sizes[-1] == 1
    for stage, table in enumerate(trellis.next):
        assert table.dtype == np.int32
        values = trellis.values(stage)
        assert table.shape == values.shape and len(table) == trellis.sizes[stage]
        assert values.min(initial=0) >= 0 and values.max(initial=-1) < trellis.num_values[stage]
        assert table.min() >= 0 and table.max() <= trellis.sizes[stage + 1]
    assert trellis.num_transitions == sum(table.size for table in trellis.next)


@given(system=integer_systems())
def test_walks_spend_the_right_hand_side(system: System):
    """The state after a value is what it leaves: the same by whatever path it is reached."""
    trellis = trellis_of(system)
    left = trellis.starts
    for stage, column in enumerate(column_coefficients(system, trellis)):
        source, place = np.nonzero(trellis.next[stage] < trellis.sizes[stage + 1])
        target = trellis.next[stage][source, place]
        value = trellis.first[stage][source] + place
        after = np.full((trellis.sizes[stage + 1], len(trellis.rows)), np.iinfo(np.int64).min)
        after[target] = left[source] - value[:, None] * column
        np.testing.assert_array_equal(after[target], left[source] - value[:, None] * column)
        assert len(np.unique(after, axis=0)) == len(after)
        left = after
    assert not left.any()


@given(system=integer_systems())
def test_no_state_and_no_value_is_idle(system: System):
    trellis = trellis_of(system)
    for stage, table in enumerate(trellis.next):
        alive = table < trellis.sizes[stage + 1]
        assert alive.any(axis=1).all() and alive[:, -1].any()
        assert alive[:, 0].all() or not trellis.first[stage].any()
        assert (trellis.first[stage][:, None] + np.arange(table.shape[1]))[alive].max() + 1 == (
            trellis.num_values[stage]
        )
        assert len(np.unique(table[alive])) == trellis.sizes[stage + 1]


@given(system=integer_systems())
def test_starts_are_the_right_hand_sides(system: System):
    trellis = trellis_of(system)
    np.testing.assert_array_equal(
        trellis.starts[trellis.start_of(system.k)], system.k[..., trellis.rows]
    )
    expected = np.unique(system.k.reshape(-1, len(system.A))[:, trellis.rows], axis=0)
    np.testing.assert_array_equal(trellis.starts, expected)


def transitions(first: np.ndarray, table: np.ndarray, dead: int) -> np.ndarray:
    """State, value and next state of all that is alive."""
    state, place = np.nonzero(table < dead)
    return np.column_stack([state, first[state] + place, table[state, place]])


@given(system=integer_systems())
def test_segments_say_the_same(system: System):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellis_segments, "LEAST_GAIN", 1)
        trellis = trellis_of(system)
        segments = replace(trellis).segments
    assert [part.start for part in segments[1:]] == [part.stop for part in segments[:-1]]
    assert segments[0].start == 0 and segments[-1].stop == trellis.num_columns
    for part in segments:
        assert part.next.dtype == part.first.dtype == np.int32
        assert part.size == trellis.sizes[part.start : part.stop + 1].max()
        for place, stage in enumerate(range(part.start, part.stop)):
            found = transitions(part.first[place], part.next[place], part.size)
            expected = transitions(
                trellis.first[stage], trellis.next[stage], trellis.sizes[stage + 1]
            )
            np.testing.assert_array_equal(found, expected)


@given(system=integer_systems())
def test_ways_back_are_the_same_transitions(system: System):
    """Stage by stage, and in the segments of the ways on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellis_segments, "LEAST_GAIN", 1)
        trellis = replace(trellis_of(system))
        segments = trellis.segments_before
    firsts, tables = trellis.before
    for part, ahead in zip(segments, trellis.segments, strict=True):
        assert (part.start, part.stop, part.size) == (ahead.start, ahead.stop, ahead.size)
        for place, stage in enumerate(range(part.start, part.stop)):
            expected = transitions(
                trellis.first[stage], trellis.next[stage], trellis.sizes[stage + 1]
            )
            found = transitions(firsts[stage], tables[stage], trellis.sizes[stage])
            np.testing.assert_array_equal(
                np.unique(found[:, ::-1], axis=0), np.unique(expected, axis=0)
            )
            padded = transitions(part.first[place], part.next[place], part.size)
            np.testing.assert_array_equal(padded, found)


def test_segments_save_padding():
    """Two by two tables: the first cell is free, the others follow from it."""
    A, k = np.kron(np.eye(4, dtype=int), margins(2, 2)), np.tile([300, 500, 420, 380], 4)
    trellis = plan_fiber(A, k).trellis
    assert trellis.num_transitions < sum(trellis.sizes[:-1]) + 4 * 500
    assert 2 < len(trellis.segments) <= trellis_segments.MAX_SEGMENTS
    entries = sum(part.next.size for part in trellis.segments)
    assert entries < 0.05 * trellis.num_columns * trellis.sizes.max() * trellis.num_values.max()


def test_small_trelliss_are_one_segment():
    assert len(plan_fiber(margins(3, 2), [5, 4, 3, 6, 6]).trellis.segments) == 1


def padded_entries(heights: np.ndarray, widths: np.ndarray, ends: list[int]) -> int:
    parts = zip([0, *ends], ends, strict=False)
    return sum((j - i) * heights[i:j].max() * widths[i:j].max() for i, j in parts)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_segment_ends_are_the_best_ones(size: int):
    """Against all ways to cut."""
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(1, 10**4, size), rng.integers(1, 50, size)
    ends = segment_ends(heights, widths)
    cuts = combinations(range(1, size), len(ends) - 1)
    best = min(padded_entries(heights, widths, [*cut, size]) for cut in cuts)
    assert padded_entries(heights, widths, ends) == best


def test_unknown_start():
    trellis = plan_fiber([[1, 2], [1, 0]], [[5, 1], [4, 2]]).trellis
    with pytest.raises(InfeasibleConstraintError, match=r"k\[1\].*2 right-hand sides.*\[3, 1\]"):
        trellis.start_of(np.array([[5, 1], [3, 1]]))
    assert trellis.find(np.array([[5, 1], [3, 1]])).tolist() == [1, -1]


def test_rows_close_early():
    """Interleaved blocks, and a table in random order, are put in order."""
    A = np.kron([[1, 2, 3]], np.eye(4, dtype=np.int64))
    trellis = plan_fiber(A, [6, 6, 6, 6], upper=np.full(12, 3)).trellis
    assert trellis.sizes.max() <= 7
    shuffled = margins(6, 3)[:, np.random.default_rng(0).permutation(18)]
    k = [3] * 6 + [6] * 3
    assert (
        plan_fiber(shuffled, k).trellis.sizes.max()
        <= plan_fiber(margins(6, 3), k).trellis.sizes.max()
    )


def test_equal_columns_stay_together():
    columns = np.array([[1, 1], [2, 1], [1, 1], [2, 1], [1, 1]])
    order = column_order(columns, np.full(5, 3), np.zeros(5, dtype=int), np.array([[4, 4], [4, 4]]))
    kinds = columns[order, 0]
    assert np.count_nonzero(np.diff(kinds)) == 1


def test_states_past_64_bits():
    """No code of 64 bits tells all states apart, nor does a float hold the number of points."""
    A, k = np.kron(np.eye(30, dtype=np.int64), [[1, 2, 1]]), np.arange(90, 120)
    plan = plan_fiber(A, k)
    assert plan.trellis.sizes.max() <= 120
    each = [sum(total - 2 * y + 1 for y in range(total // 2 + 1)) for total in k.tolist()]
    assert count_fiber(plan, k) == prod(each)


def hashed(weight: int) -> Callable:
    """As if states took more than 64 bits; without a weight, as if all hashes were alike."""
    exact = trellis_states._Reach.row_code
    return lambda *arguments: (exact(*arguments)[0] * weight, False)


@given(system=integer_systems())
def test_hashed_states(system: System):
    plan = system.plan(grouped=False)
    assume(plan.trellis is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellis_states._Reach, "row_code", hashed(7))
        patch.setattr(trellis_states, "PIECE", 5)
        other = system.plan(grouped=False, max_transitions=10**6)
    assert other is not plan
    np.testing.assert_array_equal(other.trellis.sizes, plan.trellis.sizes)
    for k in system.k.reshape(-1, len(system.A)):
        np.testing.assert_array_equal(enumerate_fiber(other, k), enumerate_fiber(plan, k))


def test_hashes_that_collide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trellis_states._Reach, "row_code", hashed(0))
    with pytest.raises(IntractableConstraintError, match="could not be told apart"):
        plan_fiber([[1, 2, 3]], [77])
