"""Tensors that may be changed in place, or learned, while something that was made of them before is
still in use."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from constrained_core.checks.laws import changed_in_place, made_without_gradient
from constrained_core.sparse import SparseMatrix

__all__ = ["Unchanged", "count_step", "detached", "note_step"]

_STEPS: dict[int, int] = {}
"""How many steps of optimisers the data at an address have seen. Fused optimisers, and those that
write to ``parameter.data``, as Pyro's own do, change no version."""
_ABOUT_TO_MOVE: dict[int, set[int]] = {}
"""By the number of an optimiser: data that its step begins with a gradient of."""


def note_step(optimizer: Optimizer, arguments: Any, options: Any) -> None:
    """What an optimiser is to call before a step: hooks of its own may clear gradients after it."""
    if not torch.compiler.is_compiling():
        _ABOUT_TO_MOVE[id(optimizer)] = _learned(optimizer)


def count_step(optimizer: Optimizer, arguments: Any, options: Any) -> None:
    """What it is to call after a step."""
    if torch.compiler.is_compiling():
        return
    moved = _ABOUT_TO_MOVE.pop(id(optimizer), set()) | _learned(optimizer)
    is_skipped = getattr(optimizer, "found_inf", None)  # by torch.amp.GradScaler
    if is_skipped is None or not bool(is_skipped):
        for address in moved:
            _STEPS[address] = _STEPS.get(address, 0) + 1


def _learned(optimizer: Optimizer) -> set[int]:
    """Addresses of parameters that have a gradient."""
    groups = optimizer.param_groups
    moved = {_address(one) for group in groups for one in group["params"] if one.grad is not None}
    return moved - {0}


class _Part(NamedTuple):
    """A tensor as it was: its version, where its data are, the steps of optimisers that these have
    seen, and whether its gradient was recorded.

    What else changes the data in place tells none of them: ``tensor.data.copy_(...)``, or the step
    of a fused optimiser inside of ``torch.compile``.
    """

    name: str
    tensor: Tensor
    version: int
    address: int
    steps: int
    is_recorded: bool

    @property
    def is_changed(self) -> bool:
        tensor, address = self.tensor, _address(self.tensor)
        if tensor._version != self.version:
            return True
        if address != self.address:  # by ``tensor.data = ...``, or sent to another process
            return not (tensor.is_cpu and tensor.is_shared())
        return _STEPS.get(address, 0) != self.steps


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
                address, is_recorded = _address(tensor), records and tensor.requires_grad
                state = tensor._version, address, _STEPS.get(address, 0), is_recorded
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
