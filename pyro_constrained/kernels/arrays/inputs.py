"""What users give, as tensors."""

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from constrained_core.checks.shapes import check_matrix_shape
from constrained_core.groups import GroupSum
from constrained_core.inputs import read_array, refuse_complex, refuse_sparse

__all__ = ["as_tensor", "cast", "floating", "read_matrix"]


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)``, which takes as long as a small sum where there is nothing to do."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def read_matrix(A: Any, device: torch.device) -> Tensor | GroupSum:
    """A as a floating tensor, or a ``GroupSum``."""
    if isinstance(A, GroupSum):
        return A
    A = as_tensor("A", A, device)
    check_matrix_shape(A.shape)
    if not A.is_floating_point():
        return A.to(torch.float64)
    return A.to(torch.float32) if A.dtype.itemsize < 4 else A


def as_tensor(name: str, value: Any, device: torch.device | None = None) -> Tensor:
    """A tensor as it is; anything else with all its digits, as a copy."""
    if isinstance(value, int | float):
        return torch.tensor(value, dtype=torch.float64, device=device)
    if not isinstance(value, Tensor):
        if torch.compiler.is_compiling():  # traced as a tensor
            dtype = torch.float64 if isinstance(value, list | tuple) else None
            return torch.as_tensor(value, dtype=dtype, device=device)
        return torch.tensor(read_array(name, value), device=device)
    if value.layout != torch.strided:
        refuse_sparse(name, str(value.layout))
    if value.is_complex():
        refuse_complex(name, value.dtype)
    # Also where it is there already: torch.func wraps what this is called on.
    return value if device is None else value.to(device)


def floating(**parameters: Any) -> list[Tensor]:
    """The parameters, by name, as tensors of one floating dtype, of at least single precision.

    Python numbers and lists take the dtype of the others, with all their digits; arrays, data
    frames and tensors have one.
    """
    given = [p for p in parameters.values() if isinstance(p, Tensor)]
    device = given[0].device if given else None
    tensors = [_as_tensor(name, p, device) for name, p in parameters.items()]
    strong = [
        tensor.dtype
        for tensor, parameter in zip(tensors, parameters.values(), strict=True)
        if tensor.is_floating_point() and hasattr(parameter, "__array__")
    ]
    dtype = reduce(torch.promote_types, set(strong)) if strong else torch.get_default_dtype()
    dtype = torch.float32 if dtype.itemsize < 4 else dtype
    return [cast(tensor, dtype) for tensor in tensors]


def _as_tensor(name: str, parameter: Any, device: torch.device | None) -> Tensor:
    tensor = as_tensor(name, parameter)
    return tensor if device is None or isinstance(parameter, Tensor) else tensor.to(device)
