"""Which values Python may look at."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import (  # type: ignore[attr-defined]
    get_unwrapped,
    is_batchedtensor,
    is_dead_tensor_wrapper,
    is_functorch_wrapped_tensor,
    maybe_current_level,
    maybe_get_level,
)
from torch._functorch import eager_transforms
from torch._functorch.pyfunctorch import (
    temporarily_clear_interpreter_stack,
    temporarily_pop_interpreter_stack,
)
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

from pyro_constrained.kernels.arrays.tracing import outside_trace

__all__ = [
    "are_known",
    "are_plain",
    "has_values",
    "host_array",
    "is_backward_mapped",
    "is_constant",
    "is_differentiated",
    "is_forward_twice",
    "is_same_when_traced",
    "is_transformed",
    "is_wrapped",
    "outliving",
    "outside_transforms",
    "unwrapped",
]


def are_known(*tensors: Tensor) -> bool:
    """Whether a decision may depend on the values, now and whenever what is run now runs again.

    Not inside ``torch.compile``, ``torch.export``, ``torch.jit.trace`` and ``torch.func.vmap``.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return all(map(_has_values, tensors))


def has_values(tensor: Tensor) -> bool:
    """Whether there are values at all to look at."""
    if torch.compiler.is_compiling():  # a compiler traces tensors without what ``torch.func`` wraps
        return not isinstance(tensor, FakeTensor)
    return _has_values(tensor)


def _has_values(tensor: Tensor) -> bool:
    while is_functorch_wrapped_tensor(tensor):
        if is_batchedtensor(tensor):
            return False
        tensor = get_unwrapped(tensor)
    return not isinstance(tensor, FakeTensor)


def are_plain(*tensors: Tensor) -> bool:
    """Whether values are known, and nothing differentiates or records what is made of them."""
    if not are_known(*tensors) or forward_ad._current_level >= 0:
        return False
    with_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not (with_gradient or any(map(is_functorch_wrapped_tensor, tensors)))


@contextmanager
def outside_transforms() -> Iterator[None]:
    """What is made here is plain, and can be kept for later laws: whatever runs now."""
    with (
        outside_trace(),
        torch.inference_mode(False),
        _disable_current_modes(),
        temporarily_clear_interpreter_stack(),
    ):
        yield


def host_array(tensor: Tensor) -> np.ndarray:
    """Values that are known, as an array: also inside ``torch.func``, which wraps tensors.

    It may be the memory of the tensor, which moves with it: what is kept is a copy.
    """
    if maybe_current_level() is None:
        return unwrapped(tensor).numpy(force=True)
    with temporarily_clear_interpreter_stack():
        return unwrapped(tensor).numpy(force=True)


def unwrapped(tensor: Tensor) -> Tensor:
    """What ``torch.func`` wraps, if it does: of constants the same, of what is mapped all of it."""
    while is_wrapped(tensor):
        tensor = get_unwrapped(tensor)
    return tensor


def outliving(tensor: Tensor) -> Tensor:
    """What is left of a tensor that was made inside of a transform of ``torch.func``, of which the
    wrapper does not say whether its gradient is recorded."""
    while is_wrapped(tensor) and is_dead_tensor_wrapper(tensor):
        tensor = get_unwrapped(tensor)
    return tensor


def is_wrapped(tensor: Tensor) -> bool:
    """Whether ``torch.func`` wraps the tensor; a compiler traces tensors without."""
    return not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(tensor)


def is_transformed() -> bool:
    """Whether ``torch.func``, or forward mode, runs what runs now: tensors that are made here
    cannot be leaves of a graph, and a detached one forgets how it moves."""
    return maybe_current_level() is not None or forward_ad._current_level >= 0


def is_differentiated(tensor: Tensor) -> bool:
    """Whether a derivative in the tensor may be asked for, in either mode."""
    if tensor.requires_grad or is_wrapped(tensor):
        return True
    return forward_ad._current_level >= 0


def is_forward_twice() -> bool:
    """Whether forward mode is inside of forward mode, in which PyTorch takes what derivatives of
    our own give for constants (https://github.com/pytorch/pytorch/issues/197867)."""
    return eager_transforms.JVP_NESTING > 1


def is_backward_mapped() -> bool:
    """Whether ``torch.autograd`` maps over gradients, for ``is_grads_batched`` or ``vectorize``: by
    a ``vmap`` that knows nothing but PyTorch's own operations."""
    if torch.compiler.is_compiling():
        return False
    level = torch._C._vmapmode_increment_nesting()
    torch._C._vmapmode_decrement_nesting()
    return level > 1


def is_constant(tensor: Tensor) -> bool:
    """Whether nothing differentiates with respect to the tensor, maps over it or traces it: also
    where ``torch.func``, which wraps all that is made inside of it, has wrapped a constant."""
    with ExitStack() as inner_levels:
        while is_wrapped(tensor):
            if is_batchedtensor(tensor):
                return False
            level = maybe_get_level(tensor)  # at which the wrapper tells of its derivatives
            while maybe_current_level() not in (None, level):
                inner_levels.enter_context(temporarily_pop_interpreter_stack())
            if _is_differentiated_here(tensor):
                return False
            tensor = get_unwrapped(tensor)
        while maybe_current_level() is not None:
            inner_levels.enter_context(temporarily_pop_interpreter_stack())
        return not _is_differentiated_here(tensor) and is_same_when_traced(tensor)


def _is_differentiated_here(tensor: Tensor) -> bool:
    """Whether the level that runs now differentiates with respect to the tensor."""
    if tensor.requires_grad or forward_ad._current_level < 0:
        return tensor.requires_grad
    return forward_ad.unpack_dual(tensor, level=0).tangent is not None


def is_same_when_traced(tensor: Tensor) -> bool:
    """Whether nothing that ``torch.jit.trace``, if it runs, will be given again leads to the
    tensor."""
    if not torch.jit.is_tracing():
        return True
    waiting, seen = [torch._C._get_value_trace(tensor)], set[str]()  # type: ignore[attr-defined]
    while waiting:
        value = waiting.pop()
        node = value.node()
        if node.kind() == "prim::Param" or node.isNondeterministic():
            return False
        seen.add(value.debugName())
        waiting += [one for one in node.inputs() if one.debugName() not in seen]
    return True
