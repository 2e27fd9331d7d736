"""Large constants of a program, of which derivatives keep no copy.

Where a branch of ``lax.cond`` multiplies by a constant, the branch returns a copy of it for its
derivative. A constant that a primitive makes, inside of what is checkpointed, is made again
instead, which in a compiled program costs nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from numpyro_constrained.kernels.arrays.leaves import is_sharded
from numpyro_constrained.kernels.arrays.linalg import matmul, matvec

__all__ = ["LARGE", "held", "held_matvec", "is_large"]

LARGE = 2**16
"""Entries from which it pays."""


class _Held:
    """An array as a parameter of a primitive: equal to itself."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.array is other.array

    def __repr__(self) -> str:
        return f"array of shape {self.array.shape}"


_constant = Primitive("held_constant")
_constant.def_impl(lambda _, held: jnp.asarray(held.array))
_constant.def_abstract_eval(lambda _, held: ShapedArray(held.array.shape, held.array.dtype))
mlir.register_lowering(
    _constant,
    mlir.lower_fun(_constant.impl, multiple_results=False),
    inline=False,
)
batching.primitive_batchers[_constant] = lambda arguments, _, held: (
    _constant.bind(*arguments, held=held),
    None,  # mapped over nothing
)


def held(array: Any, beside: Array) -> Array:
    """The array, in the trace that another one belongs to."""
    if not (is_large(array) and isinstance(beside, Tracer)):
        return jnp.asarray(array)
    # What has no argument of a trace would be computed at once where a law is made.
    few = jax.lax.stop_gradient(beside).reshape(-1)[:1]
    return _constant.bind(few, held=_Held(array))


def held_matvec(matrix: Any, vector: Array, transposed: bool = False) -> Array:
    """``matrix @ vector`` for ``(*sample, *batch, n)``, or by its transpose."""
    if not (is_large(matrix) and matrix.ndim == 2 and isinstance(vector, Tracer)):
        return matvec(matrix.mT if transposed else matrix, vector)

    def product(vector: Array, few: Array) -> Array:
        constant = held(matrix, few)
        if transposed:
            return matmul(vector, constant)
        # A transpose of a constant is another one.
        return matmul(constant, vector) if vector.ndim == 1 else matmul(vector, constant.mT)

    few = jax.lax.stop_gradient(vector).reshape(-1)[:1]
    return jax.checkpoint(product, prevent_cse=False)(vector, few)


def is_large(array: Any) -> bool:
    """Whether an array is a constant that is worth holding."""
    return isinstance(array, np.ndarray) and array.size >= LARGE and not is_sharded()
