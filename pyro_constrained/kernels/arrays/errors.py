"""What PyTorch calls an error of values, and where no value can be drawn."""

from typing import Any

import torch
from torch import Tensor

from constrained_core.errors import ConstraintError, ParameterError
from constrained_core.fiber.plan import NO_POINT
from pyro_constrained.kernels.arrays.inspection import (
    is_backward_mapped,
    is_forward_twice,
    unwrapped,
)
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace

__all__ = ["TensorParameterError", "on_host", "require_forward_once", "require_possible"]


class TensorParameterError(ParameterError, torch.linalg.LinAlgError):
    """A ``ParameterError`` that samplers on PyTorch count as a rejected step, as they do a failed
    factorisation of an ordinary law."""


def require_forward_once() -> None:
    """Raise where forward mode is inside of forward mode, for what runs on the host.

    Raises:
        ConstraintError: it is.
    """
    if is_forward_twice():
        raise ConstraintError(
            "expected forward mode once through a sparse law, got jacfwd or jvp inside of another, "
            "where PyTorch takes derivatives of our own for constants; use torch.func.hessian or "
            "jacfwd(jacrev(f))."
        )


def on_host(tensor: Tensor) -> Any:
    """The values as an array, for a function with derivatives of our own that the host computes.

    Raises:
        ConstraintError: ``torch.autograd`` maps over gradients, which are no arrays then.
    """
    if is_backward_mapped():
        raise ConstraintError(
            "expected one gradient at a time through a sparse law, got several at once "
            "(is_grads_batched=True, or vectorize=True of torch.autograd.functional), which "
            "PyTorch maps over its own operations only; use torch.func.jacrev, jacfwd or hessian, "
            "or vectorize=False."
        )
    return tensor.numpy(force=True)


@quiet_under_trace
def require_possible(possible: Tensor) -> None:
    """Raise where the parameters leave no point to draw.

    Raises:
        ParameterError: an entry is false.
    """
    if not bool(unwrapped(possible).all()):  # under vmap, of the whole mapped batch
        raise TensorParameterError(NO_POINT)
