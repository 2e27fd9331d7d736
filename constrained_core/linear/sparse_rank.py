"""Which rows of a sparse matrix depend on others."""

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

from constrained_core.linear.row_space import SHIFT, GramFactor

__all__ = ["dependent_rows", "part_labels"]

SEPARATED = 1e-5
"""A singular value far above sqrt(d): a block that reaches it has met all that vanish."""

ROUNDS = 3
"""Of inverse iteration: each makes what does not vanish at least 1000 times smaller."""

PRIVATE = 0.05
"""An entry alone in its column, at least so large beside its row, makes that row independent."""

MAX_PEELINGS = 100

LATER = 0.1
"""By how much the last row is rather dropped than the first, where both could be."""


class _Parts(NamedTuple):
    """Parts of one size: rows that share variables with each other, and with no other rows.

    Attributes:
        rows: ``(g, r)`` of every part.
        columns: ``(g, c)`` their variables.
    """

    rows: np.ndarray
    columns: np.ndarray


def dependent_rows(rows: sparse.csr_array, eps: float) -> np.ndarray:
    """Indices of rows without which the others are independent, ascending.

    Rows with a variable of their own are independent of all others, and set aside in rounds. Of
    the rest, the left null space is found by inverse iteration with A A' + d I on a block of random
    vectors: singular values of A that vanish dominate, and the block grows until one does not
    vanish. A pivoted factorisation of the null space says which rows to drop.

    Args:
        rows: ``(m, n)`` of lengths in [1, 2) or zero, without stored zeros.
        eps: relative precision of the entries.
    """
    empty = np.flatnonzero(np.diff(rows.indptr) == 0)
    remaining = _without_private_variable(rows)
    dependent = [remaining[part] for part in _dependent_parts(rows[remaining], eps)]
    return np.sort(np.concatenate([empty, *dependent]))


def _without_private_variable(rows: sparse.csr_array) -> np.ndarray:
    """Rows that remain when those with a variable of their own are set aside, in rounds."""
    entries = rows.tocoo()
    row, column, size = entries.row, entries.col, np.abs(entries.data)
    for _ in range(MAX_PEELINGS):
        count = np.bincount(column, minlength=rows.shape[1])
        peeled = np.zeros(rows.shape[0], dtype=bool)
        peeled[row[(count[column] == 1) & (size >= PRIVATE)]] = True
        if not peeled.any():
            break
        stay = ~peeled[row]
        row, column, size = row[stay], column[stay], size[stay]
    return np.unique(row)


def _dependent_parts(rows: sparse.csr_array, eps: float) -> list[np.ndarray]:
    """The rows to drop of every part."""
    if rows.shape[0] < 2:
        return []
    parts, factor = _parts(rows), GramFactor(rows, SHIFT)
    vanishing = 20 * eps * np.sqrt(abs(rows).sum(axis=0).max() * abs(rows).sum(axis=1).max())
    size, dropped = 4, []
    while parts:
        bases = _smallest_directions(factor, rows, parts, size)
        unresolved = []
        for same, (vectors, values) in zip(parts, bases, strict=True):
            is_whole = same.rows.shape[1] <= size
            done = is_whole | (values.max(axis=-1) > max(SEPARATED, vanishing))
            for i in np.flatnonzero(done):
                null = vectors[i][:, values[i] <= vanishing]
                dropped.append(same.rows[i][_rows_to_drop(null)])
            if not done.all():
                unresolved.append(_Parts(same.rows[~done], same.columns[~done]))
        parts, size = unresolved, 2 * size
    return dropped


def _parts(rows: sparse.csr_array) -> list[_Parts]:
    """Parts of at least two rows, by their size."""
    members, variables = map(_members, part_labels(rows))
    by_size: dict[tuple[int, int], list[int]] = {}
    for part, own in members.items():
        if len(own) > 1:
            by_size.setdefault((len(own), len(variables[part])), []).append(part)
    return [
        _Parts(np.stack([members[p] for p in same]), np.stack([variables[p] for p in same]))
        for same in by_size.values()
    ]


def part_labels(rows: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the parts of ``(m,)`` rows and of ``(n,)`` variables."""
    graph = sparse.block_array([[None, rows], [rows.T, None]])
    _, label = connected_components(graph, directed=False)
    return label[: rows.shape[0]], label[rows.shape[0] :]


def _members(label: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(label, kind="stable")
    values, start = np.unique(label[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, start[1:]), strict=True))


def _smallest_directions(
    factor: GramFactor, rows: sparse.csr_array, parts: list[_Parts], size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every part, left singular vectors of its smallest singular values, and these.

    As parts share no variable, one block of ``size`` vectors serves all of them at once.
    """
    block = np.random.default_rng(0).normal(size=(rows.shape[0], size))
    for _ in range(ROUNDS):
        block = factor.solve(_orthonormal_parts(block, parts))
    for _ in range(2):
        # I - (A A' + d I)^-1 A A' is d (A A' + d I)^-1 without the rounding errors of A A'.
        block = _orthonormal_parts(block, parts)
        block -= factor.solve(rows @ (rows.T @ block))
    block = _orthonormal_parts(block, parts)
    images = rows.T @ block
    return [_singular_vectors(block[same.rows], images[same.columns]) for same in parts]


def _singular_vectors(block: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(g, r, b)`` vectors and ``(g, b)`` values, of images ``(g, c, .)`` of a ``(g, r, .)``."""
    size = min(block.shape[1:])
    block, images = block[..., :size], images[..., :size]
    is_short = images.shape[1] < size
    _, values, right = np.linalg.svd(images, full_matrices=is_short)
    values = np.pad(values, ((0, 0), (0, size - values.shape[-1])))
    return block @ right.mT, values


def _orthonormal_parts(block: np.ndarray, parts: list[_Parts]) -> np.ndarray:
    """The block with orthonormal columns in each part, as many as it has rows, and zeros."""
    result = np.zeros_like(block)
    for same in parts:
        orthonormal, _ = np.linalg.qr(block[same.rows])
        result[same.rows, : orthonormal.shape[-1]] = orthonormal
    return result


def _rows_to_drop(null: np.ndarray) -> np.ndarray:
    """As many rows as there are null vectors, of well conditioned entries, the later ones first."""
    num_rows, nullity = null.shape
    if nullity == 0:
        return np.zeros(0, dtype=np.int64)
    weight = 1 + LATER * np.arange(num_rows) / num_rows
    _, order = linalg.qr(null.T * weight, mode="r", pivoting=True, check_finite=False)
    return order[:nullity]
