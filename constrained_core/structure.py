"""Numerical facts about a matrix of constraints (NumPy, SciPy; nothing framework-specific)."""

from typing import NamedTuple

import numpy as np
from scipy import linalg

__all__ = [
    "BlockReflector",
    "RowFactor",
    "block_reflector",
    "exact_product_bits",
    "factor_rows",
    "first_members",
    "power_of_two_scale",
    "reflection_signs",
]


class BlockReflector(NamedTuple):
    """The orthogonal matrix H = I - Y K Y'; its first r columns span the rows it was made from.

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
        threshold = max(num_rows, num_variables) * eps * max(1.0, diagonal[0])
        rank = int(np.sum(diagonal > threshold))
    order = np.argsort(pivots[rank:])
    return RowFactor(
        kept=pivots[:rank],
        dropped=pivots[rank:][order],
        triangle=triangle[:rank, :rank].T,
        dropped_triangle=triangle[:rank, rank:].T[order],
    )


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


def reflection_signs(top: np.ndarray) -> np.ndarray:
    """Signs s for which ``I - diag(s) top`` has a stable elimination with pivots >= 1.

    Args:
        top: ``(..., r, r)``, the first r rows of a matrix with orthonormal columns. The signs
            are piecewise constant in it (Ballard et al. 2014, modified LU).
    """
    reduced, rank = np.array(top), top.shape[-1]
    signs = np.empty(top.shape[:-1])
    for i in range(rank):
        signs[..., i] = np.where(reduced[..., i, i] > 0, -1.0, 1.0)
        reduced[..., i, i] -= signs[..., i]
        factor = reduced[..., i + 1 :, i] / reduced[..., i, i, None]
        reduced[..., i + 1 :, i:] -= factor[..., None] * reduced[..., None, i, i:]
    return signs


def block_reflector(rows: np.ndarray) -> BlockReflector:
    """Reflector of ``(r, n)`` independent rows: its last n - r columns span their null space."""
    rank, num_variables = rows.shape
    if rank == 0:
        return BlockReflector(np.zeros((num_variables, 0)), np.zeros((0, 0)))
    orthonormal, _ = linalg.qr(rows.T, mode="economic", check_finite=False)
    signs = reflection_signs(orthonormal[:rank])
    vectors = -signs * orthonormal
    vectors[:rank] += np.eye(rank)
    return BlockReflector(vectors, np.linalg.inv(vectors[:rank].T))


def first_members(index: np.ndarray, weights: np.ndarray | None, num_groups: int) -> np.ndarray:
    """The first variable of every group that has a non-zero weight."""
    members = np.arange(len(index))
    if weights is not None:
        members = members[weights != 0]
    groups, first = np.unique(index[members], return_index=True)
    assert len(groups) == num_groups
    return members[first]
