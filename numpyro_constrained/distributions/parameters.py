"""Checks of parameters: every message says what was expected, what came and what to do.

Values are checked where they are known: a tracer has none.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpyro.distributions import constraints

from constrained_core import ConstraintError, ParameterError
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.fiber.constraint import IntegerConstraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint

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
    "lifted",
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
    name: str, tensor: Array, event_shape: Sequence[int], stretch: bool = True
) -> Array:
    """``tensor`` if it ends in ``event_shape``; where ``stretch``, a number stands for all entries
    of a vector, and so does a last dimension of 1 for all variables."""
    event_shape = tuple(event_shape)
    size = len(event_shape)
    if tensor.ndim >= size and tensor.shape[-size:] == event_shape:
        return tensor
    is_number = tensor.ndim == 0 and size == 1
    if stretch and (is_number or tensor.shape[-size:] == (1, *event_shape[1:])):
        with jax.ensure_compile_time_eval():
            return jnp.broadcast_to(tensor, tensor.shape[:-size] + event_shape)
    wanted = ", ".join(str(size) for size in event_shape)
    raise ConstraintError(
        f"{name}: expected shape (*batch, {wanted}) for the {event_shape[0]} variables of A, "
        f"got {tuple(tensor.shape)}; the last dimensions must match the columns of A."
    )


def lifted(tensor: Array, batch_shape: Sequence[int], event_dim: int) -> Array:
    """``tensor`` with the batch rank of the law, by axes of size 1."""
    with jax.ensure_compile_time_eval():
        return lift(tensor, len(batch_shape) + event_dim)


def require_categories(name: str, tensor: Array) -> Array:
    """``tensor`` if it can be ``(*batch, n, C)``."""
    if tensor.ndim < 2 or tensor.shape[-1] == 0:
        raise ConstraintError(
            f"{name}: expected shape (*batch, n, C) for C categories of each variable, got "
            f"{tuple(tensor.shape)}; give one row of categories per variable."
        )
    return tensor


def batch_shape_of(
    constraint: LinearConstraint | IntegerConstraint, **batch_shapes: tuple[int, ...]
) -> tuple[int, ...]:
    """The common batch shape of the parameters, A and k."""
    batch_shapes["A and k"] = constraint.batch_shape
    try:
        return jnp.broadcast_shapes(*batch_shapes.values())
    except ValueError as error:
        shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in batch_shapes.items())
        raise ConstraintError(
            f"expected batch shapes that broadcast together, got {shapes}; reshape a parameter."
        ) from error


def _require(name: str, expected: str, tensor: np.ndarray, holds: np.ndarray, remedy: str) -> None:
    if holds.all():
        return
    where = tuple(int(i) for i in np.argwhere(~holds)[0])
    found = tensor[where]
    got = f"{float(found):.6g}" if found.ndim == 0 else f"a matrix of shape {found.shape}"
    at = f" at {where}" if where else ""
    raise ParameterError(f"{name}: expected {expected}, got {got}{at}; {remedy}.")


def check_finite(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN or infinite."""
    if not isinstance(tensor, Tracer):
        values = np.asarray(tensor)
        remedy = "check how it is computed"
        _require(name, "finite values", values, np.isfinite(values), remedy)


def check_positive(name: str, tensor: Array) -> None:
    """Raise if an entry is not positive and finite."""
    if not isinstance(tensor, Tracer):
        values = np.asarray(tensor)
        holds = (values > 0) & np.isfinite(values)
        remedy = "use exp or softplus to make it so"
        _require(name, "positive finite values", values, holds, remedy)


def check_nonnegative(name: str, tensor: Array) -> None:
    """Raise if an entry is negative, NaN or infinite."""
    if not isinstance(tensor, Tracer):
        values = np.asarray(tensor)
        holds = (values >= 0) & np.isfinite(values)
        remedy = "use exp or softplus to make it so"
        _require(name, "nonnegative finite values", values, holds, remedy)


def check_probs(name: str, tensor: Array) -> None:
    """Raise if an entry is not in [0, 1]."""
    if not isinstance(tensor, Tracer):
        values = np.asarray(tensor)
        holds = (values >= 0) & (values <= 1)
        remedy = "use sigmoid, or give logits instead"
        _require(name, "probabilities in [0, 1]", values, holds, remedy)


def check_category_probs(name: str, tensor: Array) -> None:
    """Raise if an entry is negative or not finite, or a row does not sum to one, by NumPyro's own
    tolerance."""
    check_nonnegative(name, tensor)
    if not isinstance(tensor, Tracer):
        total, remedy = np.asarray(tensor.sum(-1)), "divide by the sum, or give logits instead"
        holds = np.asarray(constraints.simplex(tensor))
        _require(f"the sum of {name}", "probabilities that sum to one", total, holds, remedy)


def check_category_logits(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN, or a row makes all categories impossible."""
    check_logits(name, tensor)
    if not isinstance(tensor, Tracer):
        largest = np.asarray(tensor).max(-1)
        expected, remedy = "a category that is possible in every row", "raise a logit above -inf"
        _require(name, expected, largest, largest > -np.inf, remedy)


def check_logits(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN; infinite ones are probabilities of exactly 0 and 1."""
    if not isinstance(tensor, Tracer):
        values = np.asarray(tensor)
        _require(name, "log odds or log probabilities", values, ~np.isnan(values), "check for NaN")


def check_covariance(name: str, matrix: Array) -> None:
    """Raise if a matrix is not finite and symmetric; its Cholesky factor tells the rest."""
    check_finite(name, matrix)
    if isinstance(matrix, Tracer):
        return
    values = np.asarray(matrix)
    if (values == values.mT).all():
        return
    scale = np.abs(values).max((-2, -1), keepdims=True)
    gap = np.abs(values - values.mT)
    tolerance = np.finfo(values.dtype).eps ** 0.5
    holds = (gap <= tolerance * scale).all((-2, -1))
    _require(name, "a symmetric matrix", values, holds, "use (S + S.mT) / 2")


def check_tril(name: str, matrix: Array) -> None:
    """Raise if a matrix is not lower triangular with a positive diagonal."""
    check_finite(name, matrix)
    if isinstance(matrix, Tracer):
        return
    values = np.asarray(matrix)
    holds = (np.tril(values) == values).all((-2, -1))
    _require(name, "a lower triangular matrix", values, holds, "use tril or a Cholesky factor")
    check_positive(f"the diagonal of {name}", jnp.diagonal(matrix, axis1=-2, axis2=-1))
