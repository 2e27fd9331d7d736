"""Broadcasting of shapes; NumPy's is many times faster than PyTorch's, and this is called often."""

import torch
from torch import Tensor

from constrained_core.checks import shapes as core_shapes

__all__ = ["broadcast_shapes", "expanded"]


def broadcast_shapes(*shapes: tuple[int, ...]) -> torch.Size:
    """The common shape; ``ValueError`` where there is none."""
    return torch.Size(core_shapes.broadcast_shapes(*shapes))


def expanded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor.expand(shape)``, without a node in the graph where the shape is right already."""
    return tensor if tensor.shape == shape else tensor.expand(shape)
