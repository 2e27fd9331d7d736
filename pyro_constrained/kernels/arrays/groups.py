"""Sums over groups and their adjoint, each the fast backward pass of the other.

PyTorch differentiates ``index_select`` by ``index_add`` and ``scatter_add`` by ``gather``; the two
fast ones of these four are ``scatter_add`` and ``index_select``. Long vectors on a CPU are summed
by a sparse product, in three quarters of the time of ``scatter_add``, where the members of a group
lie together; where they are all over the vector it would read that in leaps. For short ones all
that takes time is to call derivatives of our own: PyTorch's are faster.
"""

import warnings
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd import forward_ad

from constrained_core.linear.parts import FEW, parts_of_groups
from pyro_constrained.kernels.arrays.functions import are_refused, described
from pyro_constrained.kernels.arrays.inspection import (
    is_wrapped,
    outside_transforms,
    unwrapped,
)
from pyro_constrained.kernels.arrays.long_vectors import LONG
from pyro_constrained.kernels.arrays.plans import AnyPlan, plan_tensor

__all__ = ["Groups", "plan_groups"]


class Groups:
    """The group of every entry of a vector.

    Args:
        index: ``(n,)`` int64, the group of every entry.
        size: number of groups.
    """

    def __init__(self, index: Tensor, size: int) -> None:
        # Derivatives of our own run below a transform of torch.func, where no wrapper is known.
        self.index, self.size, self.num_entries = unwrapped(index), size, int(index.shape[0])
        self._incidence: dict[torch.dtype, Tensor] = {}

    def __reduce__(self) -> tuple:
        return Groups, (self.index, self.size)

    def totals(self, vector: Tensor) -> Tensor:
        """``(..., n)`` to ``(..., size)``: sums over the members of each group."""
        if self._is_short(vector) or are_refused():
            return self.sum(vector)
        return _Totals.apply(vector, self)

    def long_totals(self, vector: Tensor) -> Tensor:
        """``totals`` in parts of few members: one running sum over many has rounding errors of the
        size of the total, each."""
        if self.num_entries <= FEW:
            return self.totals(vector)
        if are_refused():  # no parts can be made here
            return self._high_and_low_totals(vector.double()).to(vector.dtype)
        if self._parts is None:
            return self.totals(vector)
        parts, group_of_part = self._parts
        return group_of_part.long_totals(parts.totals(vector))

    def _high_and_low_totals(self, vector: Tensor) -> Tensor:
        """``totals`` from two sums: the high bits of every entry, all multiples of one number, add
        up without rounding (S. Rump, T. Ogita, S. Oishi, SIAM J. Sci. Comput. 31, 2008); the low
        bits are as small as a rounding error of the total."""
        step = 4 * self.members(self.totals(vector.detach().abs()))
        high = (vector + step) - step
        return self.totals(high) + self.totals(vector - high)

    @cached_property
    def _parts(self) -> "tuple[Groups, Groups] | None":
        """The part of every entry, and the group of every part; None where groups are small."""
        with outside_transforms():  # what is kept serves every later law
            found = parts_of_groups(self.index.numpy(force=True), self.size)
            if found is None:
                return None
            part, of_part = (torch.as_tensor(index, device=self.index.device) for index in found)
            return Groups(part, len(of_part)), Groups(of_part, self.size)

    def members(self, totals: Tensor) -> Tensor:
        """``(..., size)`` to ``(..., n)``: to every entry the figure of its group."""
        if self._is_short(totals) or are_refused():
            return self.pick(totals)
        return _Members.apply(totals, self)

    def _is_short(self, vector: Tensor) -> bool:
        return vector.ndim == 1 and self.num_entries <= LONG

    def pick(self, totals: Tensor) -> Tensor:
        """``members``, differentiated by PyTorch."""
        is_narrow = self.num_entries > LONG and not are_refused()
        return totals.index_select(-1, self._narrow_index if is_narrow else self.index)

    @cached_property
    def _narrow_index(self) -> Tensor:
        """To pick the members of a long vector is to read memory, the index above all."""
        with outside_transforms():  # what is kept serves every later law
            return self.index.int()

    def sum(self, vector: Tensor) -> Tensor:
        """``totals``, differentiated by PyTorch."""
        if self._is_long(vector) and self._is_ordered:
            return self._product(vector)
        totals = vector.new_zeros(vector.shape[:-1] + (self.size,))
        return totals.scatter_add_(-1, self.index.expand(vector.shape), vector)

    @staticmethod
    def _is_long(vector: Tensor) -> bool:
        # Forward mode takes no sparse products, and maps of maps none.
        if are_refused() or forward_ad._current_level >= 0 or is_wrapped(vector):
            return False
        return vector.ndim == 1 and vector.shape[0] > LONG and vector.is_cpu

    @cached_property
    def _is_ordered(self) -> bool:
        return bool((self.index.diff() >= 0).all())

    def _product(self, vector: Tensor) -> Tensor:
        if vector.dtype not in self._incidence:
            self._incidence[vector.dtype] = self._make_incidence(vector.dtype)
        return self._incidence[vector.dtype] @ vector

    def _make_incidence(self, dtype: torch.dtype) -> Tensor:
        columns = torch.argsort(self.index, stable=True).int()
        ends = torch.bincount(self.index, minlength=self.size).cumsum(0).int()
        starts = torch.cat([ends.new_zeros(1), ends])
        ones, shape = ends.new_ones(len(columns), dtype=dtype), (self.size, len(columns))
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.filterwarnings("ignore", message="Sparse")  # "in beta state"
            return torch.sparse_csr_tensor(
                starts, columns, ones, shape, device=ones.device, check_invariants=False
            )


class _Totals(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    @described
    def forward(vector: Tensor, groups: Groups) -> Tensor:
        return groups.sum(vector)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Groups], output: Tensor) -> None:
        ctx.groups = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        return _Members.apply(gradients[0], ctx.groups), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.groups.sum(tangent)


class _Members(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    @described
    def forward(totals: Tensor, groups: Groups) -> Tensor:
        return groups.pick(totals)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Groups], output: Tensor) -> None:
        ctx.groups = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        return _Totals.apply(gradients[0], ctx.groups), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.groups.pick(tangent)


_GROUPS: WeakKeyDictionary[AnyPlan, dict[tuple, Groups]] = WeakKeyDictionary()


def plan_groups(plan: AnyPlan, name: str, size: int, like: Tensor) -> Groups:
    """The groups that the plan's array ``name`` tells, on the device of ``like``; made once."""
    groups = _GROUPS.setdefault(plan, {})
    key = name, like.device
    if key not in groups:
        groups[key] = Groups(plan_tensor(plan, name, like, torch.int64), size)
    return groups[key]
