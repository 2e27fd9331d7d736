"""Tensors that may be changed in place while something that was made of them is still in use."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["Unchanged"]


class Unchanged:
    """Tensors by name, as they are now. A copy of it, or one unpickled, is of its own tensors."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        # A compiled step makes its laws anew; tensors of inference mode count no changes.
        is_compiling = torch.compiler.is_compiling()
        counted = {} if is_compiling else {n: t for n, t in tensors.items() if not t.is_inference()}
        self._tensors = counted
        self._versions = [tensor._version for tensor in counted.values()]

    def changed(self) -> str | None:
        """The name of the first that was changed since; None if none was."""
        for (name, tensor), version in zip(self._tensors.items(), self._versions, strict=True):
            if tensor._version != version:
                return name
        return None

    def __reduce__(self) -> Any:
        return Unchanged, (self._tensors,)
