"""Walks on fibers: starts, directions, and what is known of their connectivity."""

from itertools import product

import numpy as np
import pytest

from constrained_core import (
    ConstraintError,
    FiberSamplerWarning,
    InfeasibleConstraintError,
    UnboundedSupportError,
)
from constrained_core.walk.connectivity import connects, unimodularity
from constrained_core.walk.diagnostics import diagnose
from constrained_core.walk.moves import integer_kernel, make_tableau, reduced_basis
from constrained_core.walk.plan import plan_walk
from constrained_core.walk.weights import CountWeights, TableWeights


def two_way(rows: int, columns: int) -> np.ndarray:
    """The sums of the rows and of the columns of a table."""
    ones, eyes = np.ones((1, columns), int), np.eye(rows, dtype=int)
    by_column = np.kron(np.ones((1, rows), int), np.eye(columns, dtype=int))
    return np.concatenate([np.kron(eyes, ones), by_column])


def three_way(size: int) -> np.ndarray:
    """All two-way sums of a cube: not unimodular from size 3 on."""
    cells = np.array(list(product(range(size), repeat=3)))
    labels = [(a, b, i, j) for a, b in ((0, 1), (0, 2), (1, 2)) for i, j in np.ndindex(size, size)]
    return np.array([(cells[:, a] == i) & (cells[:, b] == j) for a, b, i, j in labels]).astype(int)


INTERVAL = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1]])
CYCLE = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
NETWORK = np.array([[-1, 0, 0, 1, 1], [1, -1, 0, 0, 0], [0, 1, -1, 0, -1], [0, 0, 1, -1, 0]])


@pytest.mark.parametrize("A", [two_way(3, 4), NETWORK, -NETWORK.T, INTERVAL, INTERVAL.T])
def test_unimodular_families_are_recognised(A):
    assert "unimodular" in unimodularity(A)
    tableau = make_tableau(A, np.arange(A.shape[1]))
    assert (A[:, tableau.basis] @ tableau.entries == A[:, tableau.others]).all()


@pytest.mark.parametrize("A", [[[1, 1, 1, 1], [3, 3, 4, 4]], [[1, 1, 1], [2, 1, 2], [3, 2, 3]]])
def test_what_is_left_of_a_column_may_be_a_fraction(A):
    A = np.array(A)
    for weight in (np.arange(A.shape[1]), -np.arange(A.shape[1])):
        tableau = make_tableau(A, weight)
        assert len(tableau.basis) == np.linalg.matrix_rank(A)
        assert (A[:, tableau.basis] @ tableau.entries == A[:, tableau.others]).all()


@pytest.mark.parametrize("seed", range(8))
def test_combinations_of_the_rows_have_the_same_tableau(seed):
    """Sums of multiples of rows, which leave all minors as they are."""
    rng = np.random.default_rng(seed)
    family = [two_way(3, 4), NETWORK, INTERVAL, CYCLE[:2]][seed % 4]
    mixed = family.copy()
    for _ in range(8):
        to, what = rng.choice(len(family), 2, replace=False)
        mixed[to] += rng.integers(-3, 4) * mixed[what]
    weight = rng.normal(size=family.shape[1])
    tableau, plain = make_tableau(mixed, weight), make_tableau(family, weight)
    np.testing.assert_array_equal(tableau.basis, plain.basis)
    np.testing.assert_array_equal(tableau.entries, plain.entries)


@pytest.mark.parametrize("A", [np.array([[1, 2, 3]]), CYCLE, three_way(3)])
def test_others_are_not(A):
    assert unimodularity(A) is None


def test_equal_minors_are_found_by_trying_all():
    odd = np.array([[2, 0, 2, 2], [0, 2, 2, -2]]) @ np.diag([1, 1, 1, 0])
    assert "minors" in unimodularity(odd)


@pytest.mark.parametrize("seed", range(6))
def test_reduced_basis_spans_the_whole_kernel(seed):
    rng = np.random.default_rng(seed)
    A = rng.integers(-2, 4, (2, 6))
    kernel = integer_kernel(A)
    reduced = reduced_basis(kernel, rng.uniform(0.5, 2, 6))
    assert not (A @ reduced.T).any() and len(reduced) == 6 - np.linalg.matrix_rank(A)
    # Each basis in terms of the other is whole.
    for one, other in ((kernel, reduced), (reduced, kernel)):
        factor = np.linalg.lstsq(one.T.astype(float), other.T.astype(float), rcond=None)[0]
        np.testing.assert_allclose(factor, np.rint(factor), atol=1e-6)
    assert np.abs(reduced).sum() <= np.abs(kernel.astype(int)).sum()


def test_three_way_moves_are_small():
    A = three_way(3)
    moves = reduced_basis(integer_kernel(A), np.ones(27))
    assert moves.shape == (8, 27) and np.abs(moves).max() == 1
    assert (np.count_nonzero(moves, axis=1) <= 12).all()


@pytest.mark.parametrize(
    "weights",
    [CountWeights(np.linspace(0.5, 40, 12)), TableWeights(np.zeros((12, 30)))],
    ids=["counts", "categories"],
)
def test_starts_are_on_the_fiber_and_differ(weights):
    A = two_way(3, 4)
    k = A @ (np.arange(12) + 3)
    starts = plan_walk(A, k, weights).starts(5, seed=1)
    assert (starts @ A.T == k).all() and (starts >= 0).all()
    assert len(np.unique(starts, axis=0)) > 1


def test_the_first_start_is_near_the_mean():
    rng = np.random.default_rng(0)
    A, rate = two_way(6, 6), rng.uniform(50, 200, 36)
    x = rng.poisson(rate)
    plan = plan_walk(A, A @ x, CountWeights(rate))
    assert np.abs(plan.start - plan.near[0]).max() <= 2


def test_impossible_values_are_left_out():
    weights = TableWeights(np.log([[0.5, 1e-300, 0.5], [1, 1, 1]]) + [[0, -np.inf, 0], [0, 0, 0]])
    plan = plan_walk(np.ones(2), 3, weights)
    assert plan.start.tolist() == [2, 1]
    assert plan_walk(np.ones(2), 4, CountWeights(np.array([0.0, 1.0]))).start.tolist() == [0, 4]


def test_moves_that_do_not_connect_are_told():
    A, k = np.array([[1, 2, 3]]), np.array([4])
    poor = plan_walk(A, k, CountWeights(np.ones(3)), moves=np.array([[2, -1, 0]]))
    assert poor.connectivity.is_connected is False
    good = plan_walk(A, k, CountWeights(np.ones(3)), moves=[[2, -1, 0], [3, 0, -1], [1, 1, -1]])
    assert good.connectivity.is_connected is True
    large = plan_walk(three_way(3), np.full(27, 60), CountWeights(np.ones(27)))
    assert large.connectivity.is_connected is None and "rare" in large.connectivity.reason


def test_connects_agrees_with_a_walk_by_hand():
    points = np.array([[4, 0, 0], [2, 1, 0], [0, 2, 0], [1, 0, 1]])
    assert not connects(points, np.array([[2, -1, 0]]))
    assert connects(points, np.array([[2, -1, 0], [1, 1, -1]]))


@pytest.mark.parametrize(
    ("error", "A", "k", "moves", "text"),
    [
        (InfeasibleConstraintError, [[2, 2, 2]], [3], None, "multiples of 2"),
        (InfeasibleConstraintError, [[3, 5, 7]], [4], None, "integer x"),
        (UnboundedSupportError, [[1, -1, 0]], [0], None, "not bounded"),
        (ConstraintError, [[1, 1, 1]], [3], [[1, 0, 0]], "A moves.T = 0"),
        (ConstraintError, [[1, 1, 1]], [3], [[1, -1]], "expected shape"),
        (ConstraintError, [[1, 1]], [3], None, "base law of 3"),
        (ConstraintError, [[1, 1, 1]], [[3], [4]], None, "make a sampler of each"),
    ],
)
def test_errors(error, A, k, moves, text):
    with pytest.raises(error, match=text):
        plan_walk(np.array(A), np.array(k), CountWeights(np.ones(3)), moves).starts(1, 0)


def test_diagnostics_warn_where_chains_disagree(rng):
    pytest.importorskip("arviz")
    draws = rng.normal(size=(4, 1000, 2))
    assert diagnose(draws, np.array([0, 1])).is_good
    draws[0] += 3
    with pytest.warns(FiberSamplerWarning, match=r"1 of 1 variables.*R-hat.*up to 1[.].*draw more"):
        assert not diagnose(draws, np.array([0])).is_good


def test_diagnostics_warn_of_too_few_effective_draws(rng):
    """A chain that moves a little at every draw: R-hat may pass, the effective number does not."""
    pytest.importorskip("arviz")
    steps = rng.normal(size=(2, 4000))
    draws = np.empty((2, 4000, 1))
    draws[:, 0, 0] = steps[:, 0]
    for i in range(1, 4000):
        draws[:, i, 0] = 0.995 * draws[:, i - 1, 0] + 0.1 * steps[:, i]
    with pytest.warns(FiberSamplerWarning, match="200 effective draws.* and [0-9]+; draw more"):
        found = diagnose(draws, np.array([0]))
    assert not found.is_good and found.ess[0] < 200
