"""Saddle-point matrices on the host, and where their patterns have entries, for tensors."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from constrained_core.errors import ParameterError
from constrained_core.linear.saddle import SaddlePattern
from pyro_constrained.kernels.arrays.errors import TensorParameterError, on_host
from pyro_constrained.kernels.arrays.inspection import outside_transforms
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace

__all__ = ["host", "host_solve", "no_root", "on_a", "on_q", "places_of", "symmetric"]


def _as_tensor(array: Any) -> Tensor:
    """On the host, whatever device is the default one."""
    return torch.as_tensor(np.asarray(array), device="cpu")


@quiet_under_trace  # which keeps the derivative that calls it, not what it found
def host(function: Callable, pattern: SaddlePattern, *arguments: Any) -> Any:
    """A function of the core on tensors."""
    arrays = (on_host(one) if isinstance(one, Tensor) else one for one in arguments)
    try:
        result = function(pattern, *arrays)
    except ParameterError as error:
        raise TensorParameterError(str(error)) from error
    if isinstance(result, tuple):
        return tuple(map(_as_tensor, result))
    return _as_tensor(result)


def host_solve(function: Callable, pattern: SaddlePattern, *arguments: Any) -> Tensor:
    """A function of the core with a last vector ``(*sample, *batch, size)``, which may be many for
    one matrix also along the batch: such dimensions are made samples."""
    *values, vector = arguments
    batch = broadcast_shapes(*(one.shape[:-1] for one in values))
    values = [one.expand(batch + one.shape[-1:]) for one in values]
    vector = vector.reshape((1,) * max(len(batch) + 1 - vector.ndim, 0) + vector.shape)
    shared = [i - len(batch) - 1 for i, size in enumerate(batch) if size == 1]
    front = tuple(range(len(shared)))
    values = [one.squeeze(tuple(shared)) for one in values]
    solution = host(function, pattern, *values, vector.movedim(tuple(shared), front))
    return solution.movedim(front, tuple(shared))


class Places(NamedTuple):
    """Indices of a pattern as tensors; multipliers come after the variables.

    Attributes:
        q_row, q_column, a_row, a_column: as in the pattern, rows of A as multipliers.
        pair: ``(nq,)`` for every entry of Q the one across the diagonal.
    """

    q_row: Tensor
    q_column: Tensor
    a_row: Tensor
    a_column: Tensor
    pair: Tensor


@lru_cache(maxsize=64)
def places_of(pattern: SaddlePattern) -> Places:
    """Those of a pattern, made once."""
    n = max(pattern.num_variables, 1)
    place = pattern.q_row * n + pattern.q_column
    order = np.argsort(place)
    pair = order[np.searchsorted(place[order], pattern.q_column * n + pattern.q_row)]
    rows = pattern.q_row, pattern.q_column, pattern.a_row + pattern.num_variables, pattern.a_column
    # What is kept serves every later law, also one that is trained.
    with outside_transforms():
        return Places(
            *(torch.tensor(one, dtype=torch.int64, device="cpu") for one in (*rows, pair))
        )


def on_q(pattern: SaddlePattern, one: Tensor, other: Tensor) -> Tensor:
    """The symmetric part of the product of two vectors of n + r, where Q has entries."""
    row, column = places_of(pattern)[:2]
    return 0.5 * (one[..., row] * other[..., column] + one[..., column] * other[..., row])


def on_a(pattern: SaddlePattern, one: Tensor, other: Tensor) -> Tensor:
    """Both products of multipliers of one vector with variables of the other, where A has
    entries."""
    row, column = places_of(pattern)[2:4]
    return one[..., row] * other[..., column] + one[..., column] * other[..., row]


def symmetric(pattern: SaddlePattern, values: Tensor) -> Tensor:
    """The symmetric part of a matrix with entries where Q has them."""
    return 0.5 * (values + values[..., places_of(pattern).pair])


def no_root() -> NotImplementedError:
    """What a draw says of which a derivative in the precision is asked."""
    return NotImplementedError(
        "a draw without a root of the precision has no derivative with respect to its values, "
        "and one was asked for; give precision_root, a matrix D with Q = D'D, such as weighted "
        "differences, or use gradient_estimator='score_function'."
    )
