"""Minibatches of whole crystals, cut from arrays without a loop over crystals or atoms."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from constrained_core import GroupSum
from experiments.charges.bonds import adjacency_of, usual_lengths
from experiments.charges.crystals import Crystals, taken
from experiments.charges.merging import Classes
from rivals.layers_torch import last_of_each_row

__all__ = ["Batch", "Dataset"]


@dataclass(frozen=True, eq=False)
class Batch:
    """G crystals with m classes and a atoms.

    Attributes:
        element: ``(m,)`` int64.
        size: ``(m, 1)`` atoms of a class.
        share: ``(m, 1)`` of the atoms of its crystal.
        owner: ``(m,)`` crystal of every class.
        adjacency: ``(F m, m)`` sparse; block f holds sums of bond feature f over the bonds between
            an atom of the row's class and those of the column's.
        of_atom: ``(a,)`` class of every atom.
        charge: ``(a,)`` float64, e.
        neutral: the constraint that the charges of each crystal sum to zero.
        last: ``(G,)`` last atom of each crystal.
        least_sure: ``(G,)`` atom of each crystal whose element varies most in charge.
    """

    element: Tensor
    size: Tensor
    share: Tensor
    owner: Tensor
    adjacency: Tensor
    of_atom: Tensor
    charge: Tensor
    neutral: GroupSum
    last: Tensor
    least_sure: Tensor


class Dataset:
    """Crystals ready to be cut into batches.

    Args:
        crystals: C crystals.
        classes: their merged atoms.
        training: numbers of the crystals that anything may be learned from.

    Attributes:
        usual_charge: ``(E,)`` mean charge of each element in the training crystals; 0 if none.
        charge_spread: ``(E,)`` standard deviation likewise.
        usual_length: ``(E, E)`` median bond length of two elements likewise, NaN if none.
    """

    def __init__(self, crystals: Crystals, classes: Classes, training: np.ndarray) -> None:
        self.crystals, self.classes = crystals, classes
        known = np.isin(np.arange(len(crystals)), training)
        atoms = known[crystals.crystal]
        element, charge = crystals.element[atoms], crystals.charge[atoms]
        num_elements = len(crystals.symbols)
        count = np.bincount(element, minlength=num_elements).clip(1)
        self.usual_charge = np.bincount(element, charge, minlength=num_elements) / count
        squares = (charge - self.usual_charge[element]) ** 2
        self.charge_spread = np.sqrt(np.bincount(element, squares, num_elements) / count)
        order = np.argsort(self.charge_spread[crystals.element], kind="stable")
        self._least_sure = last_of_each_row(GroupSum(crystals.crystal, len(crystals)), order)
        is_known = np.repeat(known, np.diff(classes.class_start))
        self.usual_length = usual_lengths(classes, is_known, num_elements)
        self.adjacency = adjacency_of(classes, self.usual_length)

    @property
    def num_features(self) -> int:
        """F."""
        return self.adjacency.weight.shape[1]

    def whole(self, chosen: np.ndarray) -> Batch:
        """The crystals with these numbers as one batch."""
        return next(self.batches(chosen, len(chosen)))

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """The crystals with these numbers, in this order, so many at a time."""
        crystals, classes, adjacency = self.crystals, self.classes, self.adjacency
        atoms, atom_start = taken(crystals.atom_start, order)
        nodes, node_start = taken(classes.class_start, order)
        entries, entry_start = taken(adjacency.row_start, nodes)
        moved = node_start[:-1] - classes.class_start[order]
        of_atom = classes.of_atom[atoms] + np.repeat(moved, np.diff(atom_start))
        column = adjacency.column[entries] + np.repeat(moved, np.diff(entry_start[node_start]))
        weight = adjacency.weight[entries]
        crystal = np.repeat(np.arange(len(order)), np.diff(atom_start))
        owner = np.repeat(np.arange(len(order)), np.diff(node_start))
        least_sure = self._least_sure[order] - crystals.atom_start[order] + atom_start[:-1]
        element, size = classes.element[nodes], classes.size[nodes].astype(np.float32)
        share = size / np.diff(atom_start).astype(np.float32)[owner]
        charge = crystals.charge[atoms]
        for first in range(0, len(order), batch_size):
            end = min(first + batch_size, len(order))
            a = slice(atom_start[first], atom_start[end])
            m = slice(node_start[first], node_start[end])
            e = slice(entry_start[m.start], entry_start[m.stop])
            start = entry_start[m.start : m.stop + 1] - e.start
            yield Batch(
                element=torch.from_numpy(element[m]),
                size=torch.from_numpy(size[m])[:, None],
                share=torch.from_numpy(share[m])[:, None],
                owner=torch.from_numpy(owner[m] - first),
                adjacency=_stacked(start, column[e] - m.start, weight[e]),
                of_atom=torch.from_numpy(of_atom[a] - m.start),
                charge=torch.from_numpy(charge[a]),
                neutral=GroupSum(crystal[a] - first, end - first),
                last=torch.from_numpy(atom_start[first + 1 : end + 1] - 1 - a.start),
                least_sure=torch.from_numpy(least_sure[first:end] - a.start),
            )


def _stacked(start: np.ndarray, column: np.ndarray, weight: np.ndarray) -> Tensor:
    """Sparse ``(F m, m)``: a block for each of the F weights of an entry, one under another."""
    num_rows, num_entries, num_blocks = len(start) - 1, len(column), weight.shape[1]
    blocks = np.arange(num_blocks)[:, None]
    starts = np.append((start[:-1] + num_entries * blocks).ravel(), num_blocks * num_entries)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # "in beta state"
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts.astype(np.int32)),
            torch.from_numpy(np.tile(column.astype(np.int32), num_blocks)),
            torch.from_numpy(np.ascontiguousarray(weight.T).ravel()),
            (num_blocks * num_rows, num_rows),
            dtype=torch.float32,
            check_invariants=False,
        )
