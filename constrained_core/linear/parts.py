"""Parts of large groups, whose sums are added in turn: one running sum over many entries has
rounding errors of the size of the total, each."""

import numpy as np

__all__ = ["FEW", "parts_of_groups"]

FEW = 32
"""Entries that are added in any order: rounding errors stay those of few."""


def parts_of_groups(index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of every entry, of at most ``FEW``, and the group of every part.

    Args:
        index: ``(n,)`` the group of every entry.
        size: number of groups.

    Returns:
        ``(n,)`` and ``(parts,)``, in the order of the groups; None where groups are small.
    """
    counts = np.bincount(index, minlength=size)
    if not len(index) or counts.max() <= FEW:
        return None
    order = np.argsort(index, kind="stable")
    within = np.arange(len(index)) - (np.cumsum(counts) - counts)[index[order]]
    num_parts = (counts + FEW - 1) // FEW
    part = np.empty_like(index)
    part[order] = (np.cumsum(num_parts) - num_parts)[index[order]] + within // FEW
    return part, np.repeat(np.arange(size, dtype=index.dtype), num_parts)
