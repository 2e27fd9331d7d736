"""The table and the picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from experiments.reconciliation import zero_sum
from experiments.reconciliation.water import Water
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

TITLE = "Bayesian data reconciliation with NUTS"

REFERENCES = {"effects": zero_sum.REFERENCE, "water": "variable elimination"}
"""Efficiencies are divided by those of this method, at the same seed."""

GIVEN = {
    ("effects, scale known", zero_sum.REFERENCE): 962,
    ("effects, scale known", "soft penalty, width 0.1"): 725,
    ("effects, scale known", "soft penalty, width 0.01"): 175,
    ("effects, scale known", "soft penalty, width 0.001"): 1,
}
"""Least effective draws per second in an earlier prototype, on another machine and other data."""

FORMS = {
    "min_ess_per_second": ".3g",
    "steps_per_draw": ".0f",
    "step_microseconds": ".0f",
    "compile_seconds": ".1f",
    "rmse": ".3f",
    "coverage": ".3f",
    "distance": ".3f",
    "spread": ".3f",
}
"""Columns with a mean and a standard deviation over seeds."""

HEADINGS = {
    "min_ess_per_second": "min ESS / s",
    "ratio": "over reference",
    "given": "prototype",
    "steps_per_draw": "steps per draw",
    "step_microseconds": "µs per step",
    "compile_seconds": "compile, s",
    "r_hat": "worst R-hat",
    "divergences": "divergences",
    "residual": "worst residual",
    "rmse": "RMSE",
    "coverage": "coverage of 90%",
    "distance": "distance",
    "spread": "spread",
    "runs": "runs",
}

NOTE = """\
{draws} draws in {chains} chains after a warm-up of {warmup} each, one thread, float64; new noise
for each run of water. Chains run one after the other and methods take turns. Seconds are those of
the processor, which other work on the machine stretches little.
Reference: {references}.

- min ESS / s: least effective draws of all velocities (or effects) and scales, per second of
  sampling; compilation and warm-up are not in it. Over reference: median over seeds of the ratio.
- steps, µs: leapfrog steps per draw, and the time of one.
- worst residual: largest |A x - k| of any draw, in L/s for water.
- RMSE: of the posterior mean against the truth, in m/s for water, where the law leaves freedom.
- distance: root mean square of (posterior mean of the chains - exact one) / exact standard
  deviation; {expected:.3f} is what {draws} independent draws would give. spread: mean ratio of
  standard deviations. Of a soft penalty, both also hold what its width changes.

{network}"""


def report(folder: Path, name: str, settings: Any, water: Water, runs: pd.DataFrame) -> None:
    """Write and print the table, draw the picture."""
    table = make_table(runs)
    write_table(folder / f"{name}.md", TITLE, _note(settings, water), table)
    print_table(TITLE, table, width=220)
    draw(folder / f"{name}.png", water, runs)


def make_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A line for each problem and method."""
    groups = runs.groupby(["problem", "method"], sort=False)
    forms = {column: form for column, form in FORMS.items() if column in runs}
    table = mean_and_spread(runs, ["problem", "method"], forms)
    table["ratio"] = [
        f"{ratio:.2f}" for ratio in ratios(runs).groupby(level=[0, 1], sort=False).median()
    ]
    table["given"] = [str(GIVEN.get(line, "")) for line in table.index]
    table["r_hat"] = groups["r_hat"].max().map("{:.3f}".format)
    table["divergences"] = groups["divergences"].sum().map("{:.0f}".format)
    table["residual"] = groups["residual"].max().map("{:.1e}".format)
    table["runs"] = groups.size()
    shown = [column for column in HEADINGS if column in table]
    return table[shown].rename(columns=HEADINGS)


def ratios(runs: pd.DataFrame) -> pd.Series:
    """Efficiency over that of the reference at the same seed, NaN where that has not run."""
    lines = runs.set_index(["problem", "method", "seed"])["min_ess_per_second"]

    def reference(problem: str, seed: int) -> float:
        method = REFERENCES[problem.split(",")[0]]
        return lines.get((problem, method, seed), np.nan)

    return lines / [reference(problem, seed) for problem, _, seed in lines.index]


def _note(settings: Any, water: Water) -> str:
    draws = settings.num_draws * settings.num_chains
    return NOTE.format(
        draws=draws,
        chains=settings.num_chains,
        warmup=settings.num_warmup,
        references=", ".join(f"{method} ({problem})" for problem, method in REFERENCES.items()),
        expected=draws**-0.5,
        network=water.describe(),
    )


def draw(path: Path, water: Water, runs: pd.DataFrame) -> None:
    """Efficiency of all methods; what is known of the network, on its map."""
    figure = Figure(figsize=(15, 4.5), dpi=100, layout="constrained")
    *bars, plan = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 1.3]})
    for axis, problem in zip(bars, ("effects", "water"), strict=True):
        shown = runs[runs["problem"].str.startswith(problem)]
        if len(shown):
            _draw_efficiency(axis, shown)
        axis.set(title=problem, xlabel="least effective draws per second", xscale="log")
    figure.colorbar(_draw_map(plan, water), ax=plan, label="posterior standard deviation, m/s")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_efficiency(axis: Axes, runs: pd.DataFrame) -> None:
    methods = list(dict.fromkeys(runs["method"]))[::-1]
    problems = list(dict.fromkeys(runs["problem"]))
    height = 0.8 / len(problems)
    for i, problem in enumerate(problems):
        lines = runs[runs["problem"] == problem].groupby("method")["min_ess_per_second"].median()
        rows = [methods.index(name) + 0.4 - (i + 0.5) * height for name in lines.index]
        axis.barh(rows, lines, height, label=problem.split(", ")[1])
    axis.set_yticks(range(len(methods)), methods)
    axis.legend()


def _draw_map(axis: Axes, water: Water) -> LineCollection:
    """The hour that is first; thick links have a meter."""
    spread = water.exact(water.known_task, seed=0).stddev[0]
    width = np.where(np.isin(np.arange(len(spread)), water.meters), 4.0, 1.5)
    links = LineCollection(list(water.network.ends), array=spread, linewidths=width, cmap="viridis")
    axis.add_collection(links)
    axis.autoscale()
    axis.set(title="Net3: what is left unknown (thick: a meter)", xticks=[], yticks=[])
    axis.set_aspect("equal")
    return links
