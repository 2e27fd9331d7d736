"""Laws compute in full precision, whatever ``torch.autocast`` says."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch
from torch.distributions.utils import lazy_property

__all__ = ["full_precision", "in_full_precision"]

DEVICES = ("cpu", "cuda", "xpu", "mps")


def _is_on() -> bool:
    """Whether autocast is on anywhere: one question for most devices, as it is asked often."""
    return torch._C._is_any_autocast_enabled() or torch.is_autocast_enabled("mps")


def full_precision(function: Callable) -> Callable:
    """The function with autocast switched off: in half precision a draw misses ``A x = k``."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not _is_on():
            return function(*args, **kwargs)
        cast = [device for device in DEVICES if torch.is_autocast_enabled(device)]
        with ExitStack() as stack:
            for device in cast:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return run


def in_full_precision(cls: type) -> type:
    """Class decorator: what the class itself defines for users runs so."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__init__", "_call", "_inverse", "_draw"):
            continue
        if isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(full_precision(member.fget), doc=member.__doc__))
        elif isinstance(member, lazy_property):
            setattr(cls, name, type(member)(full_precision(member.wrapped)))
        elif callable(member) and not isinstance(member, type | staticmethod):
            setattr(cls, name, full_precision(member))
    return cls
