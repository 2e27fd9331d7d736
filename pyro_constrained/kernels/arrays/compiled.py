"""What a compiled step keeps of A: made when it is compiled, and found by name when it runs.

``torch.compiler`` has these two decorators as well, but imports the compiler for them, which takes
seconds and which most programs never need.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

__all__ = [
    "constant_of_a_graph",
    "kept_by_a_graph",
    "outside_graphs",
    "while_current",
]

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

outside_graphs = torch._disable_dynamo
"""As ``torch.compiler.disable``: a compiled graph ends where this function is called."""


def constant_of_a_graph(function: AnyFunction) -> AnyFunction:
    """As ``torch.compiler.assume_constant_result``: called while a graph is compiled, not later."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class _Constants:
    """An attribute for each: of a dictionary, ``torch.compile`` sees only what is in it when a
    step first looks there."""


_CONSTANTS = _Constants()


def kept_by_a_graph(function: AnyFunction) -> AnyFunction:
    """A function of things that no step changes, as patterns: a compiled step keeps its result."""

    @constant_of_a_graph  # which may return only numbers and names
    def name_of(*args: Any) -> str:
        with _disable_current_modes():  # known numbers, which a recorder would take for its own
            thing = function(*args)
        name = f"constant_{id(thing)}"  # it is kept, so that no other has this number
        setattr(_CONSTANTS, name, thing)
        return name

    @wraps(function)
    def result(*args: Any) -> Any:
        if not torch.compiler.is_compiling():
            return function(*args)
        return getattr(_CONSTANTS, name_of(*args))

    return result  # type: ignore[return-value]


def while_current(is_current: Tensor | None, answer: Tensor) -> Tensor:
    """The answer; NaN, or false, in a compiled step that runs with another A than it kept."""
    if is_current is None:
        return answer
    nothing = False if answer.dtype == torch.bool else torch.nan
    return torch.where(is_current, answer, nothing)
