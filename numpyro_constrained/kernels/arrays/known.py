"""Values that are constants, though they stand in a trace."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

__all__ = ["seen"]

MAX_OPERATIONS = 1000
MAPPED = ("axis_index", "pvary", "pcast")
"""Operations that say where in a mesh one is."""
OPAQUE = ("jaxpr", "branches", "cond_jaxpr", "call_jaxpr")


def seen(value: Any) -> Any:
    """What a tracer stands for, if it was made from constants only; else what is given.

    Inside ``jax.jit``, ``jnp.array(A)`` of a known A is a tracer. JAX keeps the constant, and the
    operations on it, for the error messages of tracers.
    """
    if not isinstance(value, Tracer):
        return value
    try:
        return np.asarray(_Search().value(value))
    except _Unknown:
        return value


class _Unknown(Exception):
    pass


class _Search:
    """Evaluates the operations that led to a tracer, each once."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        if not isinstance(value, Tracer):
            return value
        lowered = value.full_lower()
        if not isinstance(lowered, Tracer):
            return lowered
        operation = getattr(lowered, "parent", None)
        if operation is None:
            raise _Unknown
        return self._outputs(operation)[self._place(operation, lowered)]

    @staticmethod
    def _place(operation: Any, value: Any) -> int:
        for place, variable in enumerate(operation.outvars):
            if variable is value.val:
                return place
        raise _Unknown

    def _outputs(self, operation: Any) -> list[Any]:
        if id(operation) not in self._found:
            inner = [name for name in OPAQUE if name in operation.params]
            is_call = operation.primitive.name in ("jit", "pjit")
            if operation.primitive.name in MAPPED:
                raise _Unknown
            if operation.effects or (inner and not is_call) or len(self._found) > MAX_OPERATIONS:
                raise _Unknown
            inputs = [self.value(tracer) for tracer in operation.in_tracers]
            with jax.ensure_compile_time_eval():
                outputs = operation.primitive.bind(*inputs, **operation.params)
            is_many = operation.primitive.multiple_results
            self._found[id(operation)] = list(outputs) if is_many else [outputs]
        return self._found[id(operation)]
