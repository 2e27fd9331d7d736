"""``SparseMatrix``: what it takes, keeps and refuses."""

import pickle

import numpy as np
import pytest
from scipy import sparse

from constrained_core import ConstraintError, GroupSum, SparseMatrix, SparsePattern

DENSE = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 0.5]])


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", [sparse.coo_array, sparse.coo_matrix])
def test_all_formats_of_scipy(form, kind):
    matrix = SparseMatrix.of(kind(DENSE).asformat(form))
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)
    assert matrix.shape == (2, 3)
    assert matrix.ndim == 2


def test_entries_that_are_given_twice_are_added():
    twice = sparse.coo_array(([1.0, 2.0, 3.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    np.testing.assert_array_equal(SparseMatrix.of(twice).to_dense(), [[0, 3], [3, 0]])
    assert twice.nnz == 3


def test_groups_become_a_sparse_matrix():
    groups = GroupSum([1, 0, 1, 0], 3, [1.0, 2.0, 0.0, 3.0])
    matrix = SparseMatrix.of(groups)
    np.testing.assert_array_equal(matrix.to_dense(), groups.to_dense())
    assert len(matrix.row) == 3
    assert SparseMatrix.of(matrix) is matrix


def test_it_keeps_its_own_copy():
    row, values = np.array([0, 1]), np.array([1.0, 2.0])
    given = sparse.coo_array((values, (row, [0, 1])), shape=(2, 2))
    one, other = SparseMatrix(row, [0, 1], values, (2, 2)), SparseMatrix.of(given)
    row[0], values[0], given.data[1] = 1, 7.0, 8.0
    for matrix in (one, other):
        np.testing.assert_array_equal(matrix.to_dense(), np.diag([1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        one.row[0] = 1


@pytest.mark.parametrize("values", [[1, 2], [True, False], np.float32([1, 2]), np.int64([1, 2])])
def test_values_are_floating(values):
    matrix = SparseMatrix([0, 1], [0, 1], values, (2, 2))
    assert matrix.values.dtype == (np.float32 if np.asarray(values).itemsize == 4 else np.float64)


def test_a_batch_of_values():
    matrix = SparseMatrix([0, 1], [0, 1], np.ones((5, 4, 2)), (2, 3))
    assert matrix.shape == (5, 4, 2, 3)
    assert matrix.ndim == 4
    assert matrix.with_values(np.zeros(2)).shape == (2, 3)
    assert matrix.with_values(np.zeros(2)).pattern is matrix.pattern


def test_patterns_are_equal_by_content():
    one, other = SparseMatrix.of(sparse.csr_array(DENSE)), SparseMatrix.of(sparse.csc_array(DENSE))
    again = SparsePattern(one.row.copy(), one.column.copy(), (2, 3))
    assert one.pattern == again
    assert hash(one.pattern) == hash(again)
    assert one.pattern != SparsePattern(one.row, one.column, (2, 4))
    assert one.pattern != "a pattern"
    np.testing.assert_array_equal(one.to_dense(), other.to_dense())


def test_pickling():
    matrix = SparseMatrix.of(sparse.csr_array(DENSE))
    hash(matrix.pattern)
    copy = pickle.loads(pickle.dumps(matrix))
    assert copy.pattern == matrix.pattern
    np.testing.assert_array_equal(copy.to_dense(), DENSE)
    assert repr(copy) == "SparseMatrix(shape=(2, 3), 3 entries)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], [1, 1], [1.0, 2.0], (2, 2)), r"each place once, got \(0, 1\)"),
        (([0, 2], [1, 1], [1.0, 2.0], (2, 2)), r"inside the shape \(2, 2\), got one at \(2, 1\)"),
        (([0, -1], [1, 1], [1.0, 2.0], (2, 2)), r"got one at \(-1, 1\)"),
        (([0, 1], [0, 1], [1.0, np.nan], (2, 2)), r"finite values, got nan at \(1,\)"),
        (([0, 1], [0, 1], [1.0, np.inf], (2, 2)), "finite values, got inf"),
        (([0, 1], [0, 1], [1.0, 1j], (2, 2)), "expected real numbers, got complex128"),
        (([0, 1], [0, 1], [1.0], (2, 2)), r"shape \(\*batch, 2\).*got \(1,\)"),
        (([0, 1], [0], [1.0], (2, 2)), r"got shapes \(2,\) and \(1,\)"),
        (([0.0, 1.0], [0, 1], [1.0, 1.0], (2, 2)), "as integers"),
        (([0, 1], [0, 1], [1.0, 1.0], (2,)), r"shape \(m, n\) of two whole numbers, got \(2,\)"),
        (([0, 1], [0, 1], [1.0, 1.0], 2), "two whole numbers, got 2"),
        (([0, 1], [0, 1], ["a", "b"], (2, 2)), "array of numbers"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ConstraintError, match=message):
        SparseMatrix(*arguments)


@pytest.mark.parametrize("matrix", [DENSE, [[1.0]], None, sparse.coo_array([1.0, 2.0])])
def test_of_refuses_what_is_no_sparse_matrix(matrix):
    with pytest.raises(ConstraintError, match=r"SparseMatrix\.of: expected"):
        SparseMatrix.of(matrix)


@pytest.mark.parametrize(
    "given", [GroupSum([0, 1], 2), SparsePattern(np.arange(2), np.arange(2), (2, 2))]
)
def test_a_hash_is_not_pickled(given):
    """That of bytes is another one in another process."""
    hash(given)
    copy = pickle.loads(pickle.dumps(given))
    assert "_hash" in vars(given)
    assert "_hash" not in vars(copy)
    assert copy == given
