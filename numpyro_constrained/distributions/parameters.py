"""Checks of parameters: what is asked for is in ``constrained_core.checks``.

Values are checked where they are known: a tracer has none.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpyro.distributions import constraints

from constrained_core import ParameterError
from constrained_core.checks import entries, shapes
from constrained_core.checks.entries import Requirement, violation
from constrained_core.checks.shapes import common_batch_shape
from numpyro_constrained.kernels.bound import BoundConstraint

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
    name: str, tensor: Array, event_shape: Sequence[int], stretch: bool = True
) -> Array:
    """``tensor`` if it ends in ``event_shape``; where ``stretch``, a number stands for all entries
    of a vector, and so does a last dimension of 1 for all variables."""
    shape = shapes.event_shape_of(name, tensor.shape, event_shape, stretch)
    if shape == tensor.shape:
        return tensor
    with jax.ensure_compile_time_eval():
        return jnp.broadcast_to(tensor, shape)


def require_categories(name: str, tensor: Array) -> Array:
    """``tensor`` if it can be ``(*batch, n, C)``."""
    shapes.require_categories(name, tensor.shape)
    return tensor


def batch_shape_of(constraint: BoundConstraint, **batch_shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common batch shape of the parameters, A and k."""
    return common_batch_shape(**batch_shapes, **{"A and k": constraint.batch_shape})


def _require(
    name: str,
    requirement: Requirement,
    tensor: Array,
    holds: Callable[[np.ndarray], np.ndarray],
) -> None:
    if isinstance(tensor, Tracer):
        return
    values = np.asarray(tensor)
    found = holds(values)
    if not found.all():
        raise ParameterError(violation(name, requirement, values, found))


def check_finite(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN or infinite."""
    _require(name, entries.FINITE, tensor, np.isfinite)


def check_positive(name: str, tensor: Array) -> None:
    """Raise if an entry is not positive and finite."""
    _require(name, entries.POSITIVE, tensor, lambda v: (v > 0) & np.isfinite(v))


def check_nonnegative(name: str, tensor: Array) -> None:
    """Raise if an entry is negative, NaN or infinite."""
    _require(name, entries.NONNEGATIVE, tensor, lambda v: (v >= 0) & np.isfinite(v))


def check_probs(name: str, tensor: Array) -> None:
    """Raise if an entry is not in [0, 1]."""
    _require(name, entries.PROBABILITY, tensor, lambda v: (v >= 0) & (v <= 1))


def check_category_probs(name: str, tensor: Array) -> None:
    """Raise if an entry is negative or not finite, or a row has no law.

    In NumPyro a row sums to one, by its own tolerance.
    """
    check_nonnegative(name, tensor)
    asked = Requirement(
        "probabilities that sum to one", "divide by the sum, or give logits instead"
    )
    holds = lambda total: np.asarray(constraints.simplex(tensor))  # noqa: E731
    _require(f"the sum of {name}", asked, tensor.sum(-1), holds)


def check_category_logits(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN, or a row makes all categories impossible."""
    check_logits(name, tensor)
    _require(name, entries.POSSIBLE_CATEGORY, tensor.max(-1), lambda largest: largest > -np.inf)


def check_logits(name: str, tensor: Array) -> None:
    """Raise if an entry is NaN; infinite ones are probabilities of exactly 0 and 1."""
    _require(name, entries.LOG_ODDS, tensor, lambda v: ~np.isnan(v))


def check_covariance(name: str, matrix: Array) -> None:
    """Raise if a matrix is not finite and symmetric; its Cholesky factor tells the rest."""
    check_finite(name, matrix)
    _require(name, entries.SYMMETRIC, matrix, _is_symmetric)


def _is_symmetric(matrix: np.ndarray) -> np.ndarray:
    scale = np.abs(matrix).max((-2, -1), keepdims=True)
    gap = np.abs(matrix - matrix.mT)
    return (gap <= np.finfo(matrix.dtype).eps ** 0.5 * scale).all((-2, -1))


def check_tril(name: str, matrix: Array) -> None:
    """Raise if a matrix is not lower triangular with a positive diagonal."""
    check_finite(name, matrix)
    _require(name, entries.LOWER_TRIANGULAR, matrix, lambda v: (np.tril(v) == v).all((-2, -1)))
    check_positive(f"the diagonal of {name}", jnp.diagonal(matrix, axis1=-2, axis2=-1))
