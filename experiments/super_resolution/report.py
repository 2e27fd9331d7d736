"""The table and the picture."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from experiments.record import mean_and_spread, write_table
from experiments.show import print_table
from experiments.super_resolution.problem import Posterior, Problem
from experiments.super_resolution.settings import Settings

__all__ = ["draw", "score", "write_report"]

TITLE = "Fine images from noisy readings of their block sums"
LEVELS = (0.5, 0.9)
"""Of the intervals whose coverage is counted."""

FORMS = {
    "error": ".4f",
    "in 50%": ".3f",
    "in 90%": ".3f",
    "noise": ".3f",
    "gap": ".3f",
    "mean": ".3f",
    "deviation": ".3f",
}
HEADINGS = {
    "error": "error of the mean",
    "noise": "noise found",
    "gap": "log evidence - bound, nats",
    "mean": "mean off by",
    "deviation": "deviation off by",
    "violation": "largest violation",
}

NOTE = """\
{num_images} test digits of 8 x 8 pixels in [0, 1), block sums of {block} x {block} pixels read with
noise of standard deviation {noise}; {seeds} seeds (± is the standard deviation over them). Error:
root mean square of the posterior mean from the true image. In 50%, 90%: share of true pixels inside
the central intervals of the posterior. Off by: largest difference from the closed form over images
and pixels, of means in posterior standard deviations, of standard deviations relative. Largest
violation: |A x - k| of draws of x and of the k drawn with them. Log evidence - bound: of an image,
what the guide lacks; the closed form has the likeliest noise."""


def score(found: Posterior, exact: Posterior, truth: np.ndarray) -> dict[str, float]:
    """Figures of merit of normal posteriors."""
    deviation = np.sqrt(found.covariance.diagonal())
    right = np.sqrt(exact.covariance.diagonal())
    error = truth - found.mean
    inside = {
        f"in {level:.0%}": (np.abs(error) <= norm.ppf(0.5 + level / 2) * deviation).mean()
        for level in LEVELS
    }
    return inside | {
        "error": np.sqrt(np.square(error).mean()),
        "mean": np.abs((found.mean - exact.mean) / right).max(),
        "deviation": np.abs(deviation / right - 1).max(),
    }


def write_report(folder: Path, name: str, settings: Settings, frame: pd.DataFrame) -> None:
    """Write and print the table."""
    table = mean_and_spread(frame, "method", FORMS)
    largest = frame.groupby("method", sort=False)["violation"].max()
    table["violation"] = ["" if pd.isna(value) else f"{value:.0e}" for value in largest]
    table = table.rename(columns=HEADINGS)
    note = NOTE.format(**vars(settings))
    write_table(folder / f"{name}.md", TITLE, note, table)
    print_table(TITLE, table)


def draw(path: Path, problem: Problem, learned: Posterior, draws: np.ndarray) -> None:
    """What was read of six digits, and what is made of it.

    Args:
        path: of the picture.
        problem: the truth and the readings.
        learned: the posterior with sampled sums.
        draws: ``(number, images, n)`` of it.
    """
    size = problem.A.to_dense().sum(-1)[0]
    deviation = np.sqrt(learned.covariance.diagonal())
    rows = {
        "digit": problem.images,
        "noisy reading": problem.readings[:, problem.A.index] / size,
        "mean, sums taken\nas exact": problem.posterior(0.0).mean,
        "mean, sums\nsampled": learned.mean,
        **{f"draw {number + 1}": images for number, images in enumerate(draws[:3])},
        "standard deviation": np.broadcast_to(deviation, problem.images.shape),
    }
    chosen = range(min(6, len(problem.images)))
    figure = Figure(figsize=(7, 1.05 * len(rows)), dpi=100, layout="constrained")
    grid = figure.subplots(len(rows), len(chosen), squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        brightest = deviation.max() if name == "standard deviation" else 1
        for axis, image in zip(axes, images[chosen], strict=True):
            picture = image.reshape(problem.side, -1)
            axis.imshow(picture, cmap="gray_r", vmin=0, vmax=brightest)
            axis.set(xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
