"""Crystals as ragged graphs: atoms with partial charges, bonds with lengths."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Crystals", "load_crystals", "taken", "within"]


@dataclass(frozen=True, eq=False)
class Crystals:
    """C crystals (or molecules), with N atoms and L bonds in all.

    Attributes:
        atom_start: ``(C + 1,)`` crystal c has the atoms ``atom_start[c]:atom_start[c + 1]``.
        element: ``(N,)`` number of the element, as an index into ``symbols``.
        charge: ``(N,)`` partial charges in e, which sum to zero in each crystal.
        bond_start: ``(C + 1,)`` likewise for bonds.
        bond_from, bond_to: ``(L,)`` atoms at the ends, numbered over all crystals; each bond once.
        length: ``(L,)`` bond lengths in angstrom.
        symbols: names of the elements.
        source: what the data are, for the title of the table.
    """

    atom_start: np.ndarray
    element: np.ndarray
    charge: np.ndarray
    bond_start: np.ndarray
    bond_from: np.ndarray
    bond_to: np.ndarray
    length: np.ndarray
    symbols: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.atom_start) - 1

    @property
    def crystal(self) -> np.ndarray:
        """``(N,)`` the crystal of every atom."""
        return np.repeat(np.arange(len(self)), np.diff(self.atom_start))

    def subset(self, chosen: np.ndarray) -> "Crystals":
        """The crystals with these numbers, in this order."""
        atoms, atom_start = taken(self.atom_start, chosen)
        bonds, bond_start = taken(self.bond_start, chosen)
        moved = np.repeat(
            atom_start[:-1] - self.atom_start[chosen], np.diff(self.bond_start)[chosen]
        )
        return Crystals(
            atom_start,
            self.element[atoms],
            self.charge[atoms],
            bond_start,
            self.bond_from[bonds] + moved,
            self.bond_to[bonds] + moved,
            self.length[bonds],
            self.symbols,
            self.source,
        )


def taken(start: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the members of the chosen groups, one group after another, and the new starts.

    Args:
        start: ``(G + 1,)`` group g has the members ``start[g]:start[g + 1]``.
        chosen: ``(H,)`` group numbers.
    """
    sizes = np.diff(start)[chosen]
    new_start = np.concatenate([[0], np.cumsum(sizes)])
    return within(new_start) + np.repeat(start[chosen], sizes), new_start


def within(start: np.ndarray) -> np.ndarray:
    """Place of every member inside its group, 0, 1, ...; ``start`` as in ``taken``."""
    return np.arange(start[-1]) - np.repeat(start[:-1], np.diff(start))


def load_crystals(path: Path) -> Crystals:
    """The metal-organic frameworks of Raza et al. (2020), from an archive of flat arrays."""
    with np.load(path) as data:
        atom_start, bond_start = data["node_ptr"].astype(int), data["edge_ptr"].astype(int)
        first_atom = np.repeat(atom_start[:-1], np.diff(bond_start))
        return Crystals(
            atom_start,
            data["element"].astype(int),
            data["charge"].astype(float),
            bond_start,
            data["edge_src"] + first_atom,
            data["edge_dst"] + first_atom,
            data["edge_length"].astype(float),
            tuple(map(str, data["element_symbol"])),
            "metal-organic frameworks",
        )
