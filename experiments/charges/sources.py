"""The crystals of an experiment, or molecules where the crystals are absent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.charges.crystals import Crystals, load_crystals
from experiments.charges.molecules import load_molecules
from experiments.charges.settings import Settings
from experiments.data import find_data

__all__ = ["load_data"]

DATA_FILE = "mof_charges.npz"
CACHE = Path("outputs") / "experiments"

NO_DATA = f"""\
{DATA_FILE} is not here: charges of molecules are computed instead, in a smaller run of its own.
The original are the 2,266 metal-organic frameworks with DDEC charges of Raza, Sturluson, Simon and
Fern (2020). Save them as flat arrays with numpy.savez (node_ptr, edge_ptr, element, element_symbol,
charge, edge_src, edge_dst, edge_length; see load_crystals in experiments/charges/crystals.py) and
let CONSTRAINED_DATA name the folder."""


def load_data(settings: Settings) -> Crystals:
    """Crystals whose charges sum to zero to the last bits, as many as the settings allow."""
    path = find_data(DATA_FILE)
    if path is None:
        Console().print(NO_DATA, highlight=False, soft_wrap=True)
        count, size = settings.max_molecules, settings.max_atoms
        cache = CACHE / f"molecules_{count}_of_{size}_atoms.npz"
        return neutral(load_molecules(count, size, cache))
    crystals = load_crystals(path)
    return neutral(crystals.subset(np.arange(min(len(crystals), settings.max_crystals))))


def neutral(crystals: Crystals) -> Crystals:
    """The same with rounding errors of the charges removed, evenly over the atoms of a crystal."""
    sizes = np.diff(crystals.atom_start)
    excess = np.add.reduceat(crystals.charge, crystals.atom_start[:-1]) / sizes
    return replace(crystals, charge=crystals.charge - np.repeat(excess, sizes))
