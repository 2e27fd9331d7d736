"""Checks of parameters: what is asked for is in ``constrained_core.checks``.

Values are checked where they are known; most often one pass tells that all are fine.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from constrained_core.checks import entries, shapes
from constrained_core.checks.entries import Requirement, violation
from constrained_core.checks.shapes import common_batch_shape
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import are_known, host_array
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.bound import BoundConstraint

__all__ = [
    "batch_shape_of",
    "check_category_logits",
    "check_category_probs",
    "check_covariance",
    "check_finite",
    "check_logits",
    "check_nonnegative",
    "check_positive",
    "check_probs",
    "check_tril",
    "require_categories",
    "require_event",
]


def require_event(
    name: str, tensor: Tensor, event_shape: Sequence[int], stretch: bool = True
) -> Tensor:
    """``tensor`` if it ends in ``event_shape``; where ``stretch``, a number stands for all entries
    of a vector, and so does a last dimension of 1 for all variables."""
    return expanded(tensor, shapes.event_shape_of(name, tensor.shape, event_shape, stretch))


def require_categories(name: str, tensor: Tensor) -> Tensor:
    """``tensor`` if it can be ``(*batch, n, C)``."""
    shapes.require_categories(name, tensor.shape)
    return tensor


def batch_shape_of(constraint: BoundConstraint, **batch_shapes: tuple[int, ...]) -> torch.Size:
    """The common batch shape of the parameters, A and k."""
    shapes = {**batch_shapes, "A and k": constraint.batch_shape}
    return torch.Size(common_batch_shape(**shapes))


def _require(name: str, requirement: Requirement, tensor: Tensor, holds: Tensor) -> None:
    if are_known(holds) and not bool(holds.all()):
        raise TensorParameterError(
            violation(name, requirement, host_array(tensor), host_array(holds))
        )


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN or infinite."""
    if are_known(tensor) and not math.isfinite(float(tensor.detach().sum())):
        _require(name, entries.FINITE, tensor, tensor.isfinite())


def check_positive(name: str, tensor: Tensor) -> None:
    """Raise if an entry is not positive and finite."""
    if tensor.numel() == 0 or not are_known(tensor):
        return
    low, high = tensor.detach().aminmax()
    if not 0 < float(low) <= float(high) < math.inf:
        _require(name, entries.POSITIVE, tensor, (tensor > 0) & tensor.isfinite())


def check_nonnegative(name: str, tensor: Tensor) -> None:
    """Raise if an entry is negative, NaN or infinite."""
    if tensor.numel() == 0 or not are_known(tensor):
        return
    low, high = tensor.detach().aminmax()
    if not 0 <= float(low) <= float(high) < math.inf:
        _require(name, entries.NONNEGATIVE, tensor, (tensor >= 0) & tensor.isfinite())


def check_probs(name: str, tensor: Tensor) -> None:
    """Raise if an entry is not in [0, 1]."""
    _require(name, entries.PROBABILITY, tensor, (tensor >= 0) & (tensor <= 1))


def check_category_probs(name: str, tensor: Tensor) -> None:
    """Raise if an entry is negative or not finite, or a row has no law.

    PyTorch divides probabilities by their sum, which must be positive.
    """
    check_nonnegative(name, tensor)
    total, asked = tensor.sum(-1), Requirement("a positive sum", "give logits instead")
    _require(f"the sum of {name}", asked, total, total > 0)


def check_category_logits(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN, or a row makes all categories impossible."""
    check_logits(name, tensor)
    largest = tensor.amax(-1)
    _require(name, entries.POSSIBLE_CATEGORY, largest, largest > -torch.inf)


def check_logits(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN; infinite ones are probabilities of exactly 0 and 1."""
    _require(name, entries.LOG_ODDS, tensor, ~tensor.isnan())


def check_covariance(name: str, matrix: Tensor) -> None:
    """Raise if a matrix is not finite and symmetric; its Cholesky factor tells the rest."""
    matrix = matrix.detach()
    check_finite(name, matrix)
    if not are_known(matrix) or torch.equal(matrix, matrix.mT):
        return
    scale = matrix.abs().amax((-2, -1))
    gap = (matrix - matrix.mT).abs().amax((-2, -1))
    holds = gap <= torch.finfo(matrix.dtype).eps ** 0.5 * scale
    _require(name, entries.SYMMETRIC, matrix, holds)


def check_tril(name: str, matrix: Tensor) -> None:
    """Raise if a matrix is not lower triangular with a positive diagonal."""
    check_finite(name, matrix)
    if are_known(matrix) and not torch.equal(lower := matrix.detach().tril(), matrix):
        holds = (lower == matrix).all(-1).all(-1)
        _require(name, entries.LOWER_TRIANGULAR, matrix, holds)
    check_positive(f"the diagonal of {name}", matrix.diagonal(dim1=-2, dim2=-1))
