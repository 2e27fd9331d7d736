"""``SparseMatrix``: a matrix of few entries, as a static pattern and values of any framework."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from constrained_core.errors import ConstraintError

__all__ = ["SparseMatrix", "SparsePattern"]


@dataclass(frozen=True, eq=False)
class SparsePattern:
    """Where a matrix has entries.

    Attributes:
        row, column: ``(nnz,)`` each entry once, in any order.
        shape: ``(m, n)``.
    """

    row: np.ndarray
    column: np.ndarray
    shape: tuple[int, int]

    @cached_property
    def _content(self) -> tuple[tuple[int, int], bytes, bytes]:
        return self.shape, self.row.tobytes(), self.column.tobytes()

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparsePattern):
            return NotImplemented
        return self is other or (hash(self) == hash(other) and self._content == other._content)


class SparseMatrix:
    """A sparse matrix, accepted wherever a constraint matrix A or a precision matrix is.

    The pattern is static, as that of ``GroupSum``; the values may be an array of NumPy or of a
    framework, traced, differentiated or a batch.

    Args:
        row, column: ``(nnz,)`` integers, where the entries are; each place at most once.
        values: ``(*batch, nnz)``.
        shape: ``(m, n)``.

    Raises:
        ConstraintError: indices outside the shape, a place given twice, values of another length.

    Example:
        >>> SparseMatrix([0, 0, 1], [0, 2, 1], [1.0, 1.0, 2.0], (2, 3)).to_dense()
        array([[1., 0., 1.],
               [0., 2., 0.]])
    """

    pattern: SparsePattern
    values: Any

    def __init__(self, row: Any, column: Any, values: Any, shape: tuple[int, int]) -> None:
        self.pattern = _checked_pattern(row, column, shape)
        self.values = _checked_values(values, len(self.pattern.row))

    @classmethod
    def of(cls, matrix: Any) -> "SparseMatrix":
        """A ``scipy.sparse`` matrix or array of any format; entries given twice are added."""
        entries = sparse.coo_array(matrix)
        entries.sum_duplicates()
        return cls(entries.row, entries.col, entries.data, entries.shape)

    @classmethod
    def on(cls, pattern: SparsePattern, values: Any) -> "SparseMatrix":
        """These values on a pattern that is already checked."""
        new = cls.__new__(cls)
        new.pattern, new.values = pattern, values
        return new

    def with_values(self, values: Any) -> "SparseMatrix":
        """Other values at the same places."""
        return self.on(self.pattern, _checked_values(values, len(self.pattern.row)))

    @property
    def row(self) -> np.ndarray:
        """``(nnz,)`` rows of the entries."""
        return self.pattern.row

    @property
    def column(self) -> np.ndarray:
        """``(nnz,)`` columns of the entries."""
        return self.pattern.column

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*batch, m, n)``."""
        return (*self.values.shape[:-1], *self.pattern.shape)

    @property
    def ndim(self) -> int:
        """2, and the dimensions of the batch."""
        return len(self.shape)

    def to_scipy(self) -> sparse.csr_array:
        """The matrix of ``scipy.sparse``, where values are known and no batch."""
        values = np.asarray(self.values, dtype=np.float64)
        return sparse.csr_array((values, (self.row, self.column)), shape=self.pattern.shape)

    def to_dense(self) -> np.ndarray:
        """The ``(m, n)`` matrix; for small cases and checks only."""
        return self.to_scipy().toarray()

    def __repr__(self) -> str:
        return f"SparseMatrix(shape={self.shape}, {len(self.row)} entries)"


def _checked_pattern(row: Any, column: Any, shape: tuple[int, int]) -> SparsePattern:
    row, column = np.asarray(row), np.asarray(column)
    is_integer = all(not a.size or np.issubdtype(a.dtype, np.integer) for a in (row, column))
    if row.ndim != 1 or row.shape != column.shape or not is_integer:
        raise ConstraintError(
            "SparseMatrix: expected row and column as integers of one shape (nnz,), got shapes "
            f"{row.shape} and {column.shape} of {row.dtype} and {column.dtype}."
        )
    size, (m, n) = len(row), (int(length) for length in shape)
    if size and (row.min() < 0 or row.max() >= m or column.min() < 0 or column.max() >= n):
        raise ConstraintError(
            f"SparseMatrix: expected entries inside the shape {(m, n)}, got rows up to "
            f"{row.max()} and columns up to {column.max()}; correct the shape or the entries."
        )
    places = row.astype(np.int64) * n + column
    if len(np.unique(places)) < size:
        raise ConstraintError(
            "SparseMatrix: expected each place once, got one twice; add their values, as "
            "SparseMatrix.of(scipy_matrix) does."
        )
    return SparsePattern(_frozen(row), _frozen(column), (m, n))


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array, dtype=np.int64)
    array.flags.writeable = False
    return array


def _checked_values(values: Any, size: int) -> Any:
    if not hasattr(values, "shape"):
        values = np.asarray(values, dtype=np.float64)
    if values.shape[-1:] != (size,):
        raise ConstraintError(
            f"SparseMatrix: expected values of shape (*batch, {size}), one for each entry, got "
            f"{tuple(values.shape)}."
        )
    return values
