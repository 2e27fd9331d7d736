"""Checks of parameters: every message says what was expected, what came and what to do."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from constrained_core import ConstraintError
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.fiber.constraint import IntegerConstraint
from pyro_constrained.kernels.linear.constraint import LinearConstraint

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
    "exactly_one",
    "require_categories",
    "require_event",
]


def exactly_one(**parameters: Any) -> tuple[str, Any]:
    """The name and value of the one parameter that is not None."""
    given = [(name, value) for name, value in parameters.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ConstraintError(f"expected exactly one of {', '.join(parameters)}, got {names}.")
    return given[0]


def require_event(
    name: str, tensor: Tensor, event_shape: Sequence[int], stretch: bool = True
) -> Tensor:
    """``tensor`` if it ends in ``event_shape``; where ``stretch``, a number stands for all entries
    of a vector, and so does a last dimension of 1 for all variables."""
    event_shape = tuple(event_shape)
    size = len(event_shape)
    if tensor.ndim == 0 and size == 1:
        return tensor.expand(event_shape)
    if tensor.ndim >= size and tensor.shape[-size:] == event_shape:
        return tensor
    if stretch and tensor.ndim >= size and tensor.shape[-size:] == (1, *event_shape[1:]):
        return tensor.expand(tensor.shape[:-size] + event_shape)
    wanted = ", ".join(str(size) for size in event_shape)
    raise ConstraintError(
        f"{name}: expected shape (*batch, {wanted}) for the {event_shape[0]} variables of A, "
        f"got {tuple(tensor.shape)}; the last dimensions must match the columns of A."
    )


def require_categories(name: str, tensor: Tensor) -> Tensor:
    """``tensor`` if it can be ``(*batch, n, C)``."""
    if tensor.ndim < 2 or tensor.shape[-1] == 0:
        raise ConstraintError(
            f"{name}: expected shape (*batch, n, C) for C categories of each variable, got "
            f"{tuple(tensor.shape)}; give one row of categories per variable."
        )
    return tensor


def batch_shape_of(
    constraint: LinearConstraint | IntegerConstraint, **batch_shapes: torch.Size
) -> torch.Size:
    """The common batch shape of the parameters, A and k."""
    batch_shapes["A and k"] = constraint.batch_shape
    try:
        return broadcast_shapes(*batch_shapes.values())
    except ValueError as error:
        shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in batch_shapes.items())
        raise ConstraintError(
            f"expected batch shapes that broadcast together, got {shapes}; reshape a parameter."
        ) from error


def _require(name: str, expected: str, tensor: Tensor, holds: Tensor, remedy: str) -> None:
    if not are_known(holds) or bool(holds.all()):
        return
    where = tuple(int(i) for i in (~holds).nonzero()[0])
    part = tensor.detach()[where]
    got = f"{float(part):.6g}" if part.ndim == 0 else f"a matrix of shape {tuple(part.shape)}"
    at = f" at {where}" if where else ""
    raise TensorParameterError(f"{name}: expected {expected}, got {got}{at}; {remedy}.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN or infinite; one pass where none is."""
    if are_known(tensor) and not math.isfinite(float(tensor.detach().sum())):
        _require(name, "finite values", tensor, tensor.isfinite(), "check how it is computed")


def check_positive(name: str, tensor: Tensor) -> None:
    """Raise if an entry is not positive and finite; one pass where all are."""
    if tensor.numel() == 0 or not are_known(tensor):
        return
    low, high = tensor.detach().aminmax()
    if not 0 < float(low) <= float(high) < math.inf:
        holds = (tensor > 0) & tensor.isfinite()
        _require(name, "positive finite values", tensor, holds, "use exp or softplus to make it so")


def check_nonnegative(name: str, tensor: Tensor) -> None:
    """Raise if an entry is negative, NaN or infinite."""
    holds = (tensor >= 0) & tensor.isfinite()
    _require(name, "nonnegative finite values", tensor, holds, "use exp or softplus to make it so")


def check_probs(name: str, tensor: Tensor) -> None:
    """Raise if an entry is not in [0, 1]."""
    holds = (tensor >= 0) & (tensor <= 1)
    _require(name, "probabilities in [0, 1]", tensor, holds, "use sigmoid, or give logits instead")


def check_category_probs(name: str, tensor: Tensor) -> None:
    """Raise if an entry is negative or not finite, or a row has no positive one."""
    check_nonnegative(name, tensor)
    total = tensor.sum(-1)
    _require(f"the sum of {name}", "a positive sum", total, total > 0, "give logits instead")


def check_category_logits(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN, or a row makes all categories impossible."""
    check_logits(name, tensor)
    largest = tensor.amax(-1)
    expected, remedy = "a category that is possible in every row", "raise a logit above -inf"
    _require(name, expected, largest, largest > -torch.inf, remedy)


def check_logits(name: str, tensor: Tensor) -> None:
    """Raise if an entry is NaN; infinite ones are probabilities of exactly 0 and 1."""
    _require(name, "log odds or log probabilities", tensor, ~tensor.isnan(), "check for NaN")


def check_covariance(name: str, matrix: Tensor) -> None:
    """Raise if a matrix is not finite and symmetric; its Cholesky factor tells the rest."""
    matrix = matrix.detach()
    check_finite(name, matrix)
    if not are_known(matrix) or torch.equal(matrix, matrix.mT):
        return
    scale = matrix.abs().amax((-2, -1))
    gap = (matrix - matrix.mT).abs().amax((-2, -1))
    holds = gap <= torch.finfo(matrix.dtype).eps ** 0.5 * scale
    _require(name, "a symmetric matrix", matrix, holds, "use (S + S.mT) / 2")


def check_tril(name: str, matrix: Tensor) -> None:
    """Raise if a matrix is not lower triangular with a positive diagonal."""
    check_finite(name, matrix)
    holds = (matrix.tril() == matrix).all(-1).all(-1)
    _require(name, "a lower triangular matrix", matrix, holds, "use tril or a Cholesky factor")
    check_positive(f"the diagonal of {name}", matrix.diagonal(dim1=-2, dim2=-1))
