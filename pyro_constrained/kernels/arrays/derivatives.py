"""Derivatives that are part of an answer, and can be differentiated again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.inspection import is_transformed, outliving

__all__ = ["jacobian_rows", "outside_inference", "slope_of", "slopes_of"]


@contextmanager
def outside_inference() -> Iterator[None]:
    """Outside of inference mode, of which tensors cannot be differentiated; gradients are on or
    off as they were."""
    is_enabled = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(is_enabled):
        yield


def slope_of(function: Callable[[Tensor], Tensor], at: Tensor, *others: Tensor) -> Tensor:
    """``slopes_of`` one tensor."""
    (slope,) = slopes_of(function, (at,), *others)
    return slope


@outside_graphs  # differentiates, which a compiled graph cannot do twice
def slopes_of(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], *others: Tensor
) -> tuple[Tensor, ...]:
    """Derivatives of the sum of what a function gives.

    Args:
        function: of tensors.
        at: these tensors.
        others: what else the function depends on. If a gradient is asked for in none of them,
            derivatives are constants.
    """
    at, others = tuple(map(outliving, at)), tuple(map(outliving, others))
    if is_transformed():
        places = tuple(range(len(at)))
        return torch.func.grad(lambda *given: function(*given).sum(), places)(*at)
    is_moving = torch.is_grad_enabled() and any(t.requires_grad for t in (*at, *others))
    with torch.inference_mode(False), torch.enable_grad():
        at = tuple(t if is_moving and t.requires_grad else _leaf(t) for t in at)
        total = function(*at).sum()
        return torch.autograd.grad(total, at, create_graph=is_moving, materialize_grads=True)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


@outside_graphs
def jacobian_rows(
    function: Callable[[Tensor], Tensor], at: Tensor, *others: Tensor
) -> list[Tensor]:
    """Derivatives of every entry of the last dimension, each summed over a batch: that of the
    function is that of ``at``. Arguments are as above."""
    at, others = outliving(at), tuple(map(outliving, others))
    if is_transformed():
        found, pulled_back = torch.func.vjp(function, at)[:2]
        unit = torch.eye(found.shape[-1], dtype=found.dtype, device=found.device)
        return [pulled_back(row.expand(found.shape))[0] for row in unit]
    is_moving = torch.is_grad_enabled() and any(t.requires_grad for t in (at, *others))
    with torch.inference_mode(False), torch.enable_grad():
        at = at if is_moving and at.requires_grad else _leaf(at)
        return [
            torch.autograd.grad(figure.sum(), at, retain_graph=True, create_graph=is_moving)[0]
            for figure in function(at).unbind(-1)
        ]
