"""Supernodes of a sparse triangle, and the inverse where it has entries.

For symmetric K = L D L' the entries of K^-1 inside the pattern of L follow from the last column to
the first (Takahashi, Fagan, Chin 1973; Erisman and Tinney 1975). Columns of one pattern are one
*supernode* J with rows I below it: with M = L_IJ L_JJ^-1,

    Z_IJ = -Z_II M,    Z_JJ = L_JJ^-T D_J^-1 L_JJ^-1 - M' Z_IJ,

and Z_II is part of what is known of the supernode that I begins in, its parent in the elimination
tree. Products of small dense blocks are all there is.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.linalg import blas, lapack

__all__ = ["Supernodes"]

SPARE = 0.2
"""Share of a merged block that may be zeros, so that few blocks are left."""
SMALL = 12
"""Columns up to which supernodes are merged whatever the zeros."""
SMALL_BLOCK = 32
"""Rows up to which blocks are taken in batches."""


@dataclass(frozen=True, eq=False)
class _Block:
    """One supernode.

    Attributes:
        first: its first column.
        width: p, its columns.
        rows: ``(p + q,)`` its columns, then the rows I below.
        parent: the supernode that I begins in, or -1.
        place: ``(q,)`` where the rows I are among the rows of the parent.
        start: where its ``(p + q, p)`` block begins in the store of all.
    """

    first: int
    width: int
    rows: np.ndarray
    parent: int
    place: np.ndarray
    start: int


class Supernodes:
    """Supernodes of L.

    Args:
        lower: pattern of L, n x n, diagonal included, closed under elimination.
    """

    def __init__(self, lower: sparse.csc_array) -> None:
        self.size = lower.shape[0]
        lower = lower.sorted_indices()
        starts, rows = _merged(lower)
        owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        self.blocks, self.store_size = [], 0
        for node, below in enumerate(rows):
            first, width = int(starts[node]), int(starts[node + 1] - starts[node])
            parent, place = -1, below
            if len(below):
                parent = int(owner[below[0]])
                place = _places(below, starts, rows, parent)
            all_rows = np.concatenate([np.arange(first, first + width), below])
            self.blocks.append(_Block(first, width, all_rows, parent, place, self.store_size))
            self.store_size += width * len(all_rows)

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ``column * n + row`` of all entries of blocks, and their places in the store."""
        keys = []
        for block in self.blocks:
            columns = np.arange(block.first, block.first + block.width)
            keys.append((block.rows[:, None] + columns * self.size).ravel())
        flat = np.concatenate(keys) if keys else np.zeros(0, dtype=np.int64)
        order = np.argsort(flat)
        return flat[order], order

    def places(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Where entries with ``row >= column`` are in the store of all blocks."""
        keys, places = self._keys
        return places[np.searchsorted(keys, column * self.size + row)]

    @cached_property
    def _is_large(self) -> np.ndarray:
        """Blocks that are taken one by one: large ones and their ancestors."""
        large = np.array([len(block.rows) > SMALL_BLOCK for block in self.blocks], dtype=bool)
        for node, block in enumerate(self.blocks):
            if large[node] and block.parent >= 0:
                large[block.parent] = True
        return large

    @cached_property
    def _batches(self) -> list["_Batch"]:
        """The other blocks, those of one depth and shape together, from the top down."""
        depth = np.zeros(len(self.blocks), dtype=np.int64)
        for node in range(len(self.blocks) - 1, -1, -1):
            parent = self.blocks[node].parent
            depth[node] = 0 if parent < 0 else depth[parent] + 1
        shapes: dict[tuple[int, int, int], list[_Block]] = {}
        for node in np.flatnonzero(~self._is_large).tolist():
            block = self.blocks[node]
            key = int(depth[node]), block.width, len(block.rows)
            shapes.setdefault(key, []).append(block)
        return [self._batch(*key[1:], shapes[key]) for key in sorted(shapes)]

    def _batch(self, width: int, height: int, blocks: list[_Block]) -> "_Batch":
        starts = np.array([block.start for block in blocks])
        columns = np.array([block.first for block in blocks])[:, None] + np.arange(width)
        below = np.array([block.rows[width:] for block in blocks]).reshape(len(blocks), -1)
        one, other = below[:, :, None], below[:, None, :]
        known = self.places(np.maximum(one, other).ravel(), np.minimum(one, other).ravel())
        return _Batch(
            (width, height),
            starts[:, None] + np.arange(width * height),
            columns,
            known.reshape(len(blocks), height - width, height - width),
        )

    def inverse(self, store: np.ndarray, pivots: np.ndarray) -> np.ndarray:
        """Entries of K^-1 in the blocks, as a store, from those of L and from D."""
        result = np.empty_like(store)
        self._invert_large(store, pivots, result)
        for batch in self._batches:
            batch.invert(store, pivots, result)
        return result

    def _invert_large(self, store: np.ndarray, pivots: np.ndarray, result: np.ndarray) -> None:
        large = np.flatnonzero(self._is_large)
        parents = [self.blocks[node].parent for node in large]
        waiting = np.bincount([p for p in parents if p >= 0], minlength=len(self.blocks))
        fronts: dict[int, np.ndarray] = {}
        for node in large[::-1].tolist():
            block = self.blocks[node]
            width, height = block.width, len(block.rows)
            inside = slice(block.start, block.start + width * height)
            known = None
            if height > width:
                known = fronts[block.parent][np.ix_(block.place, block.place)]
                waiting[block.parent] -= 1
                if not waiting[block.parent]:
                    del fronts[block.parent]
            own = pivots[block.first : block.first + width]
            values = _inverted(store[inside].reshape(height, width), own, known)
            result[inside] = values.ravel()
            if waiting[node]:
                fronts[node] = _front(values, known)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Supernodes of one shape whose parents are done.

    Attributes:
        shape: p and p + q.
        inside: ``(b, p (p + q))`` their places in the store.
        columns: ``(b, p)``.
        known: ``(b, q, q)`` places of Z_II in the store.
    """

    shape: tuple[int, int]
    inside: np.ndarray
    columns: np.ndarray
    known: np.ndarray

    def invert(self, store: np.ndarray, pivots: np.ndarray, result: np.ndarray) -> None:
        width, height = self.shape
        lower = store[self.inside].reshape(-1, height, width)
        known = result[self.known] if height > width else None
        values = _inverted(lower, pivots[self.columns], known)
        result[self.inside] = values.reshape(len(values), -1)


def _inverted(lower: np.ndarray, pivots: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Z_JJ over Z_IJ, ``(..., p + q, p)``, from L_JJ over L_IJ, D_J and Z_II."""
    width = lower.shape[-1]
    own, below = lower[..., :width, :], lower[..., width:, :]
    invert = _by_triangles if lower.ndim == 2 and width > SMALL_BLOCK else _by_products
    square, multipliers = invert(own, below, pivots)  # M'
    if known is None:
        return square
    across = known @ multipliers.swapaxes(-1, -2)
    return np.concatenate([square + multipliers @ across, -across], axis=-2)


def _by_products(
    own: np.ndarray, below: np.ndarray, pivots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``L_JJ^-T D_J^-1 L_JJ^-1`` and ``L_JJ^-T L_IJ'``."""
    # The blocks hold exact zeros above the diagonal, and ones on it.
    inverse = np.ones_like(own) if own.shape[-1] == 1 else np.linalg.inv(own)
    adjoint = inverse.swapaxes(-1, -2)
    return (adjoint / pivots[..., None, :]) @ inverse, adjoint @ below.swapaxes(-1, -2)


def _by_triangles(
    own: np.ndarray, below: np.ndarray, pivots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same for large matrices, whose zeros are worth leaving out."""
    invert, multiply = (
        (lapack.ztrtri, blas.ztrmm) if np.iscomplexobj(own) else (lapack.dtrtri, blas.dtrmm)
    )
    adjoint, _ = invert(own.T, unitdiag=1)
    square = multiply(1.0, adjoint, adjoint.T / pivots[:, None], diag=1)
    return square, multiply(1.0, adjoint, below.T, diag=1)


def _front(values: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    height, width = values.shape
    front = np.empty((height, height), dtype=values.dtype)
    front[:, :width] = values
    front[:width, width:] = values[width:].T
    if known is not None:
        front[width:, width:] = known
    return front


def _places(
    below: np.ndarray, starts: np.ndarray, rows: list[np.ndarray], parent: int
) -> np.ndarray:
    """Places of rows among the columns and rows of a supernode."""
    first, end = starts[parent], starts[parent + 1]
    inside = below < end
    outside = np.searchsorted(rows[parent], below[~inside]) + (end - first)
    return np.concatenate([below[inside] - first, outside])


def _merged(lower: sparse.csc_array) -> tuple[np.ndarray, list[np.ndarray]]:
    """First columns of the supernodes (and n), and the rows below each."""
    size, starts, rows = lower.shape[0], lower.indptr, lower.indices
    counts = np.diff(starts)
    has_parent = counts > 1
    parents = np.full(size, -1)
    parents[has_parent] = rows[starts[:-1][has_parent] + 1]
    joins = (parents[:-1] == np.arange(1, size)) & (counts[:-1] == counts[1:] + 1)
    firsts = np.flatnonzero(np.concatenate([np.ones(min(size, 1), dtype=bool), ~joins]))
    ends = np.append(firsts, size)[1:]
    # A stack of supernodes that may still take in the next one, to whose columns theirs lead.
    done: list[tuple[int, int, np.ndarray, int]] = []  # first, end, rows below, zeros inside
    for start, stop in zip(firsts.tolist(), ends.tolist(), strict=True):
        first, end = int(start), int(stop)
        below, zeros = rows[starts[end - 1] + 1 : starts[end]], 0
        while done:
            last = done[-1]
            leads_here = len(last[2]) and last[2][0] < end
            merged = _zeros_if_merged(last, first, end, below, zeros) if leads_here else None
            if merged is None:
                break
            first, zeros = last[0], merged
            done.pop()
        done.append((first, end, below, zeros))
    firsts = np.array([first for first, *_ in done] + [size], dtype=np.int64)
    return firsts, [below.astype(np.int64) for _, _, below, _ in done]


def _zeros_if_merged(
    last: tuple[int, int, np.ndarray, int], first: int, end: int, below: np.ndarray, zeros: int
) -> int | None:
    """Zeros in the block of two supernodes together, None if they are too many."""
    start, stop, rows, inside = last
    width, gained = end - start, stop - start
    height = width + len(below)
    added = gained * ((end - first) + len(below) - len(rows))
    total = inside + zeros + added
    if width <= SMALL and added <= gained * SMALL:
        return total
    return total if total <= SPARE * width * height else None
