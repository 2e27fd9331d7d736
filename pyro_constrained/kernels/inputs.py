"""What users give, as tensors."""

from typing import Any

import torch
from torch import Tensor

from constrained_core.groups import GroupSum
from constrained_core.inputs import read_array, refuse_complex, refuse_sparse

__all__ = ["as_tensor", "read_matrix"]


def read_matrix(A: Any, device: torch.device) -> Tensor | GroupSum:
    """A as a floating tensor, or a ``GroupSum``."""
    if isinstance(A, GroupSum):
        return A
    A = as_tensor("A", A, device)
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
    return value if device is None else value.to(device)
