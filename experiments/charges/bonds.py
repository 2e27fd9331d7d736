"""Features of bonds: how much longer or shorter than usual they are."""

from dataclasses import dataclass

import numpy as np

from experiments.charges.merging import Classes

__all__ = ["Adjacency", "adjacency_of", "usual_lengths"]

UNIT = 0.06
"""Standard deviation of bond lengths from the median of their pair of elements, in angstrom."""

CLIP = 3.0
"""Deviations are cut off at so many units."""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Sums of bond features between classes, in compressed rows.

    Attributes:
        row_start: ``(M + 1,)`` row i has the entries ``row_start[i]:row_start[i + 1]``.
        column: ``(Q,)`` class at the other end.
        weight: ``(Q, F)`` float32, sums of 1, u and u^2 over the bonds between an atom of the row's
            class and those of the column's, with u the deviation of the length.
    """

    row_start: np.ndarray
    column: np.ndarray
    weight: np.ndarray


def usual_lengths(classes: Classes, known: np.ndarray, num_elements: int) -> np.ndarray:
    """``(E, E)`` median length over bonds of two elements, NaN where there is none.

    Args:
        classes: of all crystals; a class weighs as one atom.
        known: ``(M,)`` which classes may be looked at.
        num_elements: E.
    """
    owner = _owner(classes)
    pair = classes.element[owner] * num_elements + classes.element[classes.neighbour]
    order = np.lexsort([classes.length, pair])
    order = order[known[owner[order]]]
    pairs, first, count = np.unique(pair[order], return_index=True, return_counts=True)
    usual = np.full(num_elements**2, np.nan)
    usual[pairs] = classes.length[order[first + count // 2]]
    usual = usual.reshape(num_elements, num_elements)
    return 0.5 * (usual + usual.T)  # classes may be counted differently from the two ends


def adjacency_of(classes: Classes, usual_length: np.ndarray) -> Adjacency:
    """Features of all bonds, summed over the bonds between two classes."""
    owner, neighbour = _owner(classes), classes.neighbour
    usual = usual_length[classes.element[owner], classes.element[neighbour]]
    deviation = np.nan_to_num(classes.length - usual) / UNIT
    u = np.clip(deviation, -CLIP, CLIP)
    is_new = np.ones(len(owner), dtype=bool)
    is_new[1:] = (np.diff(owner) != 0) | (np.diff(neighbour) != 0)
    first = np.flatnonzero(is_new)
    weight = np.add.reduceat(np.stack([np.ones_like(u), u, u**2], -1), first)
    row_start = np.searchsorted(owner[first], np.arange(len(classes.size) + 1))
    return Adjacency(row_start, neighbour[first], weight.astype(np.float32))


def _owner(classes: Classes) -> np.ndarray:
    """``(B,)`` class that each bond belongs to."""
    return np.repeat(np.arange(len(classes.size)), np.diff(classes.bond_start))
