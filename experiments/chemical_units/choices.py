"""What is chosen, on the validation rows alone: ``python -m experiments.chemical_units.choices``.

One recipe of ours for all units (and one weight of each penalty, where tried), by the geometric
mean over units of the squared error on the validation rows, over a few seeds. The test rows are not
looked at.
A candidate with more than twice the error of another on a unit is not tried on further units.
"""

import sys
from collections.abc import Callable, Sequence

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from experiments.chemical_units.data import Unit, load_unit
from experiments.chemical_units.fitting import fit_mean, mean_squares, predict
from experiments.chemical_units.methods import Method, SemanticLoss, SoftPenalty
from experiments.chemical_units.ours import ExpectedLoss
from experiments.chemical_units.settings import Protocol, Recipe
from experiments.command import parse
from experiments.record import Record, write_table

NAME = "chemical_units_choices"

RECIPES = {
    "no base, C = identity": Recipe("none", "none"),
    "no base, C = outputs": Recipe("none", "outputs"),
    "line, C = identity": Recipe("line", "none"),
    "line, C = outputs": Recipe("line", "outputs"),
    "line of the rest, C = outputs": Recipe("line of the rest", "outputs"),
    "skip, C = outputs": Recipe("none", "outputs", skips=True),
    "line, skip, C = outputs": Recipe("line", "outputs", skips=True),
    "line where it fits, skip, C = outputs": Recipe("line where it fits", "outputs", skips=True),
    "line where it fits to 98%, skip, C = outputs": Recipe(
        "line where it fits", "outputs", skips=True, good_fit=0.98
    ),
}
WEIGHTS = (0.01, 0.1, 1.0)


def candidates() -> dict[tuple[str, str], Callable[[Unit], Method]]:
    """(what is chosen, candidate) -> method on a unit."""
    table: dict[tuple[str, str], Callable[[Unit], Method]] = {}
    for name, recipe in RECIPES.items():
        table["ours", name] = lambda unit, recipe=recipe: ExpectedLoss(unit, recipe=recipe)
    for weight in WEIGHTS:
        name = f"weight {weight:g}"
        table["soft penalty", name] = lambda unit, w=weight: SoftPenalty(unit, weight=w)
        table["semantic loss", name] = lambda unit, w=weight: SemanticLoss(unit, weight=w)
    return table


def fill(record: Record, settings: Protocol, only: str) -> None:
    """Train every candidate that is not there yet."""
    for (choice, name), method_on in candidates().items():
        for unit_name in settings.units:
            key = {"choice": choice, "candidate": name, "unit": unit_name}
            if only not in name or key in record or is_hopeless(record.frame(), choice, name):
                continue
            method = method_on(load_unit(unit_name, settings.max_rows))
            parameters = fit_mean(method, settings, lambda epochs: None)
            rows = method.unit.rows["validation"]
            errors = mean_squares(predict(method, parameters, rows), rows)
            record.add(key, {"error": errors.mean(), "spread": errors.std(ddof=1)})
            print(*key.values(), f"{1e4 * errors.mean():.3f}", flush=True)


def is_hopeless(frame: pd.DataFrame, choice: str, name: str) -> bool:
    """Whether a candidate has more than twice the least error on a unit."""
    if frame.empty:
        return False
    frame = frame[frame["choice"] == choice]
    own = frame[frame["candidate"] == name].set_index("unit")["error"]
    return bool((own > 2 * frame.groupby("unit")["error"].min()[own.index]).any())


def table_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean squared error of each candidate on each unit, x 1e-4, and its geometric mean."""
    table = frame.pivot(index=["choice", "candidate"], columns="unit", values="error") * 1e4
    table["geometric mean"] = np.exp(np.log(table).mean(axis=1, skipna=False))
    return table.sort_values(["choice", "geometric mean"])


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train the candidates and write the table."""
    options = parse(__doc__, argv)
    settings = Protocol().shortened() if options.is_short else Protocol()
    record = options.record(NAME, settings)
    with jax.enable_x64():
        fill(record, settings, options.only)
    table = table_of(record.frame())
    note = (
        f"Mean squared error x 1e-4 on the validation rows, {settings.seeds} seeds, "
        f"{settings.epochs} epochs; the comparison uses the best recipe."
    )
    write_table(
        options.folder / f"{NAME}.md", "Choices of the chemical units", note, table.round(3)
    )
    Console().print(table)
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
