"""Tensors that may be changed in place while something that was made of them is still in use."""

from typing import Any

import torch
from torch import Tensor

from constrained_core.checks.laws import changed_in_place
from constrained_core.sparse import SparseMatrix

__all__ = ["Unchanged"]


class Unchanged:
    """What something was made of, as it is now: tensors and values of sparse matrices, by name, and
    what another thing was made of. A copy of it, or one unpickled, is of its own tensors."""

    def __init__(self, parts: dict[str, Any], other: "Unchanged | None" = None) -> None:
        self._as_made: list[tuple[str, Tensor, int]] = [] if other is None else [*other._as_made]
        if torch.compiler.is_compiling():  # a compiled step makes its laws anew
            return
        for name, part in parts.items():
            tensor = part.values if isinstance(part, SparseMatrix) else part
            # Tensors of inference mode count no changes.
            if isinstance(tensor, Tensor) and not tensor.is_inference():
                self._as_made.append((name, tensor, tensor._version))

    def require(self, owner: object) -> None:
        """
        Raises:
            ConstraintError: a tensor was changed since.
        """
        for name, tensor, version in self._as_made:
            if tensor._version != version:
                raise changed_in_place(type(owner).__name__, name)

    def __reduce__(self) -> Any:
        return Unchanged, ({name: tensor for name, tensor, _ in self._as_made},)
