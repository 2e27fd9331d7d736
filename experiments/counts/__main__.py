"""Photon counts whose totals the detector knows: ``python -m experiments.counts``.

Variational autoencoders of counts that are told the sums of each image; what differs is the law
of the counts given the decoder's rates. In some, a draw feeds a further loss.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.command import SHORT_RESULTS, parse
from experiments.counts.comparison import METHODS, REAL
from experiments.counts.photons import Detector, expose
from experiments.counts.pictures import Gallery
from experiments.counts.reader import trained_reader
from experiments.counts.report import write_report
from experiments.counts.scoring import Drawn, judge_real, score
from experiments.counts.settings import Settings
from experiments.counts.training import TRAININGS, Workplace, train
from experiments.images.critic import Critic, trained_critic
from experiments.images.data import load
from experiments.record import Key, Record

NAME = "counts"


class Case(NamedTuple):
    """One set of images under one law.

    Attributes:
        key: the names of both.
        place: what the trainings have in common.
        critic: judges the draws.
    """

    key: Mapping[str, str | int]
    place: Workplace
    critic: Critic


def cases(name: str, settings: Settings) -> Iterator[Case]:
    """All laws of a set."""
    split = load(name)
    critic = trained_critic(split, SHORT_RESULTS / "critics" / f"{name}.pt")
    photons = expose(split, settings.exposure)
    reader = trained_reader(photons, settings)
    for law in settings.laws:
        place = Workplace(photons, Detector.named(law, split.side), reader, settings)
        yield Case({"set": name, "law": law}, place, critic)


def run_missing(record: Record, gallery: Gallery, settings: Settings, names: Sequence[str]) -> None:
    """Train and score what the record does not have yet, a set and a law after the other."""
    columns = [TextColumn("{task.description:<62}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn()) as progress:
        for case in (case for name in settings.sets for case in cases(name, settings)):
            real: Key = {**case.key, "method": REAL, "seed": 0}
            gallery.keep(real, Drawn(case.place.photons.test, case.place.photons.test))
            if real not in record:
                record.add(real, judge_real(case.place, case.critic))
            for seed, training in product(range(settings.seeds), TRAININGS):
                keys: list[Key] = [
                    {**case.key, "method": name, "seed": seed}
                    for name in names
                    if METHODS[name].training == training
                ]
                missing = [key for key in keys if key not in record]
                if missing:
                    label = f"{case.key['set']}, {case.key['law']}, seed {seed}: {training}"
                    bar = progress.add_task(label, total=settings.steps)
                    advance = partial(progress.advance, bar)
                    _run(case, training, seed, missing, record, gallery, advance)


def _run(
    case: Case,
    training: str,
    seed: int,
    keys: Sequence[Key],
    record: Record,
    gallery: Gallery,
    advance: Callable[[], None],
) -> None:
    """One training, and the scores of all methods that share it."""
    vae, seconds = train(TRAININGS[training], case.place, seed, advance)
    for key in keys:
        law = METHODS[str(key["method"])].law(case.place.detector)
        figures, drawn = score(law, vae, case.place, case.critic, seed)
        record.add(key, figures | {"seconds": seconds})
        if seed == 0:
            gallery.keep(key, drawn)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing, write the table and the picture; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    gallery = Gallery(options.folder / f"{NAME}_images.npz")
    run_missing(record, gallery, settings, options.chosen(list(METHODS)))
    frame = record.frame()
    write_report(options.folder, NAME, settings, frame)
    gallery.draw(options.folder / f"{NAME}.png", settings)
    return frame


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
