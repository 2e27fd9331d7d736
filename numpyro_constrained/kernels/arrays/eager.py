"""What is computed outside of a trace, where JAX compiles each operation for itself."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # the oldest versions have it here
    from jax.core import get_opaque_trace_state

__all__ = ["as_one", "is_traced"]

Result = TypeVar("Result")

_NO_TRACE = get_opaque_trace_state(convention="nnx")


def is_traced() -> bool:
    """Whether this runs inside a transformation."""
    return bool(get_opaque_trace_state(convention="nnx") != _NO_TRACE)


def as_one(
    function: Callable[..., Result], static_argnums: tuple[int, ...] = ()
) -> Callable[..., Result]:
    """A function of arrays that is compiled as one program outside of a trace, where who tries a
    law waits for each; inside of one it is what it was, since functions within functions take
    longer to trace."""
    compiled = jax.jit(function, static_argnums=static_argnums)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Result:
        return (function if is_traced() else compiled)(*args, **kwargs)

    return run
