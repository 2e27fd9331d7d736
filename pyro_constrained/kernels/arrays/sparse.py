"""Sparse matrices as patterns that are known and values that are tensors."""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from constrained_core.errors import ConstraintError
from constrained_core.inputs import READERS, refuse_complex
from constrained_core.linear.symmetric_pattern import saddle_of_rows
from constrained_core.sparse import SparseMatrix, SparsePattern
from pyro_constrained.kernels.arrays.compiled import kept_by_a_graph
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.inspection import (
    are_plain,
    host_array,
    is_constant,
    outside_transforms,
)

__all__ = [
    "SparseIndex",
    "as_sparse",
    "dense_form",
    "entries_in_place",
    "is_sparse",
    "sparse_index",
    "to_float",
]


class SparseIndex:
    """Where a matrix A has entries, on a device: products with it and its transpose.

    Attributes:
        saddle: where [[I, A'], [A, 0]] has entries.

    Args:
        pattern: the same on the host.
        device: of the index.
    """

    def __init__(self, pattern: SparsePattern, device: torch.device) -> None:
        self.pattern = pattern
        num_rows, num_variables = pattern.shape
        self.rows = Groups(torch.tensor(pattern.row, device=device), num_rows)
        self.columns = Groups(torch.tensor(pattern.column, device=device), num_variables)
        self._by_rows = _Compressed(pattern.row, pattern.column, pattern.shape, device)
        self._by_columns = _Compressed(pattern.column, pattern.row, pattern.shape[::-1], device)
        self.saddle = saddle_of_rows(pattern)

    def apply(self, values: Tensor, vector: Tensor) -> Tensor:
        """The matrix of these values times a vector."""
        if _are_plain_vectors(values, vector):
            return self._by_rows.product(values, vector)
        return self.rows.totals(values * self.columns.members(vector))

    def adjoint(self, values: Tensor, vector: Tensor) -> Tensor:
        """Its transpose times a vector."""
        if _are_plain_vectors(values, vector):
            return self._by_columns.product(values, vector)
        return self.columns.totals(values * self.rows.members(vector))

    def dense(self, values: Tensor) -> Tensor:
        """``(*batch, m, n)`` the matrix of values ``(*batch, nnz)``."""
        num_rows, num_variables = self.pattern.shape
        place = self.rows.index * num_variables + self.columns.index
        flat = values.new_zeros(values.shape[:-1] + (num_rows * num_variables,))
        flat = flat.index_add(-1, place, values)
        return flat.unflatten(-1, (num_rows, num_variables))


class _Compressed:
    """Where a matrix has entries, row by row: products with many vectors take a tenth of the time
    of sums over entries, but PyTorch differentiates them less well."""

    def __init__(
        self, row: np.ndarray, column: np.ndarray, shape: tuple[int, int], device: torch.device
    ) -> None:
        order = np.argsort(row, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
        self._order, self._column, self._starts = (
            torch.tensor(part, device=device) for part in (order, column[order], starts)
        )
        self._shape = shape

    def product(self, values: Tensor, vectors: Tensor) -> Tensor:
        """The matrix of values ``(nnz,)`` times vectors ``(..., columns)``."""
        with warnings.catch_warnings():  # the layout is called beta
            warnings.simplefilter("ignore", UserWarning)
            matrix = torch.sparse_csr_tensor(
                self._starts,
                self._column,
                values[self._order],
                self._shape,
                device=values.device,  # not the default one
            )
        flat = vectors.reshape(-1, self._shape[1])
        product = (matrix @ flat.to(values).T).T
        return product.reshape(vectors.shape[:-1] + (self._shape[0],))


def _are_plain_vectors(values: Tensor, vector: Tensor) -> bool:
    """Whether these are many vectors and one matrix, which nothing differentiates or records."""
    return vector.ndim >= 2 and values.ndim == 1 and are_plain(values, vector)


_INDICES: WeakKeyDictionary[SparsePattern, dict[torch.device, SparseIndex]] = WeakKeyDictionary()


@kept_by_a_graph
def sparse_index(pattern: SparsePattern, device: torch.device) -> SparseIndex:
    """The pattern on a device; made once."""
    indices = _INDICES.setdefault(pattern, {})
    if device not in indices:
        # What is kept serves every later law, also one that is trained.
        with outside_transforms():
            indices[device] = SparseIndex(pattern, device)
    return indices[device]


def is_sparse(matrix: Any) -> bool:
    """Whether a matrix is one of ``scipy.sparse``, a sparse tensor or a ``SparseMatrix``."""
    if isinstance(matrix, Tensor):
        return matrix.layout != torch.strided
    return isinstance(matrix, SparseMatrix) or sparse.issparse(matrix)


def as_sparse(name: str, matrix: Any, device: torch.device | None = None) -> SparseMatrix:
    """A sparse matrix of any kind, with values that are floating tensors.

    Raises:
        ConstraintError: complex values, or a layout without a plain list of entries.
    """
    if _is_known(matrix) and torch.compiler.is_compiling():
        return _kept(matrix, _at_compilation(name, matrix, device))
    return _as_sparse(name, matrix, device)


def _is_known(matrix: Any) -> bool:
    """Whether values are arrays."""
    values = matrix.values if isinstance(matrix, SparseMatrix) else matrix
    return not isinstance(values, Tensor)


def _as_sparse(name: str, matrix: Any, device: torch.device | None) -> SparseMatrix:
    if isinstance(matrix, Tensor):
        matrix = _of_tensor(name, matrix)
    elif not isinstance(matrix, SparseMatrix):
        matrix = SparseMatrix.of(matrix)
    values = matrix.values
    if not isinstance(values, Tensor):
        with outside_transforms():
            # A copy: arrays may change later.
            values = torch.tensor(np.asarray(values), device=device or "cpu")
    if values.is_complex():
        refuse_complex(name, values.dtype)
    if device is not None and values.device != device:  # torch.func wraps what this is called on
        values = values.to(device)
    return matrix.with_values(to_float(values))


@kept_by_a_graph
def _at_compilation(
    name: str, matrix: Any, device: torch.device | None
) -> tuple[SparseMatrix, Tensor | None]:
    """The matrix when a step is compiled, and what its user may change in place later."""
    entries = entries_in_place(matrix)
    copied = None if entries is None else torch.tensor(np.asarray(entries))
    return _as_sparse(name, matrix, device), copied


def _kept(matrix: Any, found: tuple[SparseMatrix, Tensor | None]) -> SparseMatrix:
    """What a compiled step keeps of a matrix; NaN where it has changed since."""
    kept, then = found
    if then is None:
        return kept
    is_current = (then == torch.as_tensor(entries_in_place(matrix))).all().to(kept.values.device)
    return kept.with_values(torch.where(is_current, kept.values, torch.nan))


def entries_in_place(matrix: Any) -> Any:
    """What of a matrix its user may change in place, or None."""
    if isinstance(matrix, Tensor | np.ndarray):
        return matrix
    if isinstance(matrix, SparseMatrix):
        return matrix.values
    if isinstance(matrix, sparse.sparray | sparse.spmatrix):
        return None if matrix.format in ("dok", "lil") else matrix.data
    return None


def to_float(values: Tensor) -> Tensor:
    """Values in at least single precision; whole numbers in double."""
    if not values.is_floating_point():
        return values.to(torch.float64)
    return values.to(torch.float32) if values.dtype.itemsize < 4 else values


def _of_tensor(name: str, matrix: Tensor) -> SparseMatrix:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or matrix.layout not in (torch.sparse_coo, torch.sparse_csr):
        raise ConstraintError(
            f"{name}: expected a sparse tensor of shape (m, n) in COO or CSR layout, got shape "
            f"{shape} in {matrix.layout}; convert it, or give a SparseMatrix whose values are "
            "(*batch, nnz)."
        )
    if matrix.layout == torch.sparse_coo:
        # First: small integers overflow in sums.
        matrix = (matrix if matrix.is_complex() else to_float(matrix)).coalesce()
        row, column = host_array(matrix.indices())
    else:
        row = np.repeat(np.arange(shape[0]), np.diff(host_array(matrix.crow_indices())))
        column = host_array(matrix.col_indices())
    if matrix.values().ndim != 1:
        raise ConstraintError(
            f"{name}: expected one value for each entry, got values of shape "
            f"{tuple(matrix.values().shape)} (a hybrid tensor); give a SparseMatrix."
        )
    return SparseMatrix(row, column, matrix.values(), shape)


def _read(tensor: Tensor) -> np.ndarray | sparse.csr_array:
    """Values of a tensor that an array may stand for, or a matrix of SciPy for a sparse one.

    Raises:
        ConstraintError: its gradient is recorded, ``torch.func.vmap`` maps over it, or
            ``torch.jit.trace`` will be given others.
    """
    if is_constant(tensor):
        return _of_tensor("A", tensor).to_scipy() if is_sparse(tensor) else host_array(tensor)
    raise ConstraintError(
        "expected values that are known when a constraint is made, got a tensor that is "
        "differentiated, that torch.func.vmap maps over, or an input of torch.jit.trace; give them "
        "by detach() or as an array, and one law of a batch for all that is mapped."
    )


READERS[Tensor] = _read


def dense_form(matrix: Any) -> Any:
    """A sparse matrix as a dense one, through which gradients flow; anything else as it is."""
    if not is_sparse(matrix):
        return matrix
    if not _is_known(matrix):
        return _made_dense(as_sparse("A", matrix))
    with outside_transforms():
        return _made_dense(_as_sparse("A", matrix, None)).numpy(force=True)


def _made_dense(matrix: SparseMatrix) -> Tensor:
    return sparse_index(matrix.pattern, matrix.values.device).dense(matrix.values)
