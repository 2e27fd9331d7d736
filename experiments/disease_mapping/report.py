"""The table and the maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.disease_mapping.counties import Counties
from experiments.disease_mapping.models import OURS
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

TITLE = "Disease mapping with NUTS"
HEADINGS = {
    "min_ess_per_second": "min ESS / s",
    "ratio": "over ours",
    "steps_per_draw": "steps per draw",
    "step_microseconds": "µs per step",
    "compile_seconds": "compile, s",
    "r_hat": "worst R-hat",
    "divergences": "divergences",
    "sum": "largest sum of phi",
    "sigma": "sigma",
    "share": "share",
    "distance": "distance",
    "runs": "runs",
}
FORMS = {
    "min_ess_per_second": ".3g",
    "steps_per_draw": ".0f",
    "step_microseconds": ".0f",
    "compile_seconds": ".1f",
    "sigma": ".3f",
    "share": ".2f",
    "distance": ".3f",
}
NOTE = """\
Sudden infant deaths in the 100 counties of North Carolina, {deaths:.0f} in 1974-78; BYM2.
{draws} draws in {chains} chains after a warm-up of {warmup} each, one thread, float64. Seconds are
those of the processor, of sampling alone; methods take turns.

- min ESS / s: least effective draws of all log risks and scales per second. Over ours: median over
  seeds of the ratio to "{ours}".
- sigma, share: posterior means.
- distance: root mean square over counties of (posterior mean of the log risk - that of all runs of
  ours together) / posterior standard deviation."""


def report(folder: Path, name: str, settings: Any, counties: Counties, runs: pd.DataFrame) -> None:
    """Write and print the table."""
    groups = runs.groupby("method", sort=False)
    table = mean_and_spread(runs, "method", FORMS)
    lines = runs.set_index(["method", "seed"])["min_ess_per_second"]
    reference = [lines.get((OURS, seed), np.nan) for _, seed in lines.index]
    table["ratio"] = (lines / reference).groupby(level=0, sort=False).median().map("{:.2f}".format)
    table["r_hat"] = groups["r_hat"].max().map("{:.3f}".format)
    table["divergences"] = groups["divergences"].sum().map("{:.0f}".format)
    table["sum"] = groups["sum"].max().map("{:.1e}".format)
    table["runs"] = groups.size()
    table = table[list(HEADINGS)].rename(columns=HEADINGS)
    note = NOTE.format(
        deaths=counties.deaths.sum(),
        draws=settings.num_draws * settings.num_chains,
        chains=settings.num_chains,
        warmup=settings.num_warmup,
        ours=OURS,
    )
    write_table(folder / f"{name}.md", TITLE, note, table)
    print_table(TITLE, table, width=200)


def draw(path: Path, counties: Counties, maps: dict[str, np.ndarray]) -> None:
    """Maps of the counties side by side, each a figure for every county."""
    figure = Figure(figsize=(13, 3.2 * ((len(maps) + 1) // 2)), dpi=100, layout="constrained")
    axes = figure.subplots((len(maps) + 1) // 2, 2).ravel()
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        frame = counties.map.assign(shown=values)
        legend = {"shrink": 0.6}
        frame.plot("shown", ax=axis, cmap="viridis", legend=True, legend_kwds=legend)
        axis.set(title=title)
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
