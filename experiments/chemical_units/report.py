"""The table and the figure of the comparison."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console
from rich.table import Table

from experiments.chemical_units.comparison import PUBLISHED
from experiments.chemical_units.settings import Settings
from experiments.record import mean_and_spread, write_table

UNITS = Settings().units

FORMS = {
    "mse": ".3f",
    "nll": ".2f",
    "crps": ".3f",
    "coverage 50%": ".2f",
    "coverage 90%": ".2f",
    "residual": ".0e",
    "parameters": ".0f",
    "seconds": ".0f",
}
HEADINGS = {
    "mse": "squared error, 1e-4",
    "crps": "CRPS, 1e-3",
    "nll": "NLL",
    "residual": "largest residual",
    "seconds": "seconds, all seeds",
}
ON_SCREEN = ["squared error, 1e-4", "published", "NLL", "coverage 90%"]
SAME_FOR_ALL_SEEDS = ("parameters", "seconds")


def results_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each unit and method: mean ± standard deviation over seeds."""
    frame = frame.assign(mse=1e4 * frame["mse"], crps=1e3 * frame["crps"])
    runs = frame.groupby(["unit", "method"], sort=False)
    table = mean_and_spread(frame, ["unit", "method"], FORMS)
    for name in SAME_FOR_ALL_SEEDS:
        table[name] = runs[name].first().round().astype(int)
    table["residual"] = runs["residual"].max().map("{:.0e}".format)
    published = [published_figure(*line) for line in table.index]
    table.insert(1, "published", published)
    table.insert(0, "seeds", runs.size())
    return table.rename(columns=HEADINGS).reset_index("method")


def published_figure(unit: str, method: str) -> str:
    """What Li et al. report, if anything."""
    return PUBLISHED[method][UNITS.index(unit)] if method in PUBLISHED else ""


def write_report(folder: Path, name: str, note: str, frame: pd.DataFrame) -> None:
    """Markdown, picture, and the table on the screen."""
    table = results_table(frame)
    write_table(folder / f"{name}.md", "Chemical units", note, table)
    draw(folder / f"{name}.png", frame)
    show(table)


def show(table: pd.DataFrame) -> None:
    """Print the columns that fit on a screen."""
    screen = Table(title="Chemical units")
    shown = table[["method", *ON_SCREEN]]
    for heading in [table.index.name, *shown.columns]:
        screen.add_column(str(heading))
    for unit, cells in zip(shown.index, shown.to_numpy(), strict=True):
        screen.add_row(unit, *map(str, cells))
    Console().print(screen)


def draw(path: Path, frame: pd.DataFrame) -> None:
    """Squared errors of all seeds, method by method."""
    units = list(frame["unit"].unique())
    methods = list(frame["method"].unique())
    figure, axes = plt.subplots(1, len(units), figsize=(3 + 3 * len(units), 4.5), squeeze=False)
    for axis, unit in zip(axes[0], units, strict=True):
        draw_unit(axis, frame[frame["unit"] == unit], methods)
        axis.set_title(unit)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    for axis in axes[0, 1:]:
        axis.set_yticks(range(len(methods)), [])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_unit(axis: plt.Axes, frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """One panel: dots are seeds, bars their mean."""
    for height, method in enumerate(methods):
        errors = 1e4 * frame.loc[frame["method"] == method, "mse"].to_numpy()
        if errors.size == 0:
            continue
        colour = "tab:blue" if method.startswith("ours") else "tab:gray"
        axis.plot(errors, np.full(errors.size, height), "o", ms=3, alpha=0.5, color=colour)
        axis.plot(errors.mean(), height, "|", ms=14, mew=2, color=colour)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("squared error x 1e-4")
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)
