"""What a compiled step keeps of A: made when it is compiled, and found by name when it runs."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["find", "keep", "while_current"]


class _Constants:
    """An attribute for each: of a dictionary, ``torch.compile`` sees only what is in it when a
    step first looks there."""


_CONSTANTS = _Constants()


def keep(thing: Any) -> str:
    """The name of what is made inside of ``torch._dynamo.assume_constant_result``, where only
    numbers and names may be returned."""
    name = f"constant_{id(thing)}"  # it is kept, so that no other has this number
    setattr(_CONSTANTS, name, thing)
    return name


def find(name: str) -> Any:
    """What is kept under this name."""
    return getattr(_CONSTANTS, name)


def while_current(is_current: Tensor | None, answer: Tensor) -> Tensor:
    """The answer; NaN, or false, in a compiled step that runs with another A than it kept."""
    if is_current is None:
        return answer
    nothing = False if answer.dtype == torch.bool else torch.nan
    return torch.where(is_current, answer, nothing)
