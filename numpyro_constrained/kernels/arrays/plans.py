"""Plan arrays as NumPy constants, made once per plan and type."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jax import Array

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.plan import FiberPlan, FixedVariables
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis
from constrained_core.groups import GroupSum
from constrained_core.linear.plan import Plan

__all__ = ["AnyPlan", "plan_index", "plan_tensor"]

AnyPlan = Plan | FiberPlan | FixedVariables | DisjointGroups | Trellis | TwoWayTable | GroupSum

_ARRAYS: WeakKeyDictionary[AnyPlan, dict[tuple, np.ndarray]] = WeakKeyDictionary()


def plan_tensor(plan: AnyPlan, name: str, like: Array, dtype: Any = None) -> np.ndarray:
    """The plan's array ``name`` in the dtype of ``like`` unless another is given."""
    return _array(plan, name, np.dtype(dtype or like.dtype))


def plan_index(plan: AnyPlan, name: str) -> np.ndarray:
    """The plan's array ``name`` as an index, in 32 bits: JAX has no others unless told to."""
    return _array(plan, name, np.dtype(np.int32))


def _array(plan: AnyPlan, name: str, dtype: np.dtype) -> np.ndarray:
    arrays = _ARRAYS.setdefault(plan, {})
    key = name, dtype
    if key not in arrays:
        arrays[key] = np.asarray(getattr(plan, name), dtype=dtype)
    return arrays[key]
