"""Batched matrix-vector products that never copy a matrix over sample dimensions."""

import math

import numpy as np
import torch
from torch import Tensor

from constrained_core.checks.entries import Requirement, no_factor
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import are_known, is_transformed
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace

__all__ = [
    "WIDE_ANGLE",
    "add_matvec",
    "cholesky",
    "diagonal",
    "gram_root",
    "identity_like",
    "inner",
    "inverse_of_factored",
    "long_matvec",
    "matvec",
    "positive_qr",
    "power_of_two_below",
    "solve",
    "solve_lower",
    "solve_lower_adjoint",
    "split_exactly",
    "take",
]

PART = 2**13
"""Columns of a matrix that are multiplied at once, where digits count."""
WIDE_ANGLE = 100.0
"""Squared cosecant of the angle between a vector and the others up to which their Gram matrix is
factored directly."""


def cholesky(
    matrix: Tensor, expected: str, remedy: str, least_pivot: Tensor | float | None = None
) -> Tensor:
    """Cholesky factor, or an error with what was expected and what to do; NaN where values cannot
    be looked at.

    Args:
        matrix: ``(*batch, n, n)`` symmetric.
        expected: what the matrix should be.
        remedy: what to do otherwise.
        least_pivot: ``(*batch, 1)`` the smallest squared pivot, relative to the entry that it is
            left from, that is not taken for a rounding error.
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    fails = info
    if least_pivot is not None:
        left = diagonal(factor.detach()).square() <= least_pivot * diagonal(matrix.detach())
        fails = fails | left.any(-1)
    if not are_known(fails):
        return torch.where((fails != 0)[..., None, None], torch.nan, factor)
    if bool(fails.any()):
        raise TensorParameterError(
            no_factor(Requirement(expected, remedy), matrix.shape, matrix.dtype)
        )
    return factor


def diagonal(matrix: Tensor) -> Tensor:
    """``(*batch, n)`` of ``(*batch, n, n)``."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def identity_like(matrix: Tensor) -> Tensor:
    """The identity of the size, dtype and device of ``(*batch, n, n)``."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def positive_qr(matrix: Tensor) -> Tensor:
    """Q of the factorisation of ``(*batch, n, p)`` whose triangle has a positive diagonal: unlike
    others it is continuous in the matrix."""
    orthonormal, triangle = torch.linalg.qr(matrix)
    signs = torch.where(diagonal(triangle.detach()) < 0, -1.0, 1.0).to(matrix)
    return orthonormal * signs[..., None, :]


def gram_root(matrix: Tensor) -> Tensor:
    """Lower triangular C with a positive diagonal and ``C C' = M' M``, for M ``(*batch, n, p)``.

    By Cholesky's factorisation where columns of M are at wide angles. Elsewhere by
    orthogonalisation, which needs no squares. C is one function of M, and continuous.
    """
    gram = matrix.mT @ matrix
    if are_known(gram):
        factor, info = torch.linalg.cholesky_ex(gram)
        if not bool(info.any()):
            inverse = torch.cholesky_inverse(factor.detach())
            if bool((diagonal(inverse) * diagonal(gram.detach()) < WIDE_ANGLE).all()):
                return factor
    _, triangle = torch.linalg.qr(matrix)
    signs = torch.where(diagonal(triangle.detach()) < 0, -1.0, 1.0).to(triangle)
    return triangle.mT * signs[..., None, :]


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix @ vector`` for matrix ``(*batch, a, b)`` and vector ``(*sample, *batch, b)``."""
    if matrix.ndim == 2:
        return matrix.mv(vector) if vector.ndim == 1 else vector @ matrix.mT
    return _over_columns(torch.matmul, matrix, vector)


@quiet_under_trace  # sizes are tensors there
def long_matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matvec`` in parts of few columns: one running sum over many has rounding errors of the size
    of the total, each. In one where it is differentiated."""
    if vector.shape[-1] <= PART or matrix.requires_grad or vector.requires_grad:
        return matvec(matrix, vector)
    pairs = zip(matrix.split(PART, -1), vector.split(PART, -1), strict=True)
    return torch.stack([matvec(*pair) for pair in pairs]).sum(0)


def add_matvec(base: Tensor, matrix: Tensor, vector: Tensor) -> Tensor:
    """``base + matrix @ vector``, in one operation where there is one."""
    if base.ndim == 1 and vector.ndim == 1 and matrix.ndim == 2:
        return torch.addmv(base, matrix, vector)
    return base + matvec(matrix, vector)


def take(vector: Tensor, index: Tensor) -> Tensor:
    """Entries ``index``, ``(*batch, p)``, of the last dimension."""
    if index.ndim == 1:
        return vector.index_select(-1, index)
    batch_shape = torch.broadcast_shapes(vector.shape[:-1], index.shape[:-1])
    vector = vector.expand(batch_shape + vector.shape[-1:])
    return vector.gather(-1, index.expand(batch_shape + index.shape[-1:]))


def inner(one: Tensor, other: Tensor) -> Tensor:
    """Sum of products over the last dimension, of which both have as many."""
    return one.dot(other) if one.ndim == other.ndim == 1 else (one * other).sum(-1)


def inverse_of_factored(factor: Tensor) -> Tensor:
    """``(C C')^-1`` of a Cholesky factor; not ``cholesky_inverse``, whose derivative is wrong in
    forward mode inside of forward mode."""
    identity = identity_like(factor).expand(factor.shape)
    half = torch.linalg.solve_triangular(factor, identity, upper=False)
    return half.mT @ half


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """``M^-1 right``; by an inverse where ``torch.func`` or forward mode runs: of PyTorch's
    solution, second derivatives with forward mode inside, and mapped Hessians, are wrong."""
    if not torch.compiler.is_compiling() and is_transformed():
        return torch.linalg.inv(matrix) @ right
    return torch.linalg.solve(matrix, right)


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
        return operation(matrix, vector.unsqueeze(-1)).squeeze(-1)
    num_samples = max(vector.ndim - (matrix.ndim - 1), 0)
    sample_shape = vector.shape[:num_samples]
    columns = vector.reshape((math.prod(sample_shape),) + vector.shape[num_samples:])
    result = operation(matrix, columns.movedim(0, -1)).movedim(-1, 0)
    return result.reshape(sample_shape + result.shape[1:])


def power_of_two_below(size: Tensor) -> Tensor:
    """The largest power of two of at most each size ``>= 0``; 1 for zero. No gradient."""
    # Not by ``ldexp``, which takes a power: accelerators round it.
    size = size.detach()
    mantissa, _ = torch.frexp(size)
    return torch.where(size > 0, size / (2 * mantissa), 1.0)


@quiet_under_trace
def split_exactly(value: Tensor, bits: int) -> tuple[Tensor, Tensor | None]:
    """``value = high + low`` where products of high with rows of ``bits`` bits are exact; low is
    None where these are too many.

    Where rows depend on each other, the residual of one is the sum of those of others: it is
    small only if theirs are known beyond rounding (error-free splitting, Ozaki et al. 2012).
    """
    mantissa = 1 - int(np.log2(torch.finfo(value.dtype).eps))
    if bits + 3 > mantissa or value.shape[-1] == 0:
        return value, None
    largest = power_of_two_below(value.abs().amax(-1, keepdim=True))
    unit = largest * 2.0 ** (1 + bits - mantissa)
    high = torch.round(value.detach() / unit) * unit
    return high, value - high
