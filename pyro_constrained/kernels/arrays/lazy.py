"""What is made when it is asked for, and kept."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import is_dead_tensor_wrapper, maybe_current_level  # type: ignore[attr-defined]
from torch.autograd.graph import saved_tensors_hooks
from torch.distributions import utils

__all__ = ["lazy_property", "without_asides"]

Value = TypeVar("Value")

_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
"""By what saved tensors are packed now; older versions of PyTorch do not say."""


class _Aside(dict[str, Any]):
    """What was made where later answers cannot have it; a copy of whom it belongs to has none."""

    def __reduce__(self) -> tuple:
        return _Aside, ()


def without_asides(parts: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an instance that one like it may have too."""
    return {name: part for name, part in parts.items() if not isinstance(part, _Aside)}


class lazy_property(utils.lazy_property):  # named as PyTorch's
    """PyTorch's, which switches derivatives on, for later answers that have one.

    That takes a while, also where they are on; and there is nothing to keep for a law that knows a
    part of its gradient alone, or of tensors of inference mode. What is made inside of
    ``torch.func``, which wraps it, is kept as long as the transform runs, beside a tensor that was
    made there too; what is made in inference mode, of which nothing can be differentiated, for
    answers in that mode.
    """

    def __get__(self, instance: Any, obj_type: Any = None) -> Any:
        if instance is not None and _is_inside():
            return self._get_inside(instance)
        if instance is not None and _is_in_inference():
            return self._get_in_inference(instance)
        if instance is None or not (torch.is_grad_enabled() or _has_no_gradient(instance)):
            return super().__get__(instance, obj_type)
        with _kept():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value

    def _get_inside(self, instance: Any) -> Any:
        kept, name = instance.__dict__.setdefault("_inside", _Aside()), self.wrapped.__name__
        if name not in kept or is_dead_tensor_wrapper(kept[name][0]):
            with torch.enable_grad():
                kept[name] = torch.empty(0), self.wrapped(instance)
        return kept[name][1]

    def _get_in_inference(self, instance: Any) -> Any:
        kept, name = instance.__dict__.setdefault("_in_inference", _Aside()), self.wrapped.__name__
        if name not in kept:
            kept[name] = self.wrapped(instance)
        return kept[name]


def _is_inside() -> bool:
    """Whether ``torch.func`` runs what runs now."""
    return not torch.compiler.is_compiling() and maybe_current_level() is not None


def _is_in_inference() -> bool:
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()


def _kept() -> AbstractContextManager:
    """Where something is made that is kept: what makes a part of a program twice instead, as
    ``torch.utils.checkpoint``, finds it there the second time, and packs none of it the first."""
    if torch.compiler.is_compiling() or _top_hooks is None or _top_hooks(False) is None:
        return nullcontext()
    return saved_tensors_hooks(_same, _same)


def _same(value: Value) -> Value:
    return value


def _has_no_gradient(instance: Any) -> bool:
    if not getattr(instance, "_has_whole_gradient", True):
        return True
    if torch.compiler.is_compiling():  # which does not tell what inference mode has made
        return False
    for part in instance.__dict__.values():  # a loop, as a generator takes longer for so few
        if isinstance(part, Tensor) and part.is_inference():
            return True
    return False
