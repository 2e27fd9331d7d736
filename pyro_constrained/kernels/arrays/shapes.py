"""Broadcasting of shapes; NumPy's is many times faster than PyTorch's, and this is called often."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["broadcast_shapes", "expanded"]


def broadcast_shapes(*shapes: tuple[int, ...]) -> torch.Size:
    """The common shape; ``ValueError`` where there is none."""
    if all(shape == shapes[0] for shape in shapes):
        return torch.Size(shapes[0])
    return torch.Size(np.broadcast_shapes(*shapes))


def expanded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor.expand(shape)``, without a node in the graph where the shape is right already."""
    return tensor if tensor.shape == shape else tensor.expand(shape)
