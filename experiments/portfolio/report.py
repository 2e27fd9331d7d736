"""The table and the figure of the portfolios."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.portfolio.comparison import EQUAL
from experiments.portfolio.settings import Settings
from experiments.record import mean_and_spread, write_table

FORMS = {
    "sharpe before cost": ".3f",
    "sharpe": ".3f",
    "over equal weights": ".3f",
    "return": ".3f",
    "volatility": ".3f",
    "turnover": ".2f",
    "shortest": ".3f",
    "seconds": ".1f",
}
HEADINGS = {
    "sharpe before cost": "Sharpe, no costs",
    "sharpe": "Sharpe",
    "standard error": "its standard error",
    "standard error over": "standard error of that",
    "turnover": "turnover a year",
    "shortest": "least weight",
    "residual": "largest residual",
}
ON_SCREEN = ["Sharpe, no costs", "Sharpe", "over equal weights", "standard error of that"]

NOTE = """\
{seeds} seeds (± is the standard deviation over them), {steps} steps of each of {windows} nets.
Years {first} to {last}: each window of {years} years is traded with a net that learned from the
{training} years before it; decisions every {holding} trading days use returns up to that day.
Sharpe: annualised, daily returns, no interest deducted, after {basis_points:.0f} basis points of
turnover; standard errors by a bootstrap of the days in blocks of {block} (of one run: seeds share
their days). Residual: of the budget and of the weight of each sector. Nothing was tuned. The
shares are of firms that still stood in the index at the end, which flatters all methods alike.
The published Sharpe ratios (1.56 to 1.90) are of other data and cannot be compared."""


def results_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each method."""
    runs = frame.groupby("method", sort=False)
    table = mean_and_spread(frame, "method", FORMS)
    table.insert(2, "standard error", runs["standard error"].mean().map("{:.3f}".format))
    over = runs["standard error over"].mean().map("{:.3f}".format)
    table.insert(4, "standard error over", over)
    table["residual"] = runs["residual"].max().map("{:.0e}".format)
    table.insert(0, "runs", runs.size())
    return table.rename(columns=HEADINGS)


def write_report(folder: Path, name: str, settings: Settings, frame: pd.DataFrame) -> None:
    """Markdown, picture, and the table on the screen."""
    note = NOTE.format(
        seeds=settings.seeds,
        steps=settings.steps,
        windows=len(settings.first_years),
        first=settings.first_years[0],
        last=settings.first_years[-1] + settings.years - 1,
        years=settings.years,
        training=settings.training_years,
        holding=settings.holding_days,
        basis_points=1e4 * settings.cost,
        block=settings.block_days,
    )
    table = results_table(frame)
    write_table(folder / f"{name}.md", "Portfolio", note, table)
    draw(folder / f"{name}.png", frame)
    screen = Table(title="Portfolio")
    for heading in ["method", *ON_SCREEN]:
        screen.add_column(heading)
    for method, cells in zip(table.index, table[ON_SCREEN].to_numpy(), strict=True):
        screen.add_row(method, *map(str, cells))
    Console().print(screen)


def draw(path: Path, frame: pd.DataFrame) -> None:
    """Sharpe ratios: of all years with two standard errors, and of each window."""
    windows = [name for name in frame if name.startswith("sharpe from")]
    figures = ["sharpe", "standard error", "standard error over", *windows]
    means = frame.groupby("method", sort=False)[figures].mean()
    heights = np.arange(len(means))
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.5 + 0.35 * len(means)), sharey=True)
    colours = ["tab:blue" if name.startswith("ours") else "tab:gray" for name in means.index]
    axes[0].barh(heights, means["sharpe"], color=colours)
    axes[0].errorbar(
        means["sharpe"], heights, xerr=2 * means["standard error"], fmt="none", ecolor="black"
    )
    axes[0].set_xlabel("Sharpe ratio after costs, ± 2 standard errors")
    for name in windows:
        axes[1].plot(means[name], heights, "o", label=name.removeprefix("sharpe "))
    axes[1].set_xlabel("Sharpe ratio of each window")
    axes[1].legend()
    axes[0].set_yticks(heights, means.index)
    axes[0].invert_yaxis()
    if EQUAL in means.index:
        axes[0].axvline(means.loc[EQUAL, "sharpe"], color="black", lw=0.8, ls=":")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
