"""Arrays that lie elsewhere: tensors on an accelerator, which NumPy cannot read."""

import numpy as np
import pytest

from constrained_core import GroupSum, SparseMatrix, fields
from constrained_core.inputs import read_array


class OnDevice:
    """As a tensor of PyTorch on an accelerator: an array of its copy, or an error."""

    def __init__(self, values) -> None:
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert device type tensor to numpy")

    def cpu(self) -> np.ndarray:
        return self._values


def test_a_matrix():
    np.testing.assert_array_equal(read_array("A", OnDevice([[1.0, 2.0]])), [[1.0, 2.0]])
    with pytest.raises(TypeError):
        np.asarray(OnDevice([1.0]))


def test_groups():
    found = GroupSum(OnDevice([0, 2, 2]), 3, weights=OnDevice([1.0, 2.0, 3.0]))
    assert found == GroupSum([0, 2, 2], 3, weights=[1.0, 2.0, 3.0])


def test_a_pattern():
    row, column, values = [0, 0, 1], [0, 2, 1], [1.0, 2.0, 3.0]
    found = SparseMatrix(OnDevice(row), OnDevice(column), OnDevice(values), (2, 3))
    expected = SparseMatrix(row, column, np.array(values), (2, 3)).to_dense()
    np.testing.assert_array_equal(found.to_dense(), expected)


def test_a_graph():
    edges = [[0, 1], [1, 2]]
    found, expected = fields.besag(OnDevice(edges)), fields.besag(edges)
    np.testing.assert_array_equal(found.precision.to_dense(), expected.precision.to_dense())
