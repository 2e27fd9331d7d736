"""The methods' errors and densities, and whether their intervals hold what they promise."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from experiments.charges.scoring import LEVELS

__all__ = ["draw"]

SHOWN = {
    "unconstrained": ("fitted", "tab:gray", "-"),
    "projection after training": ("fitted", "tab:brown", "-"),
    "constraint layer": ("fitted", "tab:orange", "-"),
    "ours, expected loss": ("fitted", "tab:green", "-"),
    "ours, likelihood": ("trained", "tab:cyan", "-"),
    "ours, likelihood (Student-t)": ("trained", "tab:blue", "-"),
}
"""Method -> the law whose coverage is drawn, colour, line."""


def draw(path: Path, frame: pd.DataFrame) -> None:
    """Left: error against density, a point per reshuffle. Right: coverage against promise."""
    figure, (scores, coverage) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    _draw_scores(scores, frame)
    _draw_coverage(coverage, frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_scores(axes: Axes, frame: pd.DataFrame) -> None:
    lines = frame[~frame["method"].eq("element mean")].groupby("method", sort=False)
    for number, (name, runs) in enumerate(lines):
        marker = "o" if str(name).startswith("ours") else "x"
        axes.plot(
            1e3 * runs["fitted_mad"],
            runs["fitted_nll"],
            marker,
            color=plt.get_cmap("tab20")(number),
            label=name,
        )
    axes.set(xlabel="mean absolute deviation, 0.001 e", ylabel="NLL per crystal, scales fitted")
    axes.legend(fontsize=7)


def _draw_coverage(axes: Axes, frame: pd.DataFrame) -> None:
    axes.plot([0, 100], [0, 100], color="black", lw=0.8, label="as promised")
    for name, (law, colour, line) in SHOWN.items():
        runs = frame[frame["method"] == name]
        if len(runs):
            shares = [100 * runs[f"{law}_covered_{level}"].mean() for level in LEVELS]
            axes.plot(LEVELS, shares, line, color=colour, marker=".", label=f"{name}, {law}")
    axes.set(xlabel="central interval, %", ylabel="true charges inside, %")
    axes.legend(fontsize=7)
