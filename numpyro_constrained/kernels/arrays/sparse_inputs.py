"""What users give as a sparse matrix."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.experimental.sparse import BCOO, BCSR, JAXSparse
from scipy import sparse

from constrained_core import SparseMatrix
from constrained_core.errors import ConstraintError
from constrained_core.inputs import READERS
from numpyro_constrained.kernels.arrays.inputs import host_or_traced
from numpyro_constrained.kernels.arrays.known import seen
from numpyro_constrained.kernels.arrays.leaves import unstacked
from numpyro_constrained.kernels.arrays.segments import Segments

__all__ = ["dense_form", "is_sparse", "read_sparse", "unstacked_matrix"]


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix of any kind."""
    return isinstance(value, SparseMatrix | JAXSparse) or sparse.issparse(value)


def read_sparse(name: str, value: Any) -> SparseMatrix:
    """A sparse matrix with values of NumPy, or traced ones.

    Raises:
        ConstraintError: a sparse matrix of another kind, indices that are not known, complex
            numbers.
    """
    if sparse.issparse(value):
        value = SparseMatrix.of(value)
    elif isinstance(value, BCOO):
        value = _of_bcoo(name, value)
    elif isinstance(value, BCSR):
        value = _of_bcoo(name, value.to_bcoo())
    elif isinstance(value, JAXSparse):
        raise ConstraintError(
            f"{name}: expected a BCOO, a BCSR, a scipy.sparse matrix or a SparseMatrix, got "
            f"{type(value).__name__}; convert it to one of them."
        )
    return SparseMatrix.on(value.pattern, host_or_traced(name, value.values))


READERS[JAXSparse] = lambda matrix: read_sparse("A", matrix).to_scipy()


def _of_bcoo(name: str, value: BCOO) -> SparseMatrix:
    if value.n_batch or value.n_dense or value.ndim != 2:
        raise ConstraintError(
            f"{name}: expected a BCOO of shape (m, n) without batch and dense dimensions, got "
            f"shape {value.shape} with {value.n_batch} and {value.n_dense}; give a batch as a "
            "SparseMatrix with values (*batch, nnz)."
        )
    index = _known_index(name, value.indices)
    num_rows, num_columns = value.shape
    # Entries outside of the shape are padding; those at one place are added.
    inside = np.flatnonzero((index[:, 0] < num_rows) & (index[:, 1] < num_columns))
    place = index[inside, 0] * num_columns + index[inside, 1]
    places, group = np.unique(place, return_inverse=True)
    values = Segments(group, len(places)).totals(value.data[inside])
    shape = num_rows, num_columns
    return SparseMatrix(places // num_columns, places % num_columns, values, shape)


def _known_index(name: str, indices: Array) -> np.ndarray:
    known = seen(indices)
    if isinstance(known, Tracer):
        raise ConstraintError(
            f"{name}: expected indices with known values, for a static pattern, got traced ones; "
            "make the pattern outside jit, and the values inside, as SparseMatrix.with_values."
        )
    return np.asarray(known, dtype=np.int64)


def dense_form(name: str, value: Any) -> Any:
    """The matrix as a dense array of NumPy, or a traced one."""
    matrix = read_sparse(name, value)
    if not isinstance(matrix.values, Tracer) and matrix.values.ndim == 1:
        return matrix.to_scipy().toarray().astype(matrix.values.dtype)
    zeros = jnp.zeros(matrix.shape, matrix.values.dtype)
    dense = zeros.at[..., matrix.row, matrix.column].set(matrix.values)
    return dense if isinstance(dense, Tracer) else np.asarray(dense)


def unstacked_matrix(matrix: Any, row_dims: int, own_batch: int, batch_dims: int) -> Any:
    """A matrix, dense or sparse, with the batch dimensions that ``vmap`` stacked in front of it
    kept in front of others."""
    if isinstance(matrix, SparseMatrix):
        values = unstacked(matrix.values, 1, own_batch, batch_dims)
        return SparseMatrix.on(matrix.pattern, values)
    return unstacked(matrix, row_dims, own_batch, batch_dims)
