"""The table and the picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.hierarchy.cases import Case
from experiments.hierarchy.laws import METHODS, Forecast
from experiments.hierarchy.tourism import Hierarchy
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

TITLE = "Hierarchical forecasts as a conditional law"
BASE, BEST = "base forecasts", "ours, full covariance"

FORMS = {
    "crps_total": ".3f",
    "crps_states": ".3f",
    "crps_regions": ".3f",
    "crps": ".3f",
    "error": ".3f",
    "log_score": ".2f",
    "inside_50": ".3f",
    "inside_90": ".3f",
    "incoherence": ".1e",
}

HEADINGS = {
    "crps_total": "CRPS total",
    "crps_states": "CRPS states",
    "crps_regions": "CRPS regions",
    "crps": "CRPS, all",
    "better": "origins better than base",
    "error": "absolute error",
    "log_score": "log score",
    "inside_50": "in 50%",
    "inside_90": "in 90%",
    "incoherence": "incoherence",
    "origins": "origins",
}

NOTE = """\
{origins} origins, horizons of {horizons} quarters, {nodes} nodes; ± is the standard deviation over
origins of their mean over horizons (origins overlap, so that they are not independent).

- CRPS and absolute error: over each node's own mean difference from the quarter a year before,
  lower is better; log score: log density of the {regions} regions together, in nats, higher is
  better; in 50%, in 90%: share of all nodes inside their central intervals.
- split covariance: the correlation between the part of the errors that adds up and the part that
  does not is shrunk by an intensity of its own; with none left, the mean is OLS.
- incoherence: root mean square of sum - parts over draws, in millions of nights.

Ours against MinT as published: means differ by {from_mint:.0e} at most (relative), covariances by
{covariance_from_mint:.0e} of their largest entry. Draws of ours miss a sum by {residual:.0e}
millions at most."""


def report(
    folder: Path, name: str, settings: Any, hierarchy: Hierarchy, runs: pd.DataFrame
) -> None:
    """Write and print the table, draw the picture."""
    table = make_table(runs)
    write_table(folder / f"{name}.md", TITLE, make_note(settings, hierarchy, runs), table)
    print_table(TITLE, table)
    draw(folder / f"{name}.png", hierarchy, runs)


def by_origin(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over horizons."""
    return runs.groupby(["method", "origin"], sort=False).mean(numeric_only=True).reset_index()


def make_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A line for each method."""
    origins = by_origin(runs)
    table = mean_and_spread(origins, "method", FORMS)
    crps = origins.pivot(index="origin", columns="method", values="crps")
    table["better"] = [
        f"{(crps[name] < crps[BASE]).sum()}" if BASE in crps and name != BASE else ""
        for name in table.index
    ]
    table["origins"] = origins.groupby("method", sort=False).size()
    return table[list(HEADINGS)].rename(columns=HEADINGS)


def make_note(settings: Any, hierarchy: Hierarchy, runs: pd.DataFrame) -> str:
    """What was run."""
    names = ("from_mint", "covariance_from_mint", "residual")
    worst = {name: runs[name].max() if name in runs else np.nan for name in names}
    return NOTE.format(
        origins=settings.num_origins,
        horizons=f"{settings.horizons[0]} to {settings.horizons[-1]}",
        nodes=len(hierarchy.summing),
        regions=len(hierarchy.regions),
        **worst,
    )


def draw(path: Path, hierarchy: Hierarchy, runs: pd.DataFrame) -> None:
    """CRPS by level and horizon; the last forecasts of the total."""
    figure = Figure(figsize=(14, 4), dpi=100, layout="constrained")
    *scores, fan = figure.subplots(1, 4)
    for axis, level in zip(scores, hierarchy.levels, strict=True):
        lines = runs.pivot_table(index="horizon", columns="method", values=f"crps_{level}")
        for name in dict.fromkeys(runs["method"]):
            axis.plot(lines.index, lines[name], marker="o", label=name)
        axis.set(title=f"CRPS, {level}", xlabel="quarters ahead", xticks=lines.index)
    scores[0].legend(fontsize=7)
    _draw_fan(fan, hierarchy, sorted(set(runs["horizon"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_fan(axis: Axes, hierarchy: Hierarchy, horizons: Sequence[int]) -> None:
    """90% intervals of the total from the last origin."""
    origin = len(hierarchy.series) - max(horizons)
    cases = [Case.at(hierarchy, origin, horizon) for horizon in horizons]
    ahead = origin + np.array(horizons) - 1
    axis.plot(range(origin - 12, len(hierarchy.series)), hierarchy.series[origin - 12 :, 0], "k.-")
    for shift, name in ((-0.1, BASE), (0.1, BEST)):
        found = [METHODS[name](hierarchy, case.base) for case in cases]
        mean, spread = (np.array(part) for part in zip(*_totals(found), strict=True))
        axis.errorbar(ahead + shift, mean, 1.645 * spread, fmt="o", capsize=3, label=name)
    axis.set(title="total, millions of nights", xlabel="quarter")
    axis.legend(fontsize=7)


def _totals(forecasts: Sequence[Forecast]) -> list[tuple[float, float]]:
    """Mean and standard deviation of the first node."""
    return [(forecast.mean[0], forecast.stddev[0]) for forecast in forecasts]
