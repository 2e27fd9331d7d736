"""Batched matrix-vector products that never copy a matrix over sample dimensions."""

import math

import numpy as np
import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from pyro_constrained.kernels.errors import TensorParameterError

__all__ = [
    "add_matvec",
    "cholesky",
    "matvec",
    "precision_to_tril",
    "solve_lower",
    "solve_lower_adjoint",
    "split_exactly",
    "sum_of_squares",
]


@ignore_jit_warnings()
def cholesky(matrix: Tensor, name: str) -> Tensor:
    """Cholesky factor, or an error that names the matrix."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.any():
        raise TensorParameterError(
            f"expected {name} to be positive definite, got a matrix of shape "
            f"{tuple(matrix.shape)} and dtype {matrix.dtype} without a Cholesky factor; check its "
            "eigenvalues, add a small multiple of the identity, or use float64."
        )
    return factor


def precision_to_tril(precision: Tensor, name: str) -> Tensor:
    """Lower Cholesky factor of the inverse, by factoring the matrix in reverse order."""
    reverse = torch.flip(cholesky(torch.flip(precision, (-2, -1)), name), (-2, -1)).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(reverse, identity, upper=False)


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix @ vector`` for matrix ``(*batch, a, b)`` and vector ``(*sample, *batch, b)``."""
    if matrix.ndim == 2:
        return matrix.mv(vector) if vector.ndim == 1 else vector @ matrix.mT
    return _over_columns(torch.matmul, matrix, vector)


def add_matvec(base: Tensor, matrix: Tensor, vector: Tensor) -> Tensor:
    """``base + matrix @ vector``, in one operation where there is one."""
    if base.ndim == 1 and vector.ndim == 1 and matrix.ndim == 2:
        return torch.addmv(base, matrix, vector)
    return base + matvec(matrix, vector)


def sum_of_squares(vector: Tensor) -> Tensor:
    """Sum over the last dimension."""
    return vector.dot(vector) if vector.ndim == 1 else vector.square().sum(-1)


def solve_lower(factor: Tensor, vector: Tensor) -> Tensor:
    """``L^-1 vector`` for lower triangular L ``(*batch, r, r)``."""
    return _over_columns(_solve_lower, factor, vector)


def solve_lower_adjoint(factor: Tensor, vector: Tensor) -> Tensor:
    """``L^-T vector`` for lower triangular L."""
    return _over_columns(_solve_lower_adjoint, factor, vector)


def _solve_lower(factor, columns):
    return torch.linalg.solve_triangular(factor, columns, upper=False)


def _solve_lower_adjoint(factor, columns):
    return torch.linalg.solve_triangular(factor.mT, columns, upper=True)


def _over_columns(operation, matrix, vector):
    """Apply ``operation(matrix, columns)`` with all sample dimensions gathered as columns."""
    if vector.ndim == 1 and matrix.ndim == 2:
        return operation(matrix, vector[:, None])[:, 0]
    num_samples = max(vector.ndim - (matrix.ndim - 1), 0)
    sample_shape = vector.shape[:num_samples]
    columns = vector.reshape((math.prod(sample_shape),) + vector.shape[num_samples:])
    result = operation(matrix, columns.movedim(0, -1)).movedim(-1, 0)
    return result.reshape(sample_shape + result.shape[1:])


@ignore_jit_warnings()
def split_exactly(value: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """``value = high + low`` where products of high with rows of ``bits`` bits are exact.

    Where rows depend on each other, the residual of one is the sum of those of others: it is
    small only if theirs are known beyond rounding (error-free splitting, Ozaki et al. 2012).
    """
    mantissa = 1 - int(np.log2(torch.finfo(value.dtype).eps))
    if bits + 3 > mantissa or value.shape[-1] == 0:
        return value, torch.zeros_like(value)
    _, exponent = torch.frexp(value.abs().amax(-1, keepdim=True))
    unit = torch.ldexp(torch.ones_like(value[..., :1]), exponent - (mantissa - bits))
    high = torch.round(value / unit) * unit
    return high, value - high
