"""Fields: Q, its root and the constraint that makes it proper, against dense algebra."""

import numpy as np
import pytest
from scipy import sparse

from constrained_core import ConstraintError, GroupSum, SparseMatrix, fields
from constrained_core.fields import besag, independent, kronecker, lattice, random_walk

EPS = np.finfo(np.float64).eps
TWO_PARTS = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5)]

CASES = {
    "walk": lambda: random_walk(7),
    "walk of order 2": lambda: random_walk(8, order=2),
    "walk of order 3": lambda: random_walk(8, order=3),
    "circle": lambda: random_walk(6, cyclic=True),
    "circle of order 2": lambda: random_walk(6, order=2, cyclic=True),
    "parts": lambda: besag(TWO_PARTS),
    "parts and islands": lambda: besag(TWO_PARTS, num_nodes=8),
    "islands": lambda: besag(np.zeros((0, 2), dtype=int), num_nodes=3),
    "scaled": lambda: besag(TWO_PARTS, scaled=True, num_nodes=8),
    "weighted": lambda: besag([[0, 2.5, 0], [2.5, 0, 0.1], [0, 0.1, 0]]),
    "lattice": lambda: lattice((3, 2, 2)),
    "torus": lambda: lattice((3, 4), cyclic=True),
    "noise": lambda: independent(4),
    "type I": lambda: kronecker(independent(3), independent(2)),
    "type II": lambda: kronecker(random_walk(4, order=2), independent(3)),
    "type III": lambda: kronecker(independent(3), besag(TWO_PARTS)),
    "type IV": lambda: kronecker(random_walk(4), besag(TWO_PARTS, num_nodes=7)),
}


def dense(matrix):
    return SparseMatrix.of(matrix).to_dense()


def constrained_covariance(field):
    """By pseudo-inverse algebra on the null space of A."""
    _, values, rows = np.linalg.svd(dense(field.A))
    rank = int((values > 1e-10).sum())
    basis = rows[rank:].T
    inner = basis.T @ dense(field.precision) @ basis
    return basis @ np.linalg.inv(inner) @ basis.T


@pytest.mark.parametrize("name", CASES)
def test_root_and_constraint_belong_to_the_precision(name):
    field = CASES[name]()
    precision, root, rows = dense(field.precision), dense(field.root), dense(field.A)
    n = field.num_variables
    size = np.abs(root).T @ np.abs(root) + EPS
    assert (np.abs(root.T @ root - precision) <= 8 * EPS * size).all()
    np.testing.assert_array_equal(precision, precision.T)
    # A spans what Q does not see, no less and no more.
    np.testing.assert_allclose(precision @ rows.T, 0, atol=1e-13)
    rank = np.linalg.matrix_rank(rows) if rows.size else 0
    assert np.linalg.matrix_rank(precision) + rank == n
    np.testing.assert_array_equal(field.k, np.zeros(len(rows)))


def test_random_walk_of_order_two():
    expected = np.diff(np.eye(6), 2, axis=0)
    np.testing.assert_array_equal(random_walk(6, order=2).root.to_dense(), expected)


def test_circle():
    circle = random_walk(5, cyclic=True).precision.to_dense()
    expected = 2 * np.eye(5) - np.roll(np.eye(5), 1, 0) - np.roll(np.eye(5), -1, 0)
    np.testing.assert_array_equal(circle, expected)


@pytest.mark.parametrize("form", [np.array, sparse.csr_array, sparse.coo_matrix, np.ndarray.tolist])
def test_forms_of_a_graph_are_one(form):
    graph = np.zeros((6, 6))
    for i, j in TWO_PARTS:
        graph[i, j] = graph[j, i] = 1.0
    np.testing.assert_array_equal(
        dense(besag(form(graph)).precision), np.diag(graph.sum(0)) - graph
    )
    np.testing.assert_array_equal(dense(besag(TWO_PARTS).precision), np.diag(graph.sum(0)) - graph)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64", "int8", ">i4", ">u2"])
def test_edges_of_any_integers(dtype):
    edges = np.array(TWO_PARTS)
    for num_nodes in (None, 8):
        np.testing.assert_array_equal(
            dense(besag(edges.astype(dtype), num_nodes=num_nodes).precision),
            dense(besag(edges, num_nodes=num_nodes).precision),
        )


@pytest.mark.parametrize("dtype", [">f8", ">i4", "longdouble", "uint8", "bool"])
def test_weights_of_any_dtype(dtype):
    graph = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(
        dense(besag(graph.astype(dtype)).precision), np.diag(graph.sum(0)) - graph
    )


def test_weights_given_twice_do_not_overflow():
    where = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    weights = sparse.coo_array((np.full(4, 200, np.uint8), where), shape=(2, 2))
    np.testing.assert_array_equal(dense(besag(weights).precision), [[400, -400], [-400, 400]])


@pytest.mark.parametrize(
    ("two", "degrees"),
    [([[0, 1], [1, 2]], [1, 2, 1]), ([[0, 1], [1, 0]], [1, 1]), ([[1, 0], [1, 2]], [1, 2, 1])],
)
def test_two_edges_are_no_matrix(two, degrees):
    np.testing.assert_array_equal(np.diag(dense(besag(two).precision)), degrees)


def test_islands_are_standard_normal():
    field = CASES["parts and islands"]()
    np.testing.assert_allclose(np.diag(constrained_covariance(field))[6:], 1.0)
    assert isinstance(field.A, GroupSum)
    np.testing.assert_array_equal(field.A.to_dense()[:, 6:], 0)


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        (besag(TWO_PARTS, scaled=True, num_nodes=8), [[0, 1, 2], [3, 4, 5], [6], [7]]),
        (lattice((4, 3), scaled=True), [list(range(12))]),
    ],
)
def test_scaled_fields_have_unit_geometric_mean_variance(field, parts):
    log_variance = np.log(np.diag(constrained_covariance(field)))
    for part in parts:
        assert abs(log_variance[part].mean()) < 1e-12


def test_lattice_of_one_axis_is_a_walk():
    for shape in ((5,), 5, np.int64(5), np.array([5])):
        walk = dense(random_walk(5).precision)
        np.testing.assert_array_equal(dense(lattice(shape).precision), walk)
    np.testing.assert_array_equal(
        dense(lattice((5,), cyclic=True).precision), dense(random_walk(5, cyclic=True).precision)
    )


def test_kronecker_is_that_of_matrices():
    one, other = random_walk(4), besag(TWO_PARTS)
    np.testing.assert_array_equal(
        dense(kronecker(one, other).precision),
        np.kron(dense(one.precision), dense(other.precision)),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_walk(2, order=2), "at least 3, got 2"),
        (lambda: random_walk(2.5), "whole number"),
        (lambda: random_walk(5, order=0), "order: expected a whole number of at least 1"),
        (lambda: independent(0), "at least 1"),
        (lambda: lattice(()), "got none"),
        (lambda: lattice((3, 0)), "at least 1, got 0"),
        (lambda: lattice(5.0), r"lattice: expected a whole number .* got 5\.0"),
        (lambda: lattice(None), "lattice: expected a whole number .* got None"),
        (lambda: besag(np.triu(np.ones((3, 3)), 1)), "symmetric"),
        (lambda: besag(np.ones((3, 3))), "diagonal of zeros"),
        (lambda: besag(sparse.csr_array((2, 3))), "symmetric"),
        (lambda: besag(np.eye(3)[::-1] * -1 + np.diag([0, 1, 0])), "not negative"),
        (lambda: besag([(0, 0), (1, 2), (2, 3)]), r"different nodes.*got \(0, 0\)"),
        (lambda: besag([(0, 5)], num_nodes=3), r"0\.\.2, got \(0, 5\)"),
        (lambda: besag(np.zeros((0, 0))), "at least 1, got 0"),
        (lambda: besag(np.array([[0, np.inf], [np.inf, 0]])), "finite"),
        (lambda: besag(np.zeros(3)), "besag: expected a square"),
        (lambda: besag(np.array([[0, 1j], [1j, 0]])), "real weights"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ConstraintError, match=message):
        make()


def test_public_names():
    assert all(hasattr(fields, name) for name in fields.__all__)
