"""Tensors that may be changed in place, or learned, while something that was made of them before is
still in use."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from constrained_core.checks.laws import changed_in_place, made_without_gradient
from constrained_core.sparse import SparseMatrix

__all__ = ["Unchanged", "count_step", "detached"]


_STEPS = WeakIdKeyDictionary()
"""How many steps of optimisers a parameter that something was made of has seen. Fused optimisers,
and those that write to ``parameter.data``, as Pyro's own do, change no version."""


def count_step(optimizer: Optimizer, arguments: Any, options: Any) -> None:
    """What an optimiser is to call after a step."""
    if torch.compiler.is_compiling() or not _STEPS:  # a compiled step tells versions
        return
    groups = optimizer.param_groups
    moved = {id(one) for group in groups for one in group["params"] if one.grad is not None}
    for parameter in list(_STEPS):
        if id(parameter) in moved:
            _STEPS[parameter] += 1


def _steps_of(tensor: Tensor) -> int:
    """How many there were; from now on they are counted."""
    parameter = tensor if tensor._base is None else tensor._base
    if not (parameter.is_leaf and parameter.requires_grad):
        return 0
    return _STEPS.setdefault(parameter, 0)


class _Part(NamedTuple):
    """A tensor as it was: its version, the steps of optimisers that it has seen, where its data
    are, and whether its gradient was recorded.

    What else changes the data in place, ``tensor.data.copy_(...)``, tells none of them.
    """

    name: str
    tensor: Tensor
    version: int
    steps: int
    address: int
    is_recorded: bool

    @property
    def is_changed(self) -> bool:
        tensor = self.tensor
        if tensor._version != self.version or _steps_of(tensor) != self.steps:
            return True
        # ``tensor.data = ...``, unless the same data were sent to another process.
        return _address(tensor) != self.address and not (tensor.is_cpu and tensor.is_shared())


def _address(tensor: Tensor) -> int:
    """Of what a view is of; 0 where a tensor has no storage, inside of ``torch.func``."""
    base = tensor._base
    try:
        return (tensor if base is None else base).data_ptr()
    except RuntimeError:
        return 0


class Unchanged:
    """What something was made of, as it is now: tensors and values of sparse matrices, by name, and
    what another thing was made of."""

    def __init__(self, parts: dict[str, Any], other: "Unchanged | None" = None) -> None:
        self._as_made: list[_Part] = [] if other is None else [*other._as_made]
        if torch.compiler.is_compiling():  # a compiled step makes its laws anew
            return
        records = torch.is_grad_enabled()
        for name, part in parts.items():
            tensor = part.values if isinstance(part, SparseMatrix) else part
            # Tensors of inference mode count no changes.
            if isinstance(tensor, Tensor) and not tensor.is_inference():
                is_recorded = records and tensor.requires_grad
                state = tensor._version, _steps_of(tensor), _address(tensor), is_recorded
                self._as_made.append(_Part(name, tensor, *state))

    def require(self, owner: object) -> None:
        """
        Raises:
            ConstraintError: a tensor was changed since, or has a gradient that is recorded now and
                was not when the owner was made, so that answers would have a part of it.
        """
        # In a compiler tensors have no versions or places of theirs.
        is_compiling, records = torch.compiler.is_compiling(), torch.is_grad_enabled()
        for part in self._as_made:
            if not is_compiling and part.is_changed:
                raise changed_in_place(type(owner).__name__, part.name)
            if records and not part.is_recorded and part.tensor.requires_grad:
                raise made_without_gradient(type(owner).__name__, part.name)

    @property
    def has_whole_gradient(self) -> bool:
        """Whether that of each tensor that has one was recorded."""
        for part in self._as_made:
            if not part.is_recorded and part.tensor.requires_grad:
                return False
        return True

    def without_gradient(self) -> "Unchanged":
        """The same, of which no gradient is recorded."""
        new = Unchanged({})
        new._as_made = [part._replace(is_recorded=False) for part in self._as_made]
        return new

    def __reduce__(self) -> Any:
        return _copied, ({part.name: part.tensor for part in self._as_made},)


def _copied(parts: dict[str, Tensor]) -> Unchanged:
    """Of the tensors of the copy: of how things are made of them nothing is recorded."""
    return Unchanged(parts).without_gradient()


def detached(part: Any) -> Any:
    """A part of something that was copied, which has lost how its answers were made of the part:
    without a gradient, but for a parameter, which may be learned by what else was copied."""
    values = part.values if isinstance(part, SparseMatrix) else part
    if not isinstance(values, Tensor) or isinstance(values, nn.Parameter):
        return part
    if not values.requires_grad:
        return part
    return part.with_values(values.detach()) if isinstance(part, SparseMatrix) else values.detach()
