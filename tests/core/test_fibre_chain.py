"""The walk of a chain: paths are points, no state is idle, and padding changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import assume, given

from constrained_core import (
    FibreChain,
    InfeasibleConstraintError,
    IntractableConstraintError,
    count_fibre,
    enumerate_fibre,
    fibre_segments,
    fibre_states,
    plan_fibre,
)
from constrained_core.fibre_order import column_order
from constrained_core.fibre_segments import segment_ends
from tests.core.fibres import System, integer_systems
from tests.core.matrices import margins


def chain_of(system: System) -> FibreChain:
    chain = system.plan(grouped=False).chain
    assume(chain is not None)
    return chain


def column_coefficients(system: System, chain: FibreChain) -> np.ndarray:
    """``(q, r)``; all variables of a column have the same."""
    columns = np.zeros((chain.num_columns, len(chain.rows)), dtype=np.int64)
    columns[chain.column] = system.A[np.ix_(chain.rows, chain.variables)].T
    return columns


@given(system=integer_systems())
def test_tables_have_the_shapes_that_they_say(system: System):
    chain = chain_of(system)
    assert len(chain.sizes) == chain.num_columns + 1 == len(chain.num_values) + 1
    assert chain.sizes[0] == len(chain.starts)
    assert chain.sizes[-1] == 1
    for level, table in enumerate(chain.next):
        assert table.dtype == np.int32
        values = chain.values(level)
        assert table.shape == values.shape and len(table) == chain.sizes[level]
        assert values.min(initial=0) >= 0 and values.max(initial=-1) < chain.num_values[level]
        assert table.min() >= 0 and table.max() <= chain.sizes[level + 1]
    assert chain.num_transitions == sum(table.size for table in chain.next)


@given(system=integer_systems())
def test_walks_spend_the_right_hand_side(system: System):
    """The state after a value is what it leaves: the same by whatever path it is reached."""
    chain = chain_of(system)
    left = chain.starts
    for level, column in enumerate(column_coefficients(system, chain)):
        source, place = np.nonzero(chain.next[level] < chain.sizes[level + 1])
        target = chain.next[level][source, place]
        value = chain.first[level][source] + place
        after = np.full((chain.sizes[level + 1], len(chain.rows)), np.iinfo(np.int64).min)
        after[target] = left[source] - value[:, None] * column
        np.testing.assert_array_equal(after[target], left[source] - value[:, None] * column)
        assert len(np.unique(after, axis=0)) == len(after)
        left = after
    assert not left.any()


@given(system=integer_systems())
def test_no_state_and_no_value_is_idle(system: System):
    chain = chain_of(system)
    for level, table in enumerate(chain.next):
        alive = table < chain.sizes[level + 1]
        assert alive.any(axis=1).all() and alive[:, -1].any()
        assert alive[:, 0].all() or not chain.first[level].any()
        assert (chain.first[level][:, None] + np.arange(table.shape[1]))[alive].max() + 1 == (
            chain.num_values[level]
        )
        assert len(np.unique(table[alive])) == chain.sizes[level + 1]


@given(system=integer_systems())
def test_starts_are_the_right_hand_sides(system: System):
    chain = chain_of(system)
    np.testing.assert_array_equal(chain.starts[chain.start_of(system.k)], system.k[..., chain.rows])
    expected = np.unique(system.k.reshape(-1, len(system.A))[:, chain.rows], axis=0)
    np.testing.assert_array_equal(chain.starts, expected)


def transitions(first: np.ndarray, table: np.ndarray, dead: int) -> np.ndarray:
    """State, value and next state of all that is alive."""
    state, place = np.nonzero(table < dead)
    return np.column_stack([state, first[state] + place, table[state, place]])


@given(system=integer_systems())
def test_segments_say_the_same(system: System):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fibre_segments, "LEAST_GAIN", 1)
        chain = chain_of(system)
        segments = replace(chain).segments
    assert [part.start for part in segments[1:]] == [part.stop for part in segments[:-1]]
    assert segments[0].start == 0 and segments[-1].stop == chain.num_columns
    for part in segments:
        assert part.next.dtype == part.first.dtype == np.int32
        assert part.size == chain.sizes[part.start : part.stop + 1].max()
        for place, level in enumerate(range(part.start, part.stop)):
            found = transitions(part.first[place], part.next[place], part.size)
            expected = transitions(chain.first[level], chain.next[level], chain.sizes[level + 1])
            np.testing.assert_array_equal(found, expected)


@given(system=integer_systems())
def test_ways_back_are_the_same_transitions(system: System):
    """Level by level, and in the segments of the ways on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fibre_segments, "LEAST_GAIN", 1)
        chain = replace(chain_of(system))
        segments = chain.segments_before
    firsts, tables = chain.before
    for part, ahead in zip(segments, chain.segments, strict=True):
        assert (part.start, part.stop, part.size) == (ahead.start, ahead.stop, ahead.size)
        for place, level in enumerate(range(part.start, part.stop)):
            expected = transitions(chain.first[level], chain.next[level], chain.sizes[level + 1])
            found = transitions(firsts[level], tables[level], chain.sizes[level])
            np.testing.assert_array_equal(
                np.unique(found[:, ::-1], axis=0), np.unique(expected, axis=0)
            )
            padded = transitions(part.first[place], part.next[place], part.size)
            np.testing.assert_array_equal(padded, found)


def test_segments_save_padding():
    """Two by two tables: the first cell is free, the others follow from it."""
    A, k = np.kron(np.eye(4, dtype=int), margins(2, 2)), np.tile([300, 500, 420, 380], 4)
    chain = plan_fibre(A, k).chain
    assert chain.num_transitions < sum(chain.sizes[:-1]) + 4 * 500
    assert 2 < len(chain.segments) <= fibre_segments.MAX_SEGMENTS
    entries = sum(part.next.size for part in chain.segments)
    assert entries < 0.05 * chain.num_columns * chain.sizes.max() * chain.num_values.max()


def test_small_chains_are_one_segment():
    assert len(plan_fibre(margins(3, 2), [5, 4, 3, 6, 6]).chain.segments) == 1


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
    chain = plan_fibre([[1, 2], [1, 0]], [[5, 1], [4, 2]]).chain
    with pytest.raises(InfeasibleConstraintError, match=r"k\[1\].*2 right-hand sides.*\[3, 1\]"):
        chain.start_of(np.array([[5, 1], [3, 1]]))
    assert chain.find(np.array([[5, 1], [3, 1]])).tolist() == [1, -1]


def test_rows_close_early():
    """Interleaved blocks, and a table in random order, are put in order."""
    A = np.kron([[1, 2, 3]], np.eye(4, dtype=np.int64))
    chain = plan_fibre(A, [6, 6, 6, 6], upper=np.full(12, 3)).chain
    assert chain.sizes.max() <= 7
    shuffled = margins(6, 3)[:, np.random.default_rng(0).permutation(18)]
    k = [3] * 6 + [6] * 3
    assert (
        plan_fibre(shuffled, k).chain.sizes.max() <= plan_fibre(margins(6, 3), k).chain.sizes.max()
    )


def test_equal_columns_stay_together():
    columns = np.array([[1, 1], [2, 1], [1, 1], [2, 1], [1, 1]])
    order = column_order(columns, np.full(5, 3), np.zeros(5, dtype=int), np.array([[4, 4], [4, 4]]))
    kinds = columns[order, 0]
    assert np.count_nonzero(np.diff(kinds)) == 1


def test_states_past_64_bits():
    """No code of 64 bits tells all states apart, nor does a float hold the number of points."""
    A, k = np.kron(np.eye(30, dtype=np.int64), [[1, 2, 1]]), np.arange(90, 120)
    plan = plan_fibre(A, k)
    assert plan.chain.sizes.max() <= 120
    each = [sum(total - 2 * y + 1 for y in range(total // 2 + 1)) for total in k.tolist()]
    assert count_fibre(plan, k) == prod(each)


def hashed(weight: int) -> Callable:
    """As if states took more than 64 bits; without a weight, as if all hashes were alike."""
    exact = fibre_states._Reach.row_code
    return lambda *arguments: (exact(*arguments)[0] * weight, False)


@given(system=integer_systems())
def test_hashed_states(system: System):
    plan = system.plan(grouped=False)
    assume(plan.chain is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fibre_states._Reach, "row_code", hashed(7))
        patch.setattr(fibre_states, "PIECE", 5)
        other = system.plan(grouped=False, max_transitions=10**6)
    assert other is not plan
    np.testing.assert_array_equal(other.chain.sizes, plan.chain.sizes)
    for k in system.k.reshape(-1, len(system.A)):
        np.testing.assert_array_equal(enumerate_fibre(other, k), enumerate_fibre(plan, k))


def test_hashes_that_collide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fibre_states._Reach, "row_code", hashed(0))
    with pytest.raises(IntractableConstraintError, match="could not be told apart"):
        plan_fibre([[1, 2, 3]], [77])
