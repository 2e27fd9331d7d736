"""What users give, as arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.experimental.sparse import JAXSparse

from constrained_core.inputs import read_array, refuse_complex, refuse_sparse
from numpyro_constrained.kernels.arrays.known import seen

__all__ = ["floating", "host_or_traced", "on_host", "refuse_unless_real", "whole_or_floating"]


def host_or_traced(name: str, value: Any) -> Any:
    """A copy of ``value`` as a NumPy array of floats, or the tracer where it has no known value."""
    if isinstance(value, JAXSparse):  # whose parts may be traced
        refuse_sparse(name, type(value).__name__)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        value = seen(jnp.asarray(value))
        if isinstance(value, Tracer):
            refuse_unless_real(name, value)
            return value
    array = on_host(name, value)
    if array.dtype.kind == "f" and array.dtype.itemsize >= 4:
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" else np.float64)


def on_host(name: str, value: Any) -> np.ndarray:
    """A copy of ``value``, which is not traced, as a NumPy array of numbers."""
    if isinstance(value, JAXSparse):
        refuse_sparse(name, type(value).__name__)
    if isinstance(value, jax.Array):
        value = np.asarray(value)
    if getattr(value, "dtype", None) == jnp.bfloat16:
        value = value.astype(np.float32)
    return read_array(name, value)


def refuse_unless_real(name: str, value: Any) -> None:
    """Raise for complex numbers, whose imaginary parts would be lost."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        refuse_complex(name, value.dtype)


def floating(**parameters: Any) -> list[Array]:
    """The parameters, by name, as arrays of one floating dtype, of at least single precision.

    Python numbers and lists take the dtype of the others, with all their digits; arrays and data
    frames have one.
    """
    with jax.ensure_compile_time_eval():  # what is known stays known inside a trace
        arrays = [_as_array(name, parameter) for name, parameter in parameters.items()]
        strong = [
            array
            for array, parameter in zip(arrays, parameters.values(), strict=True)
            if jnp.issubdtype(array.dtype, jnp.floating) and hasattr(parameter, "__array__")
        ]
        dtype = jnp.result_type(*strong) if strong else jnp.result_type(float)
        if jnp.finfo(dtype).bits < 32:
            dtype = jnp.float32
        return [jnp.asarray(array, dtype) for array in arrays]


def whole_or_floating(name: str, value: Any) -> Array:
    """The value as an array of the dtype that it has."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(_as_array(name, value))


def _as_array(name: str, parameter: Any) -> Any:
    if not isinstance(parameter, jax.Array):
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(parameter)):
            return on_host(name, parameter)
        parameter = jnp.asarray(parameter)
    refuse_unless_real(name, parameter)
    return parameter
