"""Sparse laws that both backends are measured on."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from constrained_core import SparseMatrix, fields

__all__ = ["SparseField", "factor_precision", "growth", "lattice", "network", "space_time"]

NODES, LINKS = 1805, 2583


_STEPS = count()


def growth() -> Iterator[float]:
    """Factors of parameters that are learned. No two steps of any line, in either backend, have the
    same: factors of equal values are kept, and a later line would find those of an earlier one."""
    return (1 + 1e-6 * i for i in _STEPS)


class SparseField(NamedTuple):
    """A proper field, and sums of it."""

    Q: sparse.csr_array
    A: SparseMatrix
    k: np.ndarray
    x: np.ndarray


def network() -> sparse.csr_array:
    """Balances of the size of the metabolic model iJO1366, with a few nodes that most links touch.

    The model file is not at hand everywhere; like there, rows depend on each other.
    """
    rng = np.random.default_rng(0)
    members = np.minimum(2 + rng.geometric(0.35, LINKS), 12)
    popularity = 1 / (np.arange(NODES) + 3) ** 0.9
    popularity /= popularity.sum()
    node = [rng.choice(NODES, size, replace=False, p=popularity) for size in members]
    link = np.repeat(np.arange(LINKS), members)
    weight = rng.choice([-1.0, 1.0, 2.0], len(link), p=[0.5, 0.4, 0.1])
    return sparse.csr_array((weight, (np.concatenate(node), link)), shape=(NODES, LINKS))


def space_time(steps: int = 40, side: int = 20) -> SparseField:
    """Steps of a random walk of a lattice, summed over time at each of its nodes."""
    field = fields.lattice((steps, side, side))
    Q = field.precision.to_scipy() + 0.1 * sparse.eye_array(steps * side**2)
    sums = sparse.kron(np.ones((1, steps)), sparse.eye_array(side**2))
    return _with_point(Q, sums)


def lattice(side: int = 300) -> SparseField:
    """A square lattice and its sum."""
    Q = fields.lattice((side, side)).precision.to_scipy() + 0.01 * sparse.eye_array(side**2)
    return _with_point(Q, sparse.csr_array(np.ones((1, side**2))))


def _with_point(Q: sparse.csr_array, A: sparse.csr_array) -> SparseField:
    x = np.random.default_rng(0).normal(size=Q.shape[0])
    return SparseField(sparse.csr_array(Q), SparseMatrix.of(A), A @ x, x)


def factor_precision(Q: sparse.csr_array) -> None:
    """What a direct solver takes for Q alone."""
    splu(
        Q.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
