"""What a detector tells of an image: the total of its pixels, or the sums of its blocks."""

import numpy as np

from constrained_core import GroupSum

__all__ = ["block_sums"]


def block_sums(side: int, block: int) -> GroupSum:
    """Sums over square blocks of ``side x side`` pixels, row by row; one if block = side.

    Raises:
        ValueError: the blocks do not tile the image.
    """
    if side % block:
        raise ValueError(f"Expected blocks that tile {side} x {side} pixels, got {block} x {block}")
    row, column = np.divmod(np.arange(side * side), side)
    across = side // block
    return GroupSum(index=across * (row // block) + column // block, num_groups=across**2)
