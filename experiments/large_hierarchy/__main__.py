"""Forecasts of a retailer's whole hierarchy that add up: 42,840 nodes, 12,350 sums.

The shape is that of the M5 competition (3,049 items in 10 stores, 12 levels), and of its first
store alone, with made-up base forecasts of every node. Reconciled forecasts are the mean of
N(base forecasts, covariance of their errors) given A x = 0, with a sparse A = [I, -S]. Beside it
programs for the same mean.

    python -m experiments.large_hierarchy [--short] [--only TEXT]
"""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from experiments.command import parse
from experiments.large_hierarchy.methods import DENSE, METHODS, NUM_DRAWS, OURS
from experiments.large_hierarchy.problem import make
from experiments.record import write_table
from experiments.show import print_table

NAME = "large_hierarchy"
TITLE = "Reconciliation of large hierarchies"
SIZES = {"one store": 1, "ten stores": 10}
PARTS = ("build", "mean", "draws", "density", "variances", "gradient")
NOTE = """\
Seconds on one thread, float64, each method {repeats} times in turns, medians; the first run of
each size, which analyses the hierarchy, is in a column of its own. Draws: {draws}. One store: 3,049
series and 11 sums; ten stores: 30,490 series and 12,350 sums.

- from ours: largest difference of the reconciled mean from that of "{ours}", over the scale of a
  node, where it should be the same.
- residual: largest miss of a sum by the first draw (by the mean, where nothing is drawn), over the
  size of its terms.
- memory: growth of the peak of the process while the method ran first, MiB."""


@dataclass(frozen=True)
class Settings:
    """What an outcome depends on."""

    num_repeats: int = 5


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what was asked for; returns a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings(2) if options.is_short else Settings()
    torch.set_num_threads(1)
    record = options.record(NAME, settings)
    sizes = list(SIZES)[:1] if options.is_short else list(SIZES)
    for size in sizes:
        problem = make(SIZES[size])
        methods = [
            m for m in options.chosen(list(METHODS)) if size == "one store" or m not in DENSE
        ]
        reference = None
        for repeat in tqdm(range(settings.num_repeats + 1), size):
            for method in methods:
                key = {"size": size, "method": method, "repeat": repeat}
                if key in record:
                    continue
                if reference is None:
                    reference = METHODS[OURS](problem).mean
                before = _peak()
                answer = METHODS[method](problem)
                gap = np.abs(answer.mean - reference) / problem.scale
                outcome = {**answer.seconds, "total": sum(answer.seconds.values())}
                outcome |= {"gap": gap.max(), "residual": answer.residual}
                record.add(key, outcome | {"memory": _peak() - before})
    runs = record.frame()
    _report(options.folder, settings, runs)
    return runs


def _peak() -> float:
    """Peak memory of the process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _report(folder: Path, settings: Settings, runs: pd.DataFrame) -> None:
    first = runs[runs["repeat"] == 0].set_index(["size", "method"])
    later = runs[runs["repeat"] > 0].groupby(["size", "method"], sort=False)
    parts = [part for part in (*PARTS, "total") if part in runs]
    seconds = later[parts].median()
    table = seconds.map(lambda value: "" if pd.isna(value) else f"{value:.3g}")
    table["first"] = first["total"].map("{:.3g}".format)
    same = ~table.index.get_level_values("method").isin([m for m in METHODS if "ours," in m][1:])
    table["from ours"] = later["gap"].max().map("{:.1e}".format).where(same, "")
    table["residual"] = later["residual"].max().map("{:.1e}".format)
    table["memory"] = first["memory"].map("{:.0f}".format)
    note = NOTE.format(repeats=settings.num_repeats, draws=NUM_DRAWS, ours=OURS)
    write_table(folder / f"{NAME}.md", TITLE, note, table)
    print_table(TITLE, table, width=200)


if __name__ == "__main__":
    main()
