"""Atoms that no graph network can tell apart, merged.

Two atoms of a crystal that keep the same colour under colour refinement (Weisfeiler and Leman
1968) get the same output from every message-passing network, however many rounds it has. Such
atoms form classes: all atoms of a class have equally many neighbours in each other class, at equal
(binned) lengths. So a network runs on classes, exactly, and only the law needs all atoms.
"""

from dataclasses import dataclass

import numpy as np

from experiments.charges.crystals import Crystals

__all__ = ["Classes", "merge_atoms"]

_SHIFTS = (30, 27, 31)
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of all crystals, M in all, and the bonds of one atom of each.

    Attributes:
        class_start: ``(C + 1,)`` crystal c has the classes ``class_start[c]:class_start[c + 1]``.
        of_atom: ``(N,)`` class of every atom.
        element: ``(M,)``.
        size: ``(M,)`` number of atoms.
        bond_start: ``(M + 1,)`` an atom of class i has the bonds ``bond_start[i]:...``.
        neighbour: ``(B,)`` class at the other end of the bond, in ascending order for each class.
        length: ``(B,)`` binned length in angstrom.
    """

    class_start: np.ndarray
    of_atom: np.ndarray
    element: np.ndarray
    size: np.ndarray
    bond_start: np.ndarray
    neighbour: np.ndarray
    length: np.ndarray


def merge_atoms(crystals: Crystals, bin_width: float) -> Classes:
    """Merge the atoms of each crystal that colour refinement cannot tell apart.

    Args:
        crystals: the crystals.
        bin_width: lengths are rounded to multiples of this, in angstrom.
    """
    ends = np.concatenate([crystals.bond_to, crystals.bond_from])
    others = np.concatenate([crystals.bond_from, crystals.bond_to])
    bins = np.tile(np.rint(crystals.length / bin_width).astype(np.uint64), 2)
    order = np.argsort(ends, kind="stable")
    others, bins = others[order], bins[order]
    start = np.searchsorted(ends[order], np.arange(len(crystals.element) + 1))
    colour = _stable_colours(crystals, start, others, bins)

    # Classes are numbered by crystal first, so that those of a crystal lie together.
    pairs = np.stack([crystals.crystal.astype(np.uint64), colour])
    _, speaker, of_atom, size = np.unique(
        pairs, axis=1, return_index=True, return_inverse=True, return_counts=True
    )
    counts = np.bincount(crystals.crystal[speaker], minlength=len(crystals))
    degree = np.diff(start)[speaker]
    bond_start = np.concatenate([[0], np.cumsum(degree)])
    bonds = np.arange(bond_start[-1]) + np.repeat(start[speaker] - bond_start[:-1], degree)
    neighbour = of_atom[others[bonds]]
    sorted_bonds = np.lexsort([neighbour, np.repeat(np.arange(len(size)), degree)])
    return Classes(
        np.concatenate([[0], np.cumsum(counts)]),
        of_atom,
        crystals.element[speaker],
        size,
        bond_start,
        neighbour[sorted_bonds],
        bins[bonds][sorted_bonds] * bin_width,
    )


def _stable_colours(
    crystals: Crystals, start: np.ndarray, others: np.ndarray, bins: np.ndarray
) -> np.ndarray:
    """``(N,)`` colours that no further round would split inside a crystal.

    Multisets of neighbours are compared by sums of 64-bit hashes, which wrap around.
    """
    crystal = _scrambled(crystals.crystal.astype(np.uint64) + np.uint64(1))
    bins = _scrambled(bins + np.uint64(0x9E3779B97F4A7C15))
    colour = _scrambled(crystals.element.astype(np.uint64) + np.uint64(1)) + crystal
    count = len(np.unique(colour))
    while True:
        messages = np.concatenate([[np.uint64(0)], _scrambled(colour[others] ^ bins)])
        total = np.cumsum(messages, dtype=np.uint64)
        colour = _scrambled(colour * np.uint64(5) + total[start[1:]] - total[start[:-1]])
        before, count = count, len(np.unique(colour))
        if count == before:
            return colour


def _scrambled(number: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words."""
    number = (number ^ (number >> np.uint64(_SHIFTS[0]))) * np.uint64(_FACTORS[0])
    number = (number ^ (number >> np.uint64(_SHIFTS[1]))) * np.uint64(_FACTORS[1])
    return number ^ (number >> np.uint64(_SHIFTS[2]))
