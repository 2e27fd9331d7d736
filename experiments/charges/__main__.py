"""Charge-neutral crystals: partial charges of every atom that sum to zero in each crystal.

A graph network predicts location and scale of each charge. The methods differ in what they make of
the law: nothing, a penalty, a projection, elimination, or (ours) the exact conditional law.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import pandas as pd
from tqdm import tqdm

from experiments.charges.methods import METHODS
from experiments.charges.pictures import draw
from experiments.charges.scoring import Outcome
from experiments.charges.settings import Settings
from experiments.charges.tables import scores_of, write_report
from experiments.charges.timing import measure_law
from experiments.charges.work import dataset_of, outcomes
from experiments.command import Options, parse
from experiments.record import Record

NAME = "charges"
WORKERS = 2
"""Processes of one thread each."""

LAW_SIZES = (32, 128, 453)
"""Crystals in the batches on which the law is timed."""

TRAINED_LONGER = ("unconstrained", "ours, expected loss", "ours, likelihood (Student-t)")
"""Trainings of the second table."""

Job = tuple[str, int]
"""A training and a reshuffle."""


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is not there yet, then write the tables and the pictures; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    lines = options.chosen(list(METHODS))
    record = options.record(NAME, settings)
    _train(record, lines, settings, options.is_short)
    _time_law(record, settings)
    _report(options, NAME, settings, record)

    longer, settings = f"{NAME}_longer", settings.lengthened()
    lines = [line for line in lines if METHODS[line].training in TRAINED_LONGER]
    more = options.record(longer, settings)
    _train(more, lines, settings, options.is_short)
    if lines:
        _report(options, longer, settings, more)
    return pd.concat([record.frame(), more.frame()], keys=[NAME, longer], names=["table", "run"])


def _train(record: Record, lines: Sequence[str], settings: Settings, is_short: bool) -> None:
    """Add the outcomes of these lines that are not there yet."""
    jobs = _missing(record, lines, settings)
    for seed, outcomes_of in tqdm(_done(jobs, settings, is_short), "trainings", len(jobs)):
        for method, outcome in outcomes_of.items():
            key = {"method": method, "reshuffle": seed}
            if key not in record:
                record.add(key, outcome)


def _missing(record: Record, wanted: Sequence[str], settings: Settings) -> list[Job]:
    """The trainings that any of the wanted methods still needs."""
    return list(
        dict.fromkeys(
            (METHODS[line].training, seed)
            for seed in settings.reshuffles
            for line in wanted
            if {"method": line, "reshuffle": seed} not in record
        )
    )


def _done(
    jobs: Sequence[Job], settings: Settings, is_short: bool
) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """Reshuffle and scores of each job, as they come."""
    if is_short:
        yield from ((seed, outcomes(name, seed, settings)) for name, seed in jobs)
        return
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        futures = {pool.submit(outcomes, *job, settings): job for job in jobs}
        yield from ((futures[each][1], each.result()) for each in as_completed(futures))


def _time_law(record: Record, settings: Settings) -> None:
    """Time the law of a batch beside a loop, on test crystals."""
    key = {"method": "law", "reshuffle": 0}
    if key in record:
        return
    dataset, split = dataset_of(settings, 0)
    sizes = [size for size in LAW_SIZES if size <= len(split.test)] or [len(split.test)]
    figures = {size: measure_law(dataset.whole(split.test[:size])) for size in sizes}
    record.add(key, {f"{k}_{n}": v for n, each in figures.items() for k, v in each.items()})


def _report(options: Options, name: str, settings: Settings, record: Record) -> None:
    dataset, _ = dataset_of(settings, 0)
    write_report(options.folder / f"{name}.md", settings, dataset.crystals, record.frame())
    draw(options.folder / f"{name}.png", scores_of(record.frame()))


if __name__ == "__main__":
    main()
