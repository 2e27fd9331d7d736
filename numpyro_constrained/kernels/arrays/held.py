"""Large constants of a program, of which derivatives keep no copy.

Where a branch of ``lax.cond`` multiplies by a constant, the branch returns a copy of it for its
derivative. A constant that a primitive makes, inside of what is checkpointed, is made again
instead, which in a compiled program costs nothing.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import ShapedArray, Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.leaves import is_sharded
from numpyro_constrained.kernels.arrays.linalg import lift, matmul, matvec

__all__ = ["LARGE", "held", "held_matvec", "is_large", "long_matvec"]

LARGE = 2**16
"""Entries from which it pays."""
FEW, MANY = 2**9, 2**12
"""Columns of a matrix up to which one vector, or several, are multiplied as by any matrix."""
BLOCK = 2**13
"""Columns that are multiplied at once where a sum of all products would be made first."""


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


def held_matvec(
    matrix: Any, vector: Array, transposed: bool = False, beside: Array | None = None
) -> Array:
    """``matrix @ vector`` for ``(*sample, *batch, n)``, or by its transpose.

    ``beside`` is of the trace that the vector belongs to, and no tangent: what is made of one is
    taken to be linear in it. It is the vector itself unless given.
    """
    if not (is_large(matrix) and matrix.ndim == 2 and isinstance(vector, Tracer)):
        return matvec(matrix.mT if transposed else matrix, vector)

    def product(vector: Array, few: Array) -> Array:
        constant = held(matrix, few)
        if transposed:
            return matmul(vector, constant)
        # A transpose of a constant is another one.
        return matmul(constant, vector) if vector.ndim == 1 else matmul(vector, constant.mT)

    few = jax.lax.stop_gradient(vector if beside is None else beside).reshape(-1)[:1]
    return jax.checkpoint(product, prevent_cse=False)(vector, few)


def long_matvec(matrix: Any, vector: Array) -> Array:
    """``matrix @ vector`` on a CPU by sums, where there are many columns: XLA adds the terms of a
    sum by a tree, those of a product in turn, each with a rounding error of the size of the total.

    Where it is differentiated it is a product, which XLA shares with the derivatives.
    """
    is_few = matrix.shape[-1] <= (FEW if vector.ndim == 1 else MANY)
    if matrix.ndim > 2 or is_few or jax.default_backend() != "cpu":
        return held_matvec(matrix, vector)
    if not isinstance(matrix, np.ndarray):
        return _product(matrix, vector)

    @jax.custom_jvp
    def product(vector: Array) -> Array:
        return _sums(held(matrix, vector), vector)

    product.defjvp(
        lambda at, to: (held_matvec(matrix, at[0]), held_matvec(matrix, to[0], beside=at[0]))
    )
    return product(vector)


@jax.custom_jvp
def _product(matrix: Array, vector: Array) -> Array:
    return _sums(matrix, vector)


@partial(_product.defjvp, symbolic_zeros=True)  # one that is made up would be multiplied, too
def _product_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (matrix, vector), (of_matrix, of_vector) = primals, tangents
    value = matvec(matrix, vector)
    change = jnp.zeros_like(value)
    if not isinstance(of_matrix, SymbolicZero):
        change = change + matvec(of_matrix, vector)
    if not isinstance(of_vector, SymbolicZero):
        change = change + matvec(matrix, of_vector)
    return value, change


@as_one
def _sums(matrix: Any, vector: Array) -> Array:
    matrix, size = jnp.asarray(matrix), matrix.shape[-1]
    if vector.ndim > 1 or size <= BLOCK:
        return (lift(matrix, vector.ndim + 1) * vector[..., None, :]).sum(-1)
    count, rest = divmod(size, BLOCK)

    def add(_: None, block: tuple[Array, Array]) -> tuple[None, Array]:
        number, part = block
        columns = jax.lax.dynamic_slice_in_dim(matrix, number * BLOCK, BLOCK, 1)
        return None, matmul(columns, part)

    parts = vector[: size - rest].reshape(count, BLOCK)
    totals = jax.lax.scan(add, None, (jnp.arange(count), parts))[1].sum(0)
    return totals + _sums(matrix[:, size - rest :], vector[size - rest :])


def is_large(array: Any) -> bool:
    """Whether an array is a constant that is worth holding."""
    return isinstance(array, np.ndarray) and array.size >= LARGE and not is_sharded()
