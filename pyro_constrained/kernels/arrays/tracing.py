"""``torch.jit.trace`` warns of every value that Python sees; what laws look at is constant."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

__all__ = ["constant", "outside_trace", "quiet_under_trace"]


def constant(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function as one that no derivative sees: ``no_grad`` alone is lost in a trace."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Tensor:
        with torch.set_grad_enabled(False):  # no_grad does it in twice the time
            return function(*args, **kwargs).detach()

    return run


def quiet_under_trace(function: Callable) -> Callable:
    """The function without these warnings; as it is outside ``torch.jit.trace``."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.jit.is_tracing():
            return function(*args, **kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            return function(*args, **kwargs)

    return run


@contextmanager
def outside_trace() -> Iterator[None]:
    """What is made here is of no ``torch.jit.trace``, in which even a size is a tensor."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # not in the stubs
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
