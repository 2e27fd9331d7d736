"""The table and the picture of the comparison."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.record import mean_and_spread, write_table
from experiments.show import print_table
from experiments.vae.comparison import METHODS
from experiments.vae.settings import Settings

FORMS = {
    "log likelihood": ".1f",
    "elbo": ".1f",
    "reconstruction": ".4f",
    "fid": ".2f",
    "precision": ".2f",
    "recall": ".2f",
    "density": ".2f",
    "coverage": ".2f",
    "agreement": ".2f",
}
HEADINGS = {
    "elbo": "ELBO",
    "reconstruction": "reconstruction error",
    "fid": "FID",
    "violation": "largest violation",
    "agreement": "class agreement",
    "ratio": "time over plain",
}
ON_SCREEN = ["log likelihood", "reconstruction error", "largest violation", "FID", "coverage"]
SUMMARISED = ["log likelihood", "FID"]
LINE = ["set", "law", "method"]

NOTE = """\
{seeds} seeds (± is the standard deviation over them), {steps} steps of batches of {batch_size}.
Law: what is given of each image and shown to every net, sums of blocks of 4 x 4 pixels (4 of the
digits of scikit-learn, 16 of the other sets) or the total. Log-likelihood: nats per image, of
{scored_images} held-out images (digits with noise, in [0, 1)), given the law, with respect to
Hausdorff measure on the subspace A x = k; importance weighted, {encoder_draws} codes per image.
Laws that break it ("plain", "soft penalty", "semantic loss") are conditioned afterwards, log p(x) -
log p(A x = k) - 1/2 log det A A', the second term from {both_draws} codes; that flatters them, if
anything. "Likelihood and constraint" has the nets of the plain VAE and draws pixels given A x = k;
"joint start" learns as the plain VAE in its first {joint_steps} steps. ELBO: with the mean of logs.
Methods trained by squared error ("pathwise", "marginal expectation", "expected loss") learn no
scale of use; theirs was fitted by likelihood afterwards around the same mean, {spread_steps} steps,
all else held fast, and is what images are drawn with. Reconstruction error: root mean square, of
the mean at the mean code. Violation: |A x - k|, the largest of {test_images} images (at most) drawn
from the prior, one for the k of each test image; the same are scored by FID, precision, recall,
density and coverage, on the 32 features of a small classifier. Class agreement: how often it finds
the image in the class of the one whose k was given. Time: of a training step over the plain VAE of
the same family, methods in turns, median.
Nets: single precision."""


def results_table(frame: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """A line for each set, law and method."""
    known = in_order(frame)
    table = mean_and_spread(known, LINE, FORMS)
    runs = known.groupby(LINE, sort=False)
    table.insert(3, "violation", runs["violation"].max().map("{:.0e}".format))
    if len(times):
        table["ratio"] = times.set_index(LINE)["ratio"].map("{:.2f}".format)
    table.insert(0, "seeds", runs.size())
    return table.fillna("").rename(columns=HEADINGS)


def summary_table(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each figure and method, a column for each set and law.

    Args:
        table: what ``results_table`` gives.
    """
    parts = {name: table[name].unstack(["set", "law"], sort=False) for name in SUMMARISED}
    summary = pd.concat(parts, names=["figure"]).fillna("")
    return summary.set_axis([", ".join(case) for case in summary.columns], axis=1)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sets and laws as they were run, methods as they are listed."""
    cases = dict.fromkeys(zip(frame["law"], frame["set"], strict=True))
    listed = {case: place for place, case in enumerate((*cases, *METHODS))}
    places = [
        (listed[law, images], listed[method])
        for law, images, method in frame[["law", "set", "method"]].itertuples(index=False)
    ]
    return frame.iloc[sorted(range(len(frame)), key=places.__getitem__)]


def write_report(
    folder: Path, name: str, settings: Settings, frame: pd.DataFrame, times: pd.DataFrame
) -> None:
    """Markdown, picture, and the table on the screen."""
    note = NOTE.format(**vars(settings), both_draws=settings.encoder_draws + settings.prior_draws)
    table = results_table(frame, times)
    write_table(folder / f"{name}.md", "Image VAEs", note, table)
    write_table(folder / f"{name}_summary.md", "Image VAEs", note, summary_table(table))
    draw(folder / f"{name}.png", frame)
    print_table("Image VAEs", table[ON_SCREEN])


def draw(path: Path, frame: pd.DataFrame) -> None:
    """Log-likelihood and Frechet distance of all seeds: a row of panels each."""
    cases = list(dict.fromkeys(zip(frame["set"], frame["law"], strict=True)))
    methods = [name for name in METHODS if name in set(frame["method"])]
    figures = {"log likelihood": "log-likelihood, nats", "fid": "FID"}
    figure, axes = plt.subplots(
        2, len(cases), figsize=(3 + 2.4 * len(cases), 8), squeeze=False, sharey=True
    )
    for column, (images, law) in enumerate(cases):
        part = frame[(frame["set"] == images) & (frame["law"] == law)]
        for row, (name, label) in enumerate(figures.items()):
            draw_figure(axes[row, column], part, name, methods)
            axes[row, column].set_xlabel(label)
        axes[0, column].set_title(f"{images}, {law}", fontsize=10)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_figure(axis: plt.Axes, frame: pd.DataFrame, name: str, methods: Sequence[str]) -> None:
    """One panel: dots are seeds, bars their mean."""
    for height, method in enumerate(methods):
        values = frame.loc[frame["method"] == method, name].to_numpy()
        colour = "tab:blue" if "ours" in method else "tab:gray"
        axis.plot(values, np.full(values.size, height), "o", ms=3, alpha=0.5, color=colour)
        if values.size:
            axis.plot(values.mean(), height, "|", ms=12, mew=2, color=colour)
    axis.grid(axis="x", alpha=0.3)
