"""The table and the picture."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.gradient_estimators.estimators import ESTIMATORS
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

TITLE = "Gradient estimators of constrained laws"
FORMS = {"bias": ".4f", "variance": ".3f", "error": ".3f", "relative_bias": ".3f"}
HEADINGS = {"relative_bias": "relative bias"}

NOTE = """\
{draws} estimates and {seeds} seeds, each with new parameters and targets. "Losses" is the number of
losses, each of a draw of its own, that one estimate takes. Cosine distances (1 - cosine; 0 is the
same direction, 1 a right angle), lower is better:

- bias: of the mean of all estimates from the exact gradient. From a finite number of estimates an
  unbiased estimator has some as well.
- variance: of single estimates from their own mean, averaged.
- error: of single estimates from the exact gradient, averaged.
- relative bias: |mean of the estimates - gradient| / |gradient|; it sees a wrong length too.

Published for the Gaussian (Li et al., figure, other loss and parameters): marginal expectation is
below constrained reparametrisation (pathwise here) in all but the bias at n = 10. SFESS: Wijk,
Vinuesa and Azizpour (ICLR 2025)."""

STROKES = {1: "-", 2: "--"}
"""Of lines, by the losses that an estimate takes; dotted for more."""


def report(folder: Path, name: str, settings: Any, runs: pd.DataFrame) -> None:
    """Write and print the table, draw the picture."""
    runs = in_order(runs)
    by = ["law", "loss", "n", "estimator", "losses"]
    table = mean_and_spread(runs, by, FORMS).rename(columns=HEADINGS)
    note = NOTE.format(draws=settings.num_draws, seeds=settings.num_seeds)
    write_table(folder / f"{name}.md", TITLE, note, table)
    print_table(TITLE, table)
    draw(folder / f"{name}.png", runs)


def in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Estimators that joined later beside the others of their law and loss; with their "losses"."""
    by = ["law", "loss", "estimator"]
    runs = runs.sort_values(by, key=lambda names: pd.factorize(names)[0])
    pairs = zip(runs["law"], runs["estimator"], strict=True)
    return runs.assign(losses=[ESTIMATORS[law][name].evaluations for law, name in pairs])


def draw(path: Path, runs: pd.DataFrame) -> None:
    """Bias, variance and error over n, one column for each law and loss."""
    columns = runs.groupby(["law", "loss"], sort=False)
    figures = ("bias", "variance", "error")
    colour = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(runs["estimator"]))}
    figure = Figure(figsize=(3.4 * len(columns), 8), dpi=100, layout="constrained")
    grid = figure.subplots(len(figures), len(columns), squeeze=False, sharex=True)
    for axes, ((law, loss), part) in zip(grid.T, columns, strict=True):
        for axis, name in zip(axes, figures, strict=True):
            for (estimator, losses), lines in part.groupby(["estimator", "losses"], sort=False):
                values = lines.groupby("n")[name]
                means = values.mean()
                axis.errorbar(
                    means.index,
                    means,
                    values.std(),
                    capsize=2,
                    linestyle=STROKES.get(losses, ":"),
                    color=colour[estimator],
                    label=estimator,
                )
            axis.set(yscale="log", ylabel=f"{name} (cosine distance)")
        axes[0].set_title(f"{law}, {loss}")
        axes[-1].set_xlabel("n")
    handles = {}
    for axis in grid[0]:
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
