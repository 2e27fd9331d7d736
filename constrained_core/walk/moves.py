"""Directions along which a walk on a fiber moves: integer vectors d with ``A d = 0``."""

from dataclasses import dataclass

import numpy as np

from constrained_core.errors import ConstraintError
from constrained_core.fiber.hermite import echelon_basis

__all__ = ["Tableau", "integer_kernel", "make_tableau", "reduced_basis"]

MAX_SWAPS = 100_000
ZERO = 1e-10
"""Share of the largest entry of A up to which what is left of an entry is rounding."""


@dataclass(frozen=True, eq=False)
class Tableau:
    """A basis of columns of a unimodular A, and every other column in terms of it.

    Direction j raises ``others[j]`` by one and lowers ``basis`` by ``entries[:, j]``. All of its
    entries are -1, 0 or 1, and so they stay when a column of the basis is exchanged.

    Attributes:
        basis: ``(r,)`` columns of the basis.
        others: ``(n - r,)``.
        entries: ``(r, n - r)`` int64.
    """

    basis: np.ndarray
    others: np.ndarray
    entries: np.ndarray


def make_tableau(matrix: np.ndarray, weight: np.ndarray) -> Tableau:
    """The tableau of the basis of largest weight, column after column.

    Args:
        matrix: ``(m, n)`` int64, unimodular.
        weight: ``(n,)``.
    """
    left, rows = matrix.astype(float), np.arange(len(matrix))
    zero = ZERO * np.abs(left).max(initial=0.0)
    basis: list[int] = []
    for column in np.argsort(-weight, kind="stable"):
        open_rows = rows[len(basis) :]
        if not open_rows.size or np.abs(left[open_rows, column]).max() <= zero:
            continue
        top, found = len(basis), len(basis) + int(np.abs(left[open_rows, column]).argmax())
        left[[top, found]] = left[[found, top]]
        left[top] /= left[top, column]
        others = rows != top
        left[others] -= np.outer(left[others, column], left[top])
        basis.append(int(column))
    others = np.setdiff1d(np.arange(matrix.shape[1]), basis)
    entries = np.rint(left[: len(basis)][:, others]).astype(np.int64)
    tableau = Tableau(np.array(basis, dtype=np.int64), others, entries)
    if (matrix[:, tableau.basis] @ entries != matrix[:, others]).any() or (abs(entries) > 1).any():
        raise ConstraintError("make_tableau: expected a unimodular A, got another; use a lattice.")
    return tableau


def integer_kernel(matrix: np.ndarray) -> np.ndarray:
    """``(n - r, n)`` Python integers, a basis of the lattice ``{d integer : A d = 0}``.

    The echelon basis of the columns of A over the identity: those without entries in A.
    """
    num_rows, num_variables = matrix.shape
    both = np.concatenate([matrix, np.eye(num_variables, dtype=np.int64)])
    sparse_first = np.argsort(np.count_nonzero(matrix, axis=1), kind="stable")
    order = np.concatenate([sparse_first, num_rows + np.arange(num_variables)])
    basis = echelon_basis(both, order)
    rank = int((basis.pivots < num_rows).sum())
    return basis.entries[num_rows:, rank:].T


def reduced_basis(basis: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """A basis of the same lattice of short and nearly orthogonal vectors.

    The algorithm of Lenstra, Lenstra and Lovasz (1982) in the norm ``sum_i metric_i d_i^2``, with
    exact vectors and a floating orthogonalisation.

    Args:
        basis: ``(d, n)`` integers.
        metric: ``(n,)`` positive.
    """
    vectors = basis.astype(object)
    scale = np.sqrt(metric)
    row, swaps = 1, 0
    while row < len(vectors):
        ortho, mu = _orthogonal(vectors[: row + 1].astype(float) * scale)
        for other in reversed(range(row)):
            factor = round(mu[row, other])
            if factor:
                vectors[row] -= factor * vectors[other]
                mu[row, : other + 1] -= factor * mu[other, : other + 1]
        is_short = ortho[row] >= (0.99 - mu[row, row - 1] ** 2) * ortho[row - 1]
        if is_short or swaps > MAX_SWAPS:
            row += 1
        else:
            vectors[[row - 1, row]] = vectors[[row, row - 1]]
            row, swaps = max(row - 1, 1), swaps + 1
    return vectors.astype(np.int64)


def _orthogonal(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared lengths after orthogonalisation, and coefficients ``mu`` of each on those before."""
    _, triangle = np.linalg.qr(vectors.T)
    diagonal = np.diagonal(triangle)
    return diagonal**2, (triangle / diagonal[:, None]).T.copy()
