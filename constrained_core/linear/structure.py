"""Numerical facts about a matrix of constraints (NumPy, SciPy; nothing framework-specific)."""

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

__all__ = [
    "BlockReflector",
    "RowFactor",
    "cleaned",
    "cleaned_sparse",
    "complementary_basis",
    "exact_product_bits",
    "factor_rows",
    "first_members",
    "log_column_volume",
    "power_of_two_scale",
    "rounding",
    "without_rounding",
]


class BlockReflector(NamedTuple):
    """The orthogonal matrix H = I - Y K Y'; its first r columns span what it was made from.

    Schreiber and Parlett (1988) and Ballard et al. (2014) describe such reflectors.
    """

    vectors: np.ndarray
    kernel: np.ndarray


class RowFactor(NamedTuple):
    """Pivoted factorisation of unit-scaled rows.

    Attributes:
        kept: pivot rows, in pivot order.
        dropped: rows that depend on them, ascending.
        triangle: ``(r, r)`` lower triangular T with ``scaled_rows[kept] = T Q'``.
        dropped_triangle: ``(m - r, r)`` with ``scaled_rows[dropped] = dropped_triangle Q'``.
    """

    kept: np.ndarray
    dropped: np.ndarray
    triangle: np.ndarray
    dropped_triangle: np.ndarray


def power_of_two_scale(norms: np.ndarray) -> np.ndarray:
    """Powers of two that bring ``norms`` into [1, 2), so that scaling a row is exact; 1 for 0."""
    _, exponent = np.frexp(norms)
    return np.where(norms > 0, np.ldexp(1.0, 1 - exponent), 1.0)


def factor_rows(scaled_rows: np.ndarray, eps: float) -> RowFactor:
    """Rank-revealing factorisation of rows whose norms are comparable.

    Args:
        scaled_rows: ``(m, n)``, norms in [1, 2) or zero; overwritten.
        eps: relative precision of the entries, which sets the threshold of the rank.
    """
    num_rows, num_variables = scaled_rows.shape
    if scaled_rows.size == 0:
        triangle, pivots, rank = np.zeros((0, num_rows)), np.arange(num_rows), 0
    else:
        _, triangle, pivots = linalg.qr(
            scaled_rows.T, mode="raw", pivoting=True, overwrite_a=True, check_finite=False
        )
        diagonal = np.abs(np.diagonal(triangle))
        # What rounding leaves of a row that depends on others: of its entries, and of this work.
        threshold = max(num_rows, num_variables) * eps + 8 * float(np.finfo(np.float64).eps)
        threshold *= max(1.0, diagonal[0])
        rank = int(np.sum(diagonal > threshold))
    order = np.argsort(pivots[rank:])
    return RowFactor(
        kept=pivots[:rank],
        dropped=pivots[rank:][order],
        triangle=triangle[:rank, :rank].T,
        dropped_triangle=triangle[:rank, rank:].T[order],
    )


def log_column_volume(matrix: np.ndarray) -> float:
    """1/2 log det(M'M) for full column rank, also where rows of M differ by orders of magnitude.

    Sorted rows and pivoted columns make Householder's QR stable row by row (Cox and Higham 1998).
    """
    order = np.argsort(-np.linalg.norm(matrix, axis=-1))
    triangle, _ = linalg.qr(matrix[order], mode="r", pivoting=True, check_finite=False)
    return float(np.log(np.abs(np.diagonal(triangle))).sum())


def exact_product_bits(rows: np.ndarray) -> int:
    """Bits needed beyond those of an integer vector v to hold every ``row @ v`` exactly.

    The bits are counted from the last non-zero bit of a row's entries to its absolute sum: few
    for integer matrices, more than a mantissa holds for rows of arbitrary reals.
    """
    return max(map(_row_bits, rows), default=0) if rows.size else 0


def _row_bits(row: np.ndarray) -> int:
    mantissa, exponent = np.frexp(row)
    integer = np.ldexp(mantissa, 53).astype(np.int64)
    _, trailing = np.frexp((integer & -integer).astype(np.float64))
    last_bit = np.where(integer == 0, np.iinfo(np.int32).max, exponent - 54 + trailing)
    _, first_bit = np.frexp(np.abs(row).sum())
    return int(first_bit - last_bit.min())


def rounding(rank: int) -> float:
    """A bound of the relative error of what is solved for with ``rank`` rows."""
    return 8 * (rank + 1) * float(np.finfo(np.float64).eps)


def cleaned(coefficients: np.ndarray) -> np.ndarray:
    """Coefficients with those set to zero that are rounding errors beside others of their row."""
    size = np.abs(coefficients).max(axis=-1, keepdims=True, initial=0.0)
    return np.where(np.abs(coefficients) < rounding(coefficients.shape[-1]) * size, 0, coefficients)


def cleaned_sparse(coefficients: sparse.csr_array) -> sparse.csr_array:
    """The same for a sparse matrix, without what is zero."""
    entries = coefficients.tocoo()
    return _entries(entries, _shares_of_row(entries) > rounding(entries.shape[1]))


def without_rounding(coefficients: sparse.csr_array) -> sparse.csr_array:
    """A sparse matrix without entries that are rounding errors beside others, whatever its scales.

    Rows are compared after they were divided by their largest entry: then each with its column.
    """
    entries = coefficients.tocoo()
    size = _shares_of_row(entries)
    highest = np.zeros(entries.shape[1])
    np.maximum.at(highest, entries.col, size)
    return _entries(
        entries, (size > 0) & (size > rounding(entries.shape[0]) * highest[entries.col])
    )


def _shares_of_row(entries: sparse.coo_array) -> np.ndarray:
    """Sizes of entries, each over the largest of its row."""
    largest = np.zeros(entries.shape[0])
    np.maximum.at(largest, entries.row, np.abs(entries.data))
    return np.abs(entries.data) / np.where(largest > 0, largest, 1.0)[entries.row]


def _entries(entries: sparse.coo_array, stay: np.ndarray) -> sparse.csr_array:
    parts = entries.data[stay], (entries.row[stay], entries.col[stay])
    return sparse.csr_array(parts, shape=entries.shape)


def complementary_basis(followers: np.ndarray) -> np.ndarray | BlockReflector:
    """An orthonormal basis of ``{(p, f): p = -F f}``, for ``(r, n - r)`` followers F.

    It is continuous in F: the triangles of the factorisations have a positive diagonal.

    Returns:
        The ``(n, n - r)`` basis where n - r < r, else a reflector whose last n - r columns it is.
    """
    rank, free_size = followers.shape
    if rank == 0:
        return BlockReflector(np.zeros((free_size, 0)), np.zeros((0, 0)))
    if free_size < rank:
        return _positive_qr(np.concatenate([-followers, np.eye(free_size)]))
    vectors = _positive_qr(np.concatenate([np.eye(rank), followers.T]))
    vectors[:rank] += np.eye(rank)
    return BlockReflector(vectors, np.linalg.inv(vectors[:rank].T))


def _positive_qr(matrix: np.ndarray) -> np.ndarray:
    """Q of the factorisation whose triangle has a positive diagonal."""
    orthonormal, triangle = linalg.qr(matrix, mode="economic", check_finite=False)
    return orthonormal * np.where(np.diagonal(triangle) < 0, -1.0, 1.0)


def first_members(index: np.ndarray, weights: np.ndarray | None, num_groups: int) -> np.ndarray:
    """The first variable of every group that has a non-zero weight."""
    members = np.arange(len(index))
    if weights is not None:
        members = members[weights != 0]
    groups, first = np.unique(index[members], return_index=True)
    assert len(groups) == num_groups
    return members[first]
