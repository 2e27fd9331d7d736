"""Partial charges of small molecules, computed here where the crystals are not at hand."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.charges.crystals import Crystals

__all__ = ["load_molecules"]

BOHR = 0.529177210903
"""Angstrom."""


def load_molecules(count: int, max_atoms: int, cache: Path) -> Crystals:
    """GFN2-xTB charges (Bannwarth, Ehlert and Grimme 2019) of neutral molecules, computed once.

    The molecules are the first ones of RDKit's ``NCI/first_5K.smi`` that are whole, neutral and not
    too large, in a force-field geometry.

    Args:
        count: how many.
        max_atoms: largest size, with hydrogen.
        cache: where to keep them, an archive of NumPy arrays.
    """
    if not cache.exists():
        found = tqdm(islice(_computed(max_atoms), count), total=count, desc="charges of molecules")
        arrays = _joined(list(found))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cache, **arrays)
    with np.load(cache) as data:
        arrays = dict(data)
    symbols = tuple(map(str, arrays.pop("symbols")))
    return Crystals(**arrays, symbols=symbols, source="molecules, GFN2-xTB charges")


Molecule = dict[str, np.ndarray]


def _computed(max_atoms: int) -> Iterator[Molecule]:
    """Molecules, each with its atomic numbers, charges and bonds."""
    from rdkit import Chem, RDConfig, RDLogger
    from rdkit.Chem import AllChem

    RDLogger.DisableLog("rdApp.*")
    with open(Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi") as lines:
        for line in lines:
            molecule = Chem.MolFromSmiles(line.split()[0])
            if molecule is None or "." in line.split()[0] or Chem.GetFormalCharge(molecule):
                continue
            molecule = Chem.AddHs(molecule)
            if molecule.GetNumAtoms() > max_atoms or AllChem.EmbedMolecule(molecule, randomSeed=0):
                continue
            AllChem.UFFOptimizeMolecule(molecule)
            charge = _charges(molecule)
            if charge is not None:
                yield _as_arrays(molecule, charge)


def _charges(molecule: Any) -> np.ndarray | None:
    """``(n,)`` in e; None where the calculation fails."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    positions = molecule.GetConformer().GetPositions()
    calculator = Calculator("GFN2-xTB", numbers, positions / BOHR)
    calculator.set("verbosity", 0)
    try:
        return calculator.singlepoint().get("charges")
    except TBLiteRuntimeError:
        return None


def _as_arrays(molecule: Any, charge: np.ndarray) -> Molecule:
    ends = np.array(
        [[b.GetBeginAtomIdx(), b.GetEndAtomIdx()] for b in molecule.GetBonds()], dtype=int
    ).reshape(-1, 2)
    positions = molecule.GetConformer().GetPositions()
    return {
        "symbol": np.array([atom.GetSymbol() for atom in molecule.GetAtoms()]),
        "charge": charge,
        "ends": ends,
        "length": np.linalg.norm(positions[ends[:, 0]] - positions[ends[:, 1]], axis=-1),
    }


def _joined(molecules: list[Molecule]) -> Molecule:
    """The fields of ``Crystals``."""
    atom_start = np.cumsum([0] + [len(each["charge"]) for each in molecules])
    bond_start = np.cumsum([0] + [len(each["length"]) for each in molecules])
    symbols, element = np.unique(
        np.concatenate([each["symbol"] for each in molecules]), return_inverse=True
    )
    ends = np.concatenate([each["ends"] for each in molecules])
    ends = ends + np.repeat(atom_start[:-1], np.diff(bond_start))[:, None]
    return {
        "atom_start": atom_start,
        "element": element,
        "charge": np.concatenate([each["charge"] for each in molecules]),
        "bond_start": bond_start,
        "bond_from": ends[:, 0],
        "bond_to": ends[:, 1],
        "length": np.concatenate([each["length"] for each in molecules]),
        "symbols": symbols,
    }
