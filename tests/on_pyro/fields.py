"""A field on a small square, and what its tests need."""

import numpy as np
import torch
from scipy import sparse

from constrained_core import SparseMatrix

SIDE = 3
N = SIDE**2


def _differences() -> sparse.csr_array:
    """Of the neighbours in a square."""
    place = np.arange(N).reshape(SIDE, SIDE)
    pairs = [(place[1:], place[:-1]), (place[:, 1:], place[:, :-1])]
    one, other = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    edge, ones = np.arange(len(one)), np.ones(len(one))
    entries = np.r_[ones, -ones], (np.r_[edge, edge], np.r_[one, other])
    return sparse.csr_array(entries, shape=(len(one), N))


DIFFERENCES = _differences()
INTRINSIC = sparse.csr_array(DIFFERENCES.T @ DIFFERENCES)


def times(matrix, factor):
    entries = SparseMatrix.of(matrix)
    return entries.with_values(factor * torch.tensor(entries.values).to(factor))


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
