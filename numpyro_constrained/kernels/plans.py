"""Plan arrays as NumPy constants, made once per plan and type."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jax import Array

from constrained_core.plan import Plan

__all__ = ["plan_tensor"]

_ARRAYS: WeakKeyDictionary[Plan, dict[tuple, np.ndarray]] = WeakKeyDictionary()


def plan_tensor(plan: Plan, name: str, like: Array, dtype: Any = None) -> np.ndarray:
    """The plan's array ``name`` in the dtype of ``like`` unless another is given."""
    arrays = _ARRAYS.setdefault(plan, {})
    key = name, np.dtype(dtype or like.dtype)
    if key not in arrays:
        arrays[key] = np.asarray(getattr(plan, name), dtype=key[1])
    return arrays[key]
