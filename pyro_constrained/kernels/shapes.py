"""Broadcasting of shapes; NumPy's is many times faster than PyTorch's, and this is called often."""

import numpy as np
import torch

__all__ = ["broadcast_shapes"]


def broadcast_shapes(*shapes: tuple[int, ...]) -> torch.Size:
    """The common shape; ``ValueError`` where there is none."""
    if all(shape == shapes[0] for shape in shapes):
        return torch.Size(shapes[0])
    return torch.Size(np.broadcast_shapes(*shapes))
