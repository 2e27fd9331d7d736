"""Parts of groups: of large ones, whose sums are added in turn, as one running sum over many
entries has rounding errors of the size of the total, each; and a few members of each."""

import numpy as np

__all__ = ["FEW", "parts_of_groups", "some_members"]

FEW = 32
"""Entries that are added in any order: rounding errors stay those of few."""
SOME = 4
"""Members of a group that stand for the size of all."""


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


def some_members(index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A few members of every group, from its first to its last.

    Args:
        index: ``(n,)`` the group of every entry.
        size: number of groups.

    Returns:
        ``(SOME, size)`` entries, the same one again where a group has fewer, and ``(size,)``
        whether a group has any.
    """
    counts = np.bincount(index, minlength=size)
    order = np.append(np.argsort(index, kind="stable"), 0).astype(index.dtype)
    within = np.arange(SOME)[:, None] * np.maximum(counts - 1, 0) // (SOME - 1)
    return order[np.cumsum(counts) - counts + within], counts > 0
