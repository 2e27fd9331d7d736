"""Sizes that must be small: states of known problems, and work that grows with n only."""

from math import comb

import numpy as np
import pytest

from constrained_core import GroupSum, count_fiber, enumerate_fiber, plan_fiber
from tests.core.matrices import margins
from tests.core.work import no_long_loop


def two_way_margins(*shape: int) -> np.ndarray:
    """Sums of a three-way table over each of its ways."""
    places = np.indices(shape).reshape(3, -1)
    labels = [places[i] * shape[j] + places[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    return np.concatenate([label == np.unique(label)[:, None] for label in labels]).astype(int)


def table(total: int, size: int) -> np.ndarray:
    """Cells of one table with very different rates."""
    rng = np.random.default_rng(total)
    return rng.multinomial(total, rng.dirichlet(np.full(size, 2.0)))


def test_exactly_k_is_a_group():
    plan = plan_fiber(np.ones((1, 1000)), [100], upper=np.ones(1000))
    assert plan.trellis is None
    assert plan.groups.members.shape == (1, 1000)
    assert count_fiber(plan, np.array([100])) == comb(1000, 100)


def test_exactly_k_as_a_trellis():
    """About n (n - k) states, as in the programme for Poisson-binomials."""
    trellis = plan_fiber(np.ones((1, 100)), [30], upper=np.ones(100), grouped=False).trellis
    assert trellis.sizes.max() == 31
    assert trellis.num_transitions <= 100 * 31 * 2


def test_counts_of_permutation_matrices():
    plan = plan_fiber(margins(7, 7), np.ones(14))
    assert count_fiber(plan, np.ones(14)) == 5040
    assert plan.trellis.sizes.max() <= 2 * comb(7, 3)


@pytest.mark.parametrize("size, total, count", [
    (3, 2, 21), (3, 5, 231), (4, 2, 282), (4, 4, 10147), (5, 2, 6210),
])  # fmt: skip
def test_counts_of_magic_squares(size: int, total: int, count: int):
    """Tables with equal margins (OEIS A002817, A001496, A000681)."""
    plan = plan_fiber(margins(size, size), np.full(2 * size, total), merge=True)
    assert count_fiber(plan, np.full(2 * size, total)) == count


@pytest.mark.parametrize("total, states", [(20, 1_000), (40, 10_000), (60, 40_000)])
def test_four_by_four_tables(total: int, states: int):
    A = margins(4, 4)
    plan = plan_fiber(A, A @ table(total, 16), merge=True)
    assert plan.trellis.sizes.max() <= states


@pytest.mark.parametrize("total", [100, 400])
def test_three_way_tables(total: int):
    """2 x 2 x 6 given all two-way margins: one number per slice is left, whose sum is given."""
    A = two_way_margins(2, 2, 6)
    k = A @ table(total, 24)
    plan = plan_fiber(A, k, merge=True)
    assert plan.rank == 19
    assert plan.trellis.num_transitions <= 100 * total**2
    if total == 100:
        everything = enumerate_fiber(plan, k)
        assert len(everything) == count_fiber(plan, k)
        np.testing.assert_array_equal(everything @ A.T, np.tile(k, (len(everything), 1)))


def test_links_of_a_star_network():
    """Sixteen flows between four nodes, seen on seven links."""
    A = margins(4, 4)[:7]
    for total, budget in ((20, 20_000), (60, 10_000_000)):
        trellis = plan_fiber(A, A @ table(total, 16), merge=True).trellis
        assert trellis.num_transitions <= budget


def test_batch_shares_its_states():
    A, rng = margins(3, 3), np.random.default_rng(1)
    k = rng.multinomial(12, np.full(9, 1 / 9), size=(8, 8)) @ A.T
    together = plan_fiber(A, k, merge=True).trellis
    apart = [plan_fiber(A, one, merge=True).trellis for one in np.unique(k.reshape(64, 6), axis=0)]
    assert len(together.starts) == len(apart)
    assert together.sizes.sum() < sum(trellis.sizes.sum() for trellis in apart) * 0.7


def test_many_groups():
    """Linear work: no loop over groups."""
    rng = np.random.default_rng(2)
    groups = GroupSum(rng.integers(0, 10**5, 10**6), 10**5)
    k = np.bincount(groups.index, rng.poisson(3.0, 10**6), minlength=10**5)
    with no_long_loop():
        plan = plan_fiber(groups, k)
    assert plan.trellis is None
    np.testing.assert_array_equal(plan.groups.totals(k)[plan.groups.index], plan.upper)
