"""Surrogates of three chemical units under mass balances: ``python -m experiments.chemical_units``.

Every method is trained by the published protocol, ten seeds side by side, and scored on the last
epoch. What had to be chosen was chosen on the validation rows (choices.py).
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import product

import jax
import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.chemical_units.comparison import CHOSEN, METHODS
from experiments.chemical_units.data import load_unit
from experiments.chemical_units.fitting import Advance, fit_mean, fit_spread, num_parameters
from experiments.chemical_units.methods import Method
from experiments.chemical_units.ours import SPREAD
from experiments.chemical_units.report import UNITS, write_report
from experiments.chemical_units.scoring import forecasts, score
from experiments.chemical_units.settings import Settings
from experiments.command import parse
from experiments.record import Record

NAME = "chemical_units"

NOTE = """\
{seeds} seeds (± is the standard deviation over them), {epochs} epochs; {max_rows} rows. Squared
error: mean over the test rows and all outputs, each over its largest absolute value, last epoch,
as published; all but the published column was run here. NLL: of a row, with respect to Hausdorff
measure on the law, so that methods that break it have none. Largest residual: |A z - k| with rows
of A of length 1, float64. Methods that learn no spread get a constant covariance of errors from
the validation rows; the same rows set the size of the spreads that are learned."""


def train_and_score(method: Method, settings: Settings, advance: Advance) -> list[dict[str, float]]:
    """Figures of merit of every seed."""
    start = time.perf_counter()
    parameters = fit_mean(method, settings, advance)
    parameters = fit_spread(method, parameters, settings, advance)
    seconds = time.perf_counter() - start
    common = {"parameters": num_parameters(method), "seconds": seconds}
    rows, A = method.unit.rows["test"], method.unit.A
    return [score(forecast, rows, A) | common for forecast in forecasts(method, parameters)]


def run_missing(record: Record, settings: Settings, names: Sequence[str]) -> None:
    """Run the methods on the units where the record has no outcome yet."""
    columns = [TextColumn("{task.description:<50}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn()) as progress:
        for unit_name, name in product(settings.units, names):
            shared = {"unit": unit_name, "method": name, "chosen": CHOSEN.get(name, "")}
            keys = [{**shared, "seed": seed} for seed in range(settings.seeds)]
            if all(key in record for key in keys):
                continue
            method = METHODS[name](load_unit(unit_name, settings.max_rows), settings)
            epochs = settings.epochs + settings.spread_epochs * (SPREAD in method.heads())
            bar = progress.add_task(f"{unit_name}: {name}", total=epochs)
            outcomes = train_and_score(method, settings, partial(progress.advance, bar))
            for key, outcome in zip(keys, outcomes, strict=True):
                if key not in record:
                    record.add(key, outcome)


def up_to_date(frame: pd.DataFrame) -> pd.DataFrame:
    """Only the runs with what is chosen now, in the order of the table."""
    frame = frame[frame["chosen"] == frame["method"].map(CHOSEN).fillna("")]
    order = {name: place for place, name in enumerate([*UNITS, *METHODS])}
    return frame.sort_values(["unit", "method", "seed"], key=lambda part: part.replace(order))


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing, write the table and the figure; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    with jax.enable_x64():
        run_missing(record, settings, options.chosen(list(METHODS)))
    note = NOTE.format(
        seeds=settings.seeds, epochs=settings.epochs, max_rows=settings.max_rows or "all"
    )
    frame = up_to_date(record.frame())
    write_report(options.folder, NAME, note, frame)
    return frame


if __name__ == "__main__":
    main(sys.argv[1:])
