"""Functions with derivatives of their own."""

import inspect
from collections.abc import Callable
from typing import TypeVar

__all__ = ["described"]

Forward = TypeVar("Forward", bound=Callable)


def described(forward: Forward) -> Forward:
    """``forward`` of a ``torch.autograd.Function``, with its signature at hand.

    PyTorch asks for it at every call, and to find it takes longer than a small sum.
    """
    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return forward
