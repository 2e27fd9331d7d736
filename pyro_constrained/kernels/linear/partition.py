"""The groups of a ``GroupSum``, as blocks of variables."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from constrained_core import GroupSum
from pyro_constrained.kernels.arrays.groups import Groups, plan_groups
from pyro_constrained.kernels.arrays.plans import plan_tensor

__all__ = ["Partition"]


@dataclass(frozen=True, eq=False)
class Partition:
    """Every variable in its group, in a row or not.

    Attributes:
        groups: the m groups.
        unit_weights: ``(n,)`` of the rows scaled to length one.
        rank: ``(m,)`` 1 for a group with a row, else 0.
        free_size: ``(m,)`` dimension of the subspace of each group.
        log_norms: ``(m,)`` logarithms of the lengths of the rows, 0 for none.
    """

    groups: Groups
    unit_weights: Tensor
    rank: Tensor
    free_size: Tensor
    log_norms: Tensor

    @classmethod
    def of(cls, A: GroupSum, like: Tensor) -> "Partition":
        """That of a ``GroupSum``, in the dtype and on the device of ``like``."""
        has_row = A.norms > 0
        return cls(
            plan_groups(A, "index", A.num_groups, like),
            plan_tensor(A, "unit_weights", like),
            torch.from_numpy(has_row).to(like),
            torch.from_numpy(A.sizes - has_row).to(like),
            torch.from_numpy(np.log(np.where(has_row, A.norms, 1.0))).to(like),
        )
