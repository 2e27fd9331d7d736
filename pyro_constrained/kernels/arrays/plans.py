"""Plan arrays as tensors, made once per plan, type and device."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.plan import FiberPlan, FixedVariables
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis
from constrained_core.groups import GroupSum
from constrained_core.linear.plan import Plan
from pyro_constrained.kernels.arrays.compiled import kept_by_a_graph
from pyro_constrained.kernels.arrays.inspection import outside_transforms

__all__ = ["AnyPlan", "plan_tensor"]

AnyPlan = Plan | FiberPlan | FixedVariables | DisjointGroups | Trellis | TwoWayTable | GroupSum

_TENSORS: WeakKeyDictionary[AnyPlan, dict[tuple, Tensor]] = WeakKeyDictionary()


def plan_tensor(plan: AnyPlan, name: str, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The plan's array ``name`` on the device of ``like``, in its dtype unless another is given."""
    return _kept(plan, name, dtype or like.dtype, like.device)


@kept_by_a_graph
def _kept(plan: AnyPlan, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    tensors = _TENSORS.setdefault(plan, {})
    key = name, dtype, device
    if key not in tensors:
        # What is kept serves every later law, also one that is trained; an export sees constants.
        with outside_transforms():
            tensors[key] = torch.tensor(getattr(plan, name), dtype=dtype, device=device)
    return tensors[key]
