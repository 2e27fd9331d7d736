"""Three process units with their mass balances, split and scaled as published."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.data import find_data

LAWS = {
    "cstr": ([[0, 1, -1], [0, 1, 0]], [[0, -1, 1], [-1, -1, 0]]),
    "plant": ([[1, 1, 1, -1]], [[-1, 0, -1, 0, -1]]),
    "distillation": (
        [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]],
        [[-1, 0, 0, 0, 0, 0, -1, -1, 0, 0], [0, -1, 0, 0, 0, 0, 0, 0, -1, -1]],
    ),
}
"""The mass balances A x + B z = 0 of each unit, as (A, B), in the units of the files."""

NO_DATA = """\
chemical_units/{name}.csv is not here, so made-up rows take its place: the figures mean nothing.
The original is benchmark_*.csv of the KKT-hPINN repository (Chen, Constante Flores and Li 2024).
Save it under that name and let CONSTRAINED_DATA name the folder that holds chemical_units."""

SPLITS = ("train", "validation", "test")


class Rows(NamedTuple):
    """Rows of a unit, scaled.

    Attributes:
        x: ``(rows, p)`` inputs.
        k: ``(rows, m)`` right-hand sides of the law A z = k.
        z: ``(rows, n)`` outputs; they obey the law to rounding.
    """

    x: np.ndarray
    k: np.ndarray
    z: np.ndarray

    def take(self, rows: slice) -> "Rows":
        """Some of the rows."""
        return Rows(*(part[rows] for part in self))


class Unit(NamedTuple):
    """A unit: its law on scaled outputs and its rows.

    Attributes:
        A: ``(m, n)``, rows of length 1.
        row_scale: ``(m,)`` length of each row before; times it, a residual is in the units of the
            file.
        rows: split -> rows.
    """

    name: str
    A: np.ndarray
    row_scale: np.ndarray
    rows: dict[str, Rows]

    @property
    def num_inputs(self) -> int:
        return self.rows["train"].x.shape[1]

    @property
    def num_outputs(self) -> int:
        return self.A.shape[1]


def load_unit(name: str, max_rows: int | None = None) -> Unit:
    """A unit from its file, or made up where there is none.

    As published: each column is divided by its largest absolute value over all rows, and the rows
    are split in their order, 60 / 20 / 20.
    """
    path = find_data(f"chemical_units/{name}.csv")
    table = made_up_table(name) if path is None else pd.read_csv(path).to_numpy()
    if path is None:
        print(NO_DATA.format(name=name))
    on_inputs, on_outputs = (np.array(part, dtype=float) for part in LAWS[name])
    scale = np.abs(table).max(0)
    x, z = np.split(table / scale, [on_inputs.shape[1]], axis=1)
    x_scale, z_scale = np.split(scale, [on_inputs.shape[1]])
    A = on_outputs * z_scale
    row_scale = np.linalg.norm(A, axis=1)
    A = A / row_scale[:, None]
    k = -x @ (on_inputs * x_scale).T / row_scale
    return Unit(name, A, row_scale, split(Rows(x, k, on_the_law(z, A, k)), max_rows))


def on_the_law(z: np.ndarray, A: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The nearest rows that obey the law: the files do to their last printed digit only."""
    return z - (z @ A.T - k) @ np.linalg.pinv(A).T


def split(rows: Rows, max_rows: int | None) -> dict[str, Rows]:
    """60 / 20 / 20 in order, of the first ``max_rows`` rows."""
    rows = rows.take(slice(max_rows))
    held_out = int(0.2 * len(rows.x))
    stops = len(rows.x) - 2 * held_out, len(rows.x) - held_out, len(rows.x)
    starts = 0, *stops[:-1]
    pairs = zip(SPLITS, starts, stops, strict=True)
    return {name: rows.take(slice(start, stop)) for name, start, stop in pairs}


def made_up_table(name: str, num_rows: int = 1500) -> np.ndarray:
    """Smooth outputs of random inputs that obey the law of a unit."""
    on_inputs, on_outputs = (np.array(part, dtype=float) for part in LAWS[name])
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, size=(num_rows, on_inputs.shape[1]))
    weights = rng.normal(size=(on_inputs.shape[1], on_outputs.shape[1]))
    z = 1 + np.tanh(x @ weights)
    return np.hstack([x, on_the_law(z, on_outputs, -x @ on_inputs.T)])
