"""Prints the molecules of tutorial 07 as they stand in its script.

Needs the extra ``experiments`` (RDKit, tblite):

    python -m tutorials.molecules

The molecules are the first ones of RDKit's ``NCI/first_5K.smi`` that are whole, neutral, made of
H, C, N, O, F, S and Cl, and of at most ``MOST_ATOMS`` atoms with hydrogen; geometries are those of
RDKit's UFF force field, charges those of GFN2-xTB (Bannwarth, Ehlert and Grimme 2019), rounded to
.01 e, which is what a character can say.
"""

import base64
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from rdkit import Chem, RDConfig, RDLogger
from rdkit.Chem import AllChem
from tblite.interface import Calculator

BOHR = 0.529177210903
"""Angstrom."""
LETTERS = {"H": "H", "C": "C", "N": "N", "O": "O", "F": "F", "S": "S", "Cl": "L"}
COUNT, MOST_ATOMS = 48, 12
WIDTH = 98


def candidates() -> Iterator[Chem.Mol]:
    """Molecules with hydrogen and a geometry, each once."""
    seen = set()
    with open(Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi") as lines:
        for line in lines:
            molecule = Chem.MolFromSmiles(line.split()[0])
            if molecule is None or Chem.GetFormalCharge(molecule):
                continue
            smiles, molecule = Chem.MolToSmiles(molecule), Chem.AddHs(molecule)
            symbols = {atom.GetSymbol() for atom in molecule.GetAtoms()}
            is_new = "." not in smiles and smiles not in seen
            is_small = 3 <= molecule.GetNumAtoms() <= MOST_ATOMS
            if is_new and is_small and symbols <= set(LETTERS):
                seen.add(smiles)
                if not AllChem.EmbedMolecule(molecule, randomSeed=0):
                    AllChem.UFFOptimizeMolecule(molecule)
                    yield molecule


def charges(molecule: Chem.Mol) -> np.ndarray:
    """``(n,)`` in .01 e; what rounding leaves of the sum goes to the charges it changed most."""
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    positions = molecule.GetConformer().GetPositions()
    calculator = Calculator("GFN2-xTB", numbers, positions / BOHR)
    calculator.set("verbosity", 0)
    exact = 100 * calculator.singlepoint().get("charges")
    rounded = np.round(exact)
    excess = int(rounded.sum())
    moved = np.argsort((exact - rounded) * np.sign(excess))[: abs(excess)]
    rounded[moved] -= np.sign(excess)
    return rounded.astype(int)


def written(molecule: Chem.Mol) -> str:
    """Elements, ends of the bonds (a is atom 0), charges (d is 0, e .01), on one line."""
    elements = "".join(LETTERS[atom.GetSymbol()] for atom in molecule.GetAtoms())
    ends = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()]
    bonds = "".join(chr(ord("a") + end) for bond in ends for end in bond)
    return f"{elements} {bonds} {''.join(chr(100 + charge) for charge in charges(molecule))}"


def main() -> None:
    RDLogger.DisableLog("rdApp.*")
    text = "\n".join(map(written, islice(candidates(), COUNT)))
    packed = base64.b85encode(zlib.compress(text.encode("latin-1"), 9)).decode()
    for first in range(0, len(packed), WIDTH):
        print(packed[first : first + WIDTH])


if __name__ == "__main__":
    main()
