"""Functions of NumPy arrays inside programs of JAX.

``jax.pure_callback`` puts its arguments on the device again before the function sees them, which
waits for ever where the threads of the CPU are all in such functions; here it sees NumPy arrays.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

__all__ = ["HOST_CALL", "HostFunction", "batched", "host_call", "lowered"]

Shapes = tuple[tuple[int, ...], ...]


class HostFunction:
    """``function(static, *arrays)``, returning a sequence of arrays; equal where both are.

    It needs to broadcast: leading axes of size 1 may stand for those of other arguments.
    """

    def __init__(self, function: Callable[..., Sequence[np.ndarray]], static: Hashable) -> None:
        self._function, self._static = function, static

    def __call__(self, *arrays: Any) -> tuple[np.ndarray, ...]:
        return tuple(self._function(self._static, *map(np.asarray, arrays)))

    def __hash__(self) -> int:
        return hash((self._function, self._static))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HostFunction):
            return NotImplemented
        return self._function is other._function and self._static == other._static


HOST_CALL = Primitive("host_call")
HOST_CALL.multiple_results = True


def host_call(function: HostFunction, shapes: Shapes, dtype: Any, *arrays: Array) -> list[Array]:
    """``function(*arrays)``, at once where values are known, else when the program runs.

    It has no derivatives: callers know them.

    Args:
        function: what is computed.
        shapes: of the results.
        dtype: of the results.
        arrays: arguments of one rank, whose leading axes broadcast.
    """
    return HOST_CALL.bind(*arrays, function=function, shapes=shapes, dtype=np.dtype(dtype))


def _results(found: Sequence[np.ndarray], shapes: Shapes, dtype: np.dtype) -> tuple:
    with np.errstate(over="ignore"):  # of what is beyond float32
        return tuple(
            np.asarray(np.broadcast_to(array, shape), dtype, order="C")
            for array, shape in zip(found, shapes, strict=True)
        )


@HOST_CALL.def_impl
def _at_once(*arrays: Any, function: HostFunction, shapes: Shapes, dtype: np.dtype) -> list:
    return [jnp.asarray(found) for found in _results(function(*arrays), shapes, dtype)]


@HOST_CALL.def_abstract_eval
def _avals(*arrays: Any, function: HostFunction, shapes: Shapes, dtype: np.dtype) -> list:
    return [ShapedArray(shape, dtype) for shape in shapes]


def lowered(
    ctx: Any, *operands: Any, function: HostFunction, shapes: Shapes, dtype: np.dtype
) -> Any:
    """How a compiled program calls it."""

    def callback(*arrays: np.ndarray) -> tuple:
        return _results(function(*arrays), shapes, dtype)

    results, _, _ = mlir.emit_python_callback(
        ctx,
        callback,
        None,
        list(operands),
        ctx.avals_in,
        ctx.avals_out,
        has_side_effect=False,
        returns_token=False,
    )
    return results


def batched(arrays: Any, axes: Any, function: HostFunction, shapes: Shapes, dtype: Any) -> tuple:
    """How ``vmap`` maps it: axes stacked in front, of size 1 where an argument has none."""
    size = next(
        array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None
    )
    arrays = [
        array[None] if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    results = host_call(function, tuple((size, *shape) for shape in shapes), dtype, *arrays)
    return results, [0] * len(results)
