"""The table of the methods beside the published figures."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.charges.crystals import Crystals
from experiments.charges.methods import METHODS
from experiments.charges.settings import Settings
from experiments.record import mean_and_spread, write_table

__all__ = ["scores_of", "write_report"]

PUBLISHED = {
    "element mean": ".154 / -",
    "projection after training": ".0260 ± .0008 / 110",
    "variance correction": ".0251 ± .0010 / -20 ± 71",
    "constraint layer": ".327 / 103",
    "ours, pathwise": ".0256 ± .0007 / 3340",
    "ours, expected loss": ".0245 ± .0009 / > 1e7",
    "ours, likelihood": ".0248 ± .0008 / -252 ± 25",
}
"""MAD / NLL of single networks over 10 reshuffles of the crystals (Li et al. 2025, appendix)."""

COLUMNS = {
    "fitted_mad": ("MAD", ".4f"),
    "fitted_ensemble_mad": ("MAD, ensemble", ".4f"),
    "trained_nll": ("NLL as trained", ".1f"),
    "trained_ensemble_nll": ("NLL as trained, ensemble", ".1f"),
    "fitted_nll": ("NLL fitted", ".1f"),
    "fitted_ensemble_nll": ("NLL fitted, ensemble", ".1f"),
    "trained_covered_50": ("in 50%, as trained", ".3f"),
    "trained_covered_90": ("in 90%, as trained", ".3f"),
    "fitted_covered_50": ("in 50%, fitted", ".3f"),
    "fitted_covered_90": ("in 90%, fitted", ".3f"),
}
"""Figure -> its heading and how to write it."""

NUM_PRINTED = 6

NOTE = """\
{source}: {crystals} of them, {atoms} atoms; split into 70% training, 10% validation and 20% test,
reshuffled {reshuffles} times; ± is the standard deviation over reshuffles. Networks for each
reshuffle: {members}; single figures are their mean, the ensemble is their average. All methods
share the network, its start, the order of the batches and the number of optimiser steps ({epochs}
epochs of batches of {batch_size} crystals); the weights kept are those of the least validation
error. "Projection after training" and "variance correction" use the networks of "unconstrained".

MAD: mean absolute deviation in e over all test atoms. NLL: per crystal, of the first n - 1 charges
(the density on the subspace less half the logarithm of n), under the law that a method's charges
follow: independent (unconstrained, penalties), independent less their mean (projections), one
following from the others (elimination, constraint layer), given their sum (ours). "As trained":
with the scales that came out of training, where the loss says anything of them. "Fitted": the
scales are fitted afterwards, for every method alike, with its predictions held fast: a log-linear
function of the network's last features, by likelihood, on the validation crystals. "In 50%": share
of the test charges inside their central 50% interval. Residual: the most that the predicted charges
of a crystal miss a sum of zero. Seconds: processor time of one training.

{law}
"""


def scores_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of methods, in the order of the table."""
    order = {name: place for place, name in enumerate(METHODS)}
    runs = frame[frame["method"].isin(order)]
    return runs.sort_values("method", key=lambda names: names.map(order), kind="stable")


def write_report(path: Path, settings: Settings, crystals: Crystals, frame: pd.DataFrame) -> None:
    """Write the markdown page, and print its first columns."""
    title = f"Charge-neutral crystals ({crystals.source})"
    table = _table(scores_of(frame), has_ensembles=settings.members > 1)
    note = NOTE.format(
        source=crystals.source.capitalize(),
        crystals=f"{len(crystals):,}",
        atoms=f"{len(crystals.element):,}",
        reshuffles=len(settings.reshuffles),
        members=settings.members,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        law=_law_note(frame),
    )
    write_table(path, title, note, table)
    shown = Table("method", *table.columns[:NUM_PRINTED], title=title)
    for name, row in table.iterrows():
        shown.add_row(str(name), *map(str, row.iloc[:NUM_PRINTED]))
    Console().print(shown)


def _table(runs: pd.DataFrame, has_ensembles: bool) -> pd.DataFrame:
    """A line for each method."""
    shown = {k: v for k, v in COLUMNS.items() if has_ensembles or "ensemble" not in k}
    runs = runs.reindex(columns=runs.columns.union(list(shown)))
    table = mean_and_spread(runs, "method", {name: form for name, (_, form) in shown.items()})
    table.columns = [heading for heading, _ in shown.values()]
    groups = runs.groupby("method", sort=False)
    table["residual, e"] = groups["fitted_residual"].max().map("{:.0e}".format)
    table["reshuffles"] = groups.size()
    for name in ("parameters", "steps", "seconds"):
        table[name] = groups[name].mean().map("{:.0f}".format)
    table["published MAD / NLL"] = [PUBLISHED.get(str(name), "") for name in table.index]
    return table


def _law_note(frame: pd.DataFrame) -> str:
    """How long the law of a batch takes beside a loop over its crystals."""
    timings = frame[frame["method"] == "law"]
    if timings.empty:
        return ""
    law = timings.iloc[0]
    sizes = [name.removeprefix("ratio_") for name in law.dropna().index if "ratio_" in name]
    parts = [
        f"{law[f'ratio_{n}']:.0f} times for {n} crystals ({law[f'batch_ms_{n}']:.1f} ms against "
        f"{law[f'loop_ms_{n}']:.0f})"
        for n in sizes
    ]
    return (
        "Law of a batch (`GroupSum`; building, log density, expected absolute error and their "
        f"gradients) against a loop over its crystals: faster {', '.join(parts)}."
    )
