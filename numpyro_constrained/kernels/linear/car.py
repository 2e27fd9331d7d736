"""The precision of a conditional autoregression, sparse, and a root of it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from scipy import sparse

from constrained_core import SparseMatrix
from constrained_core.errors import ConstraintError
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.segments import Segments

__all__ = ["car_precision"]


def car_precision(
    loc: Any, adjacency: Any, correlation: Any, conditional_precision: Any
) -> tuple[SparseMatrix, SparseMatrix | None]:
    """Q = tau (D - alpha W) of a conditional autoregression, and a root of it.

    An edge of weight w adds ``tau w (x_i - alpha x_j)^2 + tau w (1 - alpha^2) x_j^2``. None instead
    of the root where weights are negative or a site is its own neighbour.

    Raises:
        ConstraintError: the adjacency is traced, or a batch.
    """
    edges = _known_adjacency(adjacency)
    _, alpha, tau = floating(
        loc=loc, correlation=correlation, conditional_precision=conditional_precision
    )
    ndim = max(alpha.ndim, tau.ndim) + 1
    alpha, tau = lift(alpha[..., None], ndim), lift(tau[..., None], ndim)

    def constant(values: np.ndarray) -> np.ndarray:
        return lift(values.astype(tau.dtype), ndim)

    precision = _precision(
        edges, tau * constant(_degrees(edges)), -alpha * tau * constant(edges.data)
    )
    if (edges.row == edges.col).any() or (edges.data < 0).any():
        return precision, None
    upper = edges.row < edges.col
    first, second = edges.row[upper], edges.col[upper]
    size = jnp.sqrt(tau * constant(edges.data[upper]))
    edge, others = np.arange(len(first)), np.arange(len(first), 2 * len(first))
    root = SparseMatrix(
        np.concatenate([edge, edge, others]),
        np.concatenate([first, second, second]),
        jnp.concatenate([size, -alpha * size, jnp.sqrt(1 - jnp.square(alpha)) * size], -1),
        (2 * len(first), edges.shape[1]),
    )
    return precision, root


def _degrees(edges: sparse.coo_array) -> np.ndarray:
    return np.bincount(edges.row, edges.data, minlength=edges.shape[0])


def _precision(edges: sparse.coo_array, diagonal: Array, off: Array) -> SparseMatrix:
    """The sparse sum of a diagonal and of values on edges, loops among them."""
    n = edges.shape[0]
    given = np.concatenate([np.arange(n) * (n + 1), edges.row.astype(np.int64) * n + edges.col])
    places, group = np.unique(given, return_inverse=True)
    batch = jnp.broadcast_shapes(diagonal.shape[:-1], off.shape[:-1])
    parts = [jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in (diagonal, off)]
    values = Segments(group, len(places)).totals(jnp.concatenate(parts, -1))
    return SparseMatrix(places // n, places % n, values, (n, n))


def _known_adjacency(adjacency: Any) -> sparse.coo_array:
    shape = np.shape(adjacency)
    if isinstance(adjacency, Tracer) or np.prod(shape[:-2], dtype=int) != 1:
        raise ConstraintError(
            "adj_matrix: expected one adjacency with known values, for a static pattern, got a "
            "traced one or a batch; give a NumPy array or a scipy.sparse matrix."
        )
    if not sparse.issparse(adjacency):
        adjacency = np.asarray(adjacency).reshape(shape[-2:])
    return sparse.coo_array(adjacency).astype(np.float64)
