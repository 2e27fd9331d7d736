"""Functions with derivatives of their own."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from pyro_constrained.kernels.arrays.inspection import is_forward_twice

__all__ = ["are_refused", "described"]

Forward = TypeVar("Forward", bound=Callable)


class _InPlace(NamedTuple):
    """Arguments that are where they belong."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = {}

    def apply_defaults(self) -> None:
        """There are none."""


class _Positional(inspect.Signature):
    """A signature without defaults, by which all arguments are given in their order."""

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        return super().bind(*args, **kwargs) if kwargs else _InPlace(args)


def are_refused() -> bool:
    """Whether what records operations for later, or runs them, takes no derivatives of our own."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or is_forward_twice()


def described(forward: Forward) -> Forward:
    """``forward`` of a ``torch.autograd.Function`` without defaults, with its signature at hand.

    PyTorch asks for it and binds arguments to it at every call, which otherwise takes longer than
    a small sum.
    """
    parameters = inspect.signature(forward).parameters.values()
    forward.__signature__ = _Positional(list(parameters))  # type: ignore[attr-defined]
    return forward
