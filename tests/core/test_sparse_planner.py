"""Plans of sparse matrices, against the dense planner and rational arithmetic."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse

from constrained_core import (
    ConstraintError,
    InfeasibleConstraintError,
    SparseMatrix,
    check_consistency,
    plan_constraint,
    plan_pattern,
)
from constrained_core.linear.sparse_plan import SparsePlan
from tests.core import exact
from tests.core.matrices import MATRICES, Known, integer_matrices, scaled_matrices

EPS = np.finfo(np.float64).eps
each_matrix = pytest.mark.parametrize("known", MATRICES.values(), ids=MATRICES)


def sparse_plan(matrix: np.ndarray) -> SparsePlan:
    return plan_constraint(SparseMatrix.of(sparse.csr_array(matrix)))


def random_matrix(seed: int) -> np.ndarray:
    """Few entries, of scales that differ by rows, by columns or not; many with redundant rows."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 14, size=2)
    matrix = sparse.random_array((m, n), density=rng.uniform(0.1, 0.7), rng=rng).toarray()
    kind = seed % 4
    if kind == 1:
        matrix = np.round(6 * matrix - 3 * (matrix != 0))
    if m > 3 and rng.random() < 0.5:
        matrix[rng.integers(3, m)] = rng.integers(-2, 3, size=3) @ matrix[:3]
    if kind == 2:
        matrix *= 10.0 ** rng.integers(-6, 7, size=(m, 1))
    if kind == 3:
        matrix *= 10.0 ** rng.integers(-2, 3, size=(1, n))
    return matrix


def condition(plan: SparsePlan) -> float:
    """Of the scaled rows."""
    values = np.linalg.svd(plan.matrix.toarray(), compute_uv=False)
    return float(values[0] / values[-1]) if len(values) else 1.0


def check_facts(plan: SparsePlan, matrix: np.ndarray, rank: int) -> None:
    """What a plan says of a matrix, by dense algebra."""
    rows = plan.matrix.toarray()
    assert plan.rank == rank
    assert (plan.num_rows, plan.num_variables) == matrix.shape
    assert (np.diff(plan.kept) > 0).all()
    np.testing.assert_array_equal(rows, matrix[plan.kept] * plan.row_scale[:, None])
    np.testing.assert_array_equal(np.frexp(plan.row_scale)[0], 0.5)  # powers of two
    tolerance = 50 * max(matrix.shape, default=0) * EPS * condition(plan)
    dependence, dropped = plan.dependence.toarray(), matrix[plan.dropped]
    size = np.abs(dependence) @ np.abs(rows) + np.abs(dropped)
    gap = np.abs(dependence @ rows - dropped)
    assert (gap.max(axis=1, initial=0) <= tolerance * size.max(axis=1, initial=0)).all()
    values = np.linalg.svd(rows, compute_uv=False)
    assert plan.log_volume == pytest.approx(np.log(values).sum(), abs=1e-13 + tolerance)


def check_elimination(plan: SparsePlan, rng: np.random.Generator) -> None:
    rows = plan.matrix.toarray()
    assert len(np.union1d(plan.pivots, plan.free)) == plan.num_variables
    x = np.zeros((3, plan.num_variables))
    k, x[:, plan.free] = rng.normal(size=(3, plan.rank)), rng.normal(size=(3, plan.free_size))
    x[:, plan.pivots] = plan.complete(k, x[:, plan.free])
    size = np.abs(x) @ np.abs(rows.T) + np.abs(k)
    assert (np.abs(x @ rows.T - k) <= 4 * EPS * size).all()
    gradient = rng.normal(size=(3, plan.rank))
    on_k, on_free = plan.complete_adjoint(gradient)
    one = (gradient * x[:, plan.pivots]).sum(-1)
    other = (on_k * k).sum(-1) + (on_free * x[:, plan.free]).sum(-1)
    products = (np.abs(on_k) * np.abs(k)).sum(-1) + (np.abs(on_free * x[:, plan.free])).sum(-1)
    scale = np.abs(gradient * x[:, plan.pivots]).sum(-1) + products
    assert (np.abs(one - other) <= 1e-12 * condition(plan) * scale).all()
    assert plan.log_pivot_volume == pytest.approx(
        np.linalg.slogdet(rows[:, plan.pivots])[1], abs=1e-13 + 100 * EPS * condition(plan)
    )


@each_matrix
def test_known_matrices(known: Known, rng):
    plan = sparse_plan(known.matrix)
    check_facts(plan, known.matrix, known.rank)
    check_elimination(plan, rng)


@pytest.mark.parametrize("name", [name for name in MATRICES if MATRICES[name].rank])
def test_range_volume_of_known_matrices(name: str):
    matrix, dense = MATRICES[name].matrix, plan_constraint(MATRICES[name].matrix)
    tolerance = max(1e-12, MATRICES[name].rounding)
    found = sparse_plan(matrix).log_range_volume
    assert found == pytest.approx(dense.log_range_volume, abs=tolerance)


@pytest.mark.parametrize("seed", range(200))
def test_random_matrices_as_the_dense_planner(seed: int, rng):
    matrix = random_matrix(seed)
    plan, dense = sparse_plan(matrix), plan_constraint(matrix)
    check_facts(plan, matrix, dense.rank)
    check_elimination(plan, rng)
    tolerance = 1e-13 + 1e3 * EPS * condition(plan)
    assert plan.log_range_volume == pytest.approx(dense.log_range_volume, abs=tolerance)
    k = matrix @ rng.normal(size=matrix.shape[1])
    check_consistency(plan, k)
    for row in plan.dropped:
        changed = k + (np.arange(len(k)) == row) * (1e-3 * np.abs(k).max() + 1e-9)
        with pytest.raises(InfeasibleConstraintError, match=rf"row {row} of A"):
            check_consistency(plan, changed)


@given(matrix=integer_matrices())
def test_facts_in_rational_arithmetic(matrix: np.ndarray):
    plan = sparse_plan(matrix)
    assert plan.rank == exact.rank(matrix)
    expected = exact.half_log_pdet(matrix) if plan.rank else 0.0
    assert plan.log_range_volume == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(matrix=scaled_matrices())
def test_determined_as_in_rational_arithmetic(matrix: np.ndarray):
    np.testing.assert_array_equal(sparse_plan(matrix).determined, exact.determined(matrix))


@given(matrix=integer_matrices())
def test_followers_and_null_vectors(matrix: np.ndarray):
    plan = sparse_plan(matrix)
    rows, basis = plan.matrix.toarray(), plan.elimination.toarray()
    followers = plan.followers.toarray()
    expected = np.linalg.solve(rows[:, plan.pivots], rows[:, plan.free])
    np.testing.assert_allclose(followers, expected, atol=1e-12)
    assert not (followers[np.abs(expected) < 1e-12]).any()
    np.testing.assert_allclose(rows @ basis, 0, atol=1e-12)
    np.testing.assert_array_equal(basis[plan.free], np.eye(plan.free_size))
    # The volume of x = x0 + W u.
    stretch = 0.5 * np.linalg.slogdet(basis.T @ basis)[1]
    assert stretch == pytest.approx(plan.log_volume - plan.log_pivot_volume, abs=1e-10)


def grid_incidence(side: int) -> sparse.csr_array:
    """Nodes of a square grid by its edges: every component has one redundant row."""
    node = np.arange(side**2).reshape(side, side)
    tail = np.concatenate([node[:-1].ravel(), node[:, :-1].ravel()])
    head = np.concatenate([node[1:].ravel(), node[:, 1:].ravel()])
    edge = np.arange(len(tail))
    entries = np.concatenate([np.ones(len(tail)), -np.ones(len(tail))])
    places = np.concatenate([tail, head]), np.concatenate([edge, edge])
    return sparse.csr_array((entries, places), shape=(node.size, len(tail)))


def test_a_large_network(rng):
    """The determinant of A A' of a graph less a node counts its spanning trees."""
    matrix = grid_incidence(40)
    plan = plan_constraint(SparseMatrix.of(matrix))
    assert plan.rank == 1599
    laplacian = (matrix[plan.kept] @ matrix[plan.kept].T).toarray()
    expected = np.linalg.slogdet(laplacian)[1] / 2 + np.log(plan.row_scale).sum()
    assert plan.log_volume == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(plan.dependence.toarray() * plan.row_scale, -1.0, rtol=1e-10)
    assert plan.log_range_volume == pytest.approx(
        np.linalg.slogdet(laplacian)[1] / 2 + np.log(1600) / 2, rel=1e-12
    )
    # A spanning tree: entries of the followers are -1, 0 or 1.
    assert set(np.unique(plan.followers.data)) <= {-1.0, 1.0}
    assert plan.log_pivot_volume == pytest.approx(np.log(plan.row_scale).sum(), rel=1e-12)
    k = matrix @ rng.normal(size=matrix.shape[1])
    check_consistency(plan, k)


def test_rows_that_a_redundant_one_does_not_need_are_no_part_of_it():
    """Rounding of such a coefficient would count as what k of the others implies."""
    matrix = np.array(
        [[1.0, -1, -2, -1, 1], [0, 1, -2, -2, 1], [0, 0, 0, 1, 2], [-1, -1, -1, 0, 0]]
    )
    both = np.concatenate([matrix, 2 * matrix[:1]])
    plan = plan_constraint(SparseMatrix.of(sparse.csr_array(both)))
    np.testing.assert_allclose(plan.dependence.toarray() * plan.row_scale, [[2.0, 0, 0, 0]])
    assert plan.dependence.nnz == 1
    point = np.array([1.0, 0, 1, 0, 1])  # the first row is 0 there, others are not
    check_consistency(plan, both @ point)


def test_many_parts():
    """400 graphs, each with redundant rows of its own."""
    part = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [2, 2, 0, 0]])
    plan = plan_constraint(SparseMatrix.of(sparse.kron(sparse.eye_array(400), part)))
    assert plan.rank == 1200
    np.testing.assert_array_equal(np.bincount(plan.dropped // 5), 2)
    each = plan_constraint(part)
    assert plan.log_range_volume == pytest.approx(400 * each.log_range_volume, rel=1e-12)
    assert plan.dependence.nnz <= 800 * 3


def test_rows_that_are_nearly_parallel_are_independent():
    matrix = np.zeros((4, 40))
    matrix[:, :20] = 1.0
    matrix[[0, 1, 2, 3], [1, 2, 3, 4]] += 1e-9 * np.arange(1, 5)
    plan = sparse_plan(matrix)
    assert plan.rank == 4
    assert plan.log_volume == pytest.approx(
        exact.half_log_pdet(matrix) + np.log(plan.row_scale).sum(), abs=1e-6
    )


def test_dense_rows_over_sparse_ones():
    """Totals of totals, as in a hierarchy: rows with a variable of their own need no search."""
    groups = sparse.kron(sparse.eye_array(50), np.ones((1, 30)))
    total = sparse.csr_array(np.ones((1, 1500)))
    sums = sparse.vstack([total, groups])
    matrix = sparse.hstack([sparse.eye_array(51), -sums])
    plan = plan_constraint(SparseMatrix.of(matrix))
    gram = (plan.matrix @ plan.matrix.T).toarray()
    assert plan.rank == 51
    assert plan.log_volume == pytest.approx(np.linalg.slogdet(gram)[1] / 2, rel=1e-12)
    np.testing.assert_array_equal(plan.pivots, np.arange(51))


def test_stored_zeros_are_not_executed():
    entries = SparseMatrix([0, 0, 1, 1], [0, 1, 1, 2], [1.0, 0.0, 2.0, 0.0], (2, 3))
    plan = plan_constraint(entries)
    assert plan.given is entries.pattern
    np.testing.assert_array_equal(plan.given_values, entries.values)
    np.testing.assert_array_equal(plan.kept_entries, [0, 2])
    np.testing.assert_array_equal(plan.determined, [0, 1])
    scaled = plan.given_values[plan.kept_entries] * plan.row_scale[plan.pattern.row]
    np.testing.assert_array_equal(plan.values, scaled)


def test_a_plan_is_made_once_and_does_not_follow_changes():
    values = np.array([1.0, 2.0])
    matrix = SparseMatrix([0, 1], [0, 1], values, (2, 3))
    plan = plan_constraint(matrix)
    assert plan_constraint(SparseMatrix([0, 1], [0, 1], values, (2, 3))) is plan
    matrix.values[0] = 5.0
    assert plan.given_values[0] == 1.0
    assert plan_constraint(matrix).given_values[0] == 5.0


@pytest.mark.parametrize("name", ["ring", "margins", "no rows", "square"])
def test_pickling(name: str, rng):
    plan = sparse_plan(MATRICES[name].matrix)
    k, free = rng.normal(size=plan.rank), rng.normal(size=plan.free_size)
    expected = plan.complete(k, free)
    copy = pickle.loads(pickle.dumps(plan))
    np.testing.assert_array_equal(copy.complete(k, free), expected)
    assert copy.saddle == plan.saddle


def test_saddle_of_a_plan():
    plan = sparse_plan(MATRICES["ring"].matrix)
    identity = np.ones(plan.num_variables)
    expected = np.block(
        [
            [np.eye(plan.num_variables), plan.matrix.toarray().T],
            [plan.matrix.toarray(), np.zeros((plan.rank, plan.rank))],
        ]
    )
    np.testing.assert_array_equal(
        plan.saddle.filled(plan.saddle.values(identity, plan.values)).toarray(), expected
    )


def test_single_precision_finds_redundant_rows():
    rng = np.random.default_rng(0)
    rows = sparse.random_array((30, 60), density=0.1, rng=rng).toarray()
    matrix = np.vstack([rows, rows[:5] + 0.3 * rows[5:10]]).astype(np.float32)
    assert sparse_plan(matrix).rank == plan_constraint(matrix).rank == 30


def test_unknown_values():
    pattern = SparseMatrix.of(sparse.csr_array(MATRICES["ring"].matrix)).pattern
    plan = plan_pattern(pattern)
    assert plan_pattern(pattern) is plan
    assert plan.rank == plan.num_rows == 4
    assert plan.has_full_row_rank
    assert plan.pattern is pattern
    assert np.isnan([plan.log_volume, plan.log_range_volume, *plan.values]).all()
    assert len(plan.determined) == 0
    check_consistency(plan, np.ones(4))
    assert plan.saddle.size == 4 + 5
    with pytest.raises(ConstraintError, match="expected known values to choose coordinates"):
        _ = plan.pivots


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_entries_must_be_finite(bad: float):
    matrix = SparseMatrix.on(SparseMatrix.of(sparse.eye_array(2)).pattern, np.array([1.0, bad]))
    with pytest.raises(ConstraintError, match="A: expected finite entries"):
        plan_constraint(matrix)


def test_a_large_dense_matrix_of_zeros_gives_a_hint_once():
    matrix = np.zeros((4, 250_000))
    matrix[:, :5] = 1.0 + np.arange(20).reshape(4, 5) ** 2
    with pytest.warns(UserWarning, match=r"\(4, 250000\) of which 100.00% are zeros; a sparse A"):
        plan_constraint(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_constraint(matrix)


def test_a_batch_is_refused():
    matrix = SparseMatrix([0, 1], [0, 1], np.ones((3, 2)), (2, 2))
    with pytest.raises(ConstraintError, match=r"got shape \(3, 2, 2\).*plan_pattern"):
        plan_constraint(matrix)
