"""``SparseMatrix``: a matrix of few entries, as a static pattern and values of any framework."""

from dataclasses import dataclass
from operator import index as index_of
from typing import Any

import numpy as np
from scipy import sparse

from constrained_core.cache import ByContent
from constrained_core.errors import ConstraintError
from constrained_core.groups import GroupSum
from constrained_core.inputs import on_host, read_array, refuse_complex

__all__ = ["SparseMatrix", "SparsePattern"]


@dataclass(frozen=True, eq=False)
class SparsePattern(ByContent):
    """Where a matrix has entries.

    Attributes:
        row, column: ``(nnz,)`` each entry once, in any order; its own, as memory that a tensor has
            moves where the tensor is sent to another process.
        shape: ``(m, n)``.
        settled: ``(d,)`` columns of variables that a constraint with these rows determines; None
            where nobody knows.
    """

    row: np.ndarray
    column: np.ndarray
    shape: tuple[int, int]
    settled: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("row", "column"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))


class SparseMatrix:
    """A sparse matrix, accepted wherever a constraint matrix A or a precision matrix is.

    The pattern is static, as that of ``GroupSum``; the values may be an array of NumPy or of a
    framework, traced, differentiated or a batch.

    Args:
        row, column: ``(nnz,)`` integers, where the entries are; each place at most once.
        values: ``(*batch, nnz)``; an array of NumPy is copied.
        shape: ``(m, n)``.

    Raises:
        ConstraintError: indices outside the shape, a place given twice, values of another length,
            complex ones, or known ones that are not finite.

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
        """A ``scipy.sparse`` matrix or array of any format, a ``GroupSum``, or one of these.

        Entries given twice are added.

        Example:
            >>> from scipy import sparse
            >>> SparseMatrix.of(sparse.eye_array(3, format="csr"))
            SparseMatrix(shape=(3, 3), 3 entries)
        """
        if isinstance(matrix, SparseMatrix):
            return matrix
        if isinstance(matrix, GroupSum):
            weights = np.ones(len(matrix.index)) if matrix.weights is None else matrix.weights
            member = np.flatnonzero(weights)
            return cls(matrix.index[member], member, weights[member], matrix.shape)
        if not sparse.issparse(matrix) or matrix.ndim != 2:
            got = f"shape {matrix.shape}" if sparse.issparse(matrix) else type(matrix).__name__
            raise ConstraintError(
                f"SparseMatrix.of: expected a matrix of scipy.sparse with two dimensions, got {got}"
                "; use scipy.sparse.csr_array(matrix), or SparseMatrix(row, column, values, shape)."
            )
        entries = sparse.coo_array(matrix)
        if entries.dtype.kind in "iub":  # small integers overflow in sums
            entries = entries.astype(np.float64)
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
        values = np.asarray(on_host(self.values), dtype=np.float64)
        return sparse.csr_array((values, (self.row, self.column)), shape=self.pattern.shape)

    def to_dense(self) -> np.ndarray:
        """The ``(m, n)`` matrix; for small cases and checks only."""
        return self.to_scipy().toarray()

    def __repr__(self) -> str:
        return f"SparseMatrix(shape={self.shape}, {len(self.row)} entries)"


def _checked_pattern(row: Any, column: Any, shape: tuple[int, int]) -> SparsePattern:
    m, n = _checked_shape(shape)
    row, column = np.asarray(on_host(row)), np.asarray(on_host(column))
    is_integer = all(not a.size or np.issubdtype(a.dtype, np.integer) for a in (row, column))
    if row.ndim != 1 or row.shape != column.shape or not is_integer:
        raise ConstraintError(
            "SparseMatrix: expected row and column as integers of one shape (nnz,), got shapes "
            f"{row.shape} and {column.shape} of {row.dtype} and {column.dtype}; give the place of "
            "every entry."
        )
    row, column = _frozen(row), _frozen(column)
    outside = np.flatnonzero((row < 0) | (row >= m) | (column < 0) | (column >= n))
    if outside.size:
        raise ConstraintError(
            f"SparseMatrix: expected entries inside the shape {(m, n)}, got one at "
            f"{int(row[outside[0]]), int(column[outside[0]])}; correct the shape or the entries."
        )
    places, count = np.unique(row * n + column, return_counts=True)
    if len(places) < len(row):
        twice = divmod(int(places[count > 1][0]), n)
        raise ConstraintError(
            f"SparseMatrix: expected each place once, got {twice} more often; add the values there,"
            " as SparseMatrix.of(scipy_matrix) does."
        )
    return SparsePattern(row, column, (m, n))


def _checked_shape(shape: Any) -> tuple[int, int]:
    try:
        m, n = (index_of(length) for length in shape)
    except (TypeError, ValueError) as error:
        raise ConstraintError(
            f"SparseMatrix: expected shape (m, n) of two whole numbers, got {shape!r}; give the "
            "numbers of rows and of columns."
        ) from error
    return m, n


def _frozen(array: np.ndarray) -> np.ndarray:
    """Itself, or a copy, whose entries nothing changes."""
    if array.flags.owndata and not array.flags.writeable and array.dtype == np.int64:
        return array
    array = np.array(array, dtype=np.int64)
    array.flags.writeable = False
    return array


def _checked_values(values: Any, size: int) -> Any:
    if not hasattr(values, "dtype") or isinstance(values, np.ndarray):
        values = _known_values(values)
    elif "complex" in str(values.dtype):
        refuse_complex("SparseMatrix", values.dtype)
    if tuple(values.shape[-1:]) != (size,):
        raise ConstraintError(
            f"SparseMatrix: expected values of shape (*batch, {size}), one for each entry, got "
            f"{tuple(values.shape)}; give them in the order of row and column."
        )
    return values


def _known_values(values: Any) -> np.ndarray:
    """A copy, of a floating dtype."""
    values = read_array("SparseMatrix", values)
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ConstraintError(
            f"SparseMatrix: expected finite values, got {values[where]} at {where}; check how they "
            "are made."
        )
    return values
