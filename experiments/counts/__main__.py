"""Photon counts whose totals the detector knows: ``python -m experiments.counts``.

Variational autoencoders of counts that are told the sums of each image; what differs is the law
of the counts given the decoder's rates. In some, a draw feeds a further loss.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.command import SHORT_RESULTS, Options, parse
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
from experiments.record import Record

NAME = "counts"


def workplaces(name: str, settings: Settings) -> Iterator[tuple[str, Workplace, Critic]]:
    """Law, what its trainings have in common, and the critic of the set."""
    split = load(name)
    critic = trained_critic(split, SHORT_RESULTS / "critics" / f"{name}.pt")
    photons = expose(split, settings.exposure)
    reader = trained_reader(photons, settings)
    for law in settings.laws:
        yield law, Workplace(photons, Detector.named(law, split.side), reader, settings), critic


def run_missing(record: Record, gallery: Gallery, settings: Settings, names: Sequence[str]) -> None:
    """Train and score what the record does not have yet, a set and a law after the other."""
    columns = [TextColumn("{task.description:<62}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn()) as progress:
        for set_name in settings.sets:
            for law, place, critic in workplaces(set_name, settings):
                case = {"set": set_name, "law": law}
                real = {**case, "method": REAL, "seed": 0}
                gallery.keep(real, Drawn(place.photons.test, place.photons.test))
                if real not in record:
                    record.add(real, judge_real(place, critic))
                for seed in range(settings.seeds):
                    _run_case(record, gallery, case, place, critic, seed, names, progress)


def _run_case(
    record: Record,
    gallery: Gallery,
    case: dict[str, str],
    place: Workplace,
    critic: Critic,
    seed: int,
    names: Sequence[str],
    progress: Progress,
) -> None:
    """All trainings of one set under one law with one seed."""
    for training in TRAININGS:
        keys = [
            {**case, "method": name, "seed": seed}
            for name in names
            if METHODS[name].training == training
        ]
        missing = [key for key in keys if key not in record]
        if not missing:
            continue
        label = f"{case['set']}, {case['law']}, seed {seed}: {training}"
        bar = progress.add_task(label, total=place.settings.steps)
        vae, seconds = train(TRAININGS[training], place, seed, partial(progress.advance, bar))
        for key in missing:
            law = METHODS[str(key["method"])].law(place.detector)
            figures, drawn = score(law, vae, place, critic, seed)
            record.add(key, figures | {"seconds": seconds})
            if seed == 0:
                gallery.keep(key, drawn)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing, write the table and the picture; a row for each run."""
    options: Options = parse(__doc__, argv)
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
