"""Diffusion models of images whose block sums are given: ``python -m experiments.diffusion``.

One network for all methods, which gets the sums as an input; methods differ in what it learns from
and in how images are drawn with it (methods.py).
"""

import sys
import time
from collections.abc import Sequence

import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from experiments.command import SHORT_RESULTS, Options, parse
from experiments.diffusion.bound import best_variances, log_bound
from experiments.diffusion.gallery import Gallery
from experiments.diffusion.methods import REFERENCE, Given, Lines, lines_of
from experiments.diffusion.network import Model
from experiments.diffusion.problem import Problem, nats_of_pixels, scaled
from experiments.diffusion.report import write_report
from experiments.diffusion.settings import SHORT_STUDIES, STUDIES, Settings, Study
from experiments.diffusion.training import TRAININGS, train
from experiments.record import Key, Record

NAME = "diffusion"


class Work:
    """Trains what is missing of a study and scores it.

    Args:
        gallery: keeps some images of the first seed for the pictures.
    """

    def __init__(
        self, study: Study, settings: Settings, record: Record, gallery: Gallery, progress: Progress
    ) -> None:
        self.study, self.settings, self.record = study, settings, record
        self.gallery, self.progress = gallery, progress
        self.problem = Problem.of(study)
        self.real = scaled(self.problem.real)

    def key(self, name: tuple[str, str], seed: int) -> Key:
        """Under which the outcome of a line is kept."""
        method, sampler = name
        return {"data": self.study.title, "method": method, "sampler": sampler, "seed": seed}

    def score_reference(self) -> None:
        """Training images in the place of drawn ones."""
        for seed in range(self.settings.seeds):
            torch.manual_seed(seed)
            if self.key(REFERENCE, seed) not in self.record:
                images = self.problem.batch(
                    torch.randint(self.problem.num_train, (len(self.real),))
                )
                self.record.add(self.key(REFERENCE, seed), self.problem.judge(images))

    def run(self, only: str, *, through: bool) -> None:
        """Lines that are missing, of networks trained through kernels or not; seed by seed."""
        for seed in range(self.settings.seeds):
            for training in TRAININGS:
                missing = {
                    name: line
                    for name, line in lines_of(only, through=through).items()
                    if line.training == training and self.key(name, seed) not in self.record
                }
                if missing:
                    self._train_and_score(training, missing, seed)

    def _train_and_score(self, training: str, lines: Lines, seed: int) -> None:
        bar = self.progress.add_task(
            f"{self.study.title}: {training}, seed {seed}", total=self.study.steps
        )
        torch.manual_seed(seed)
        model = train(
            training,
            self.problem,
            self.settings,
            self.study.steps,
            lambda: self.progress.advance(bar),
        )
        variances, bound = self._bound(model, lines)
        given = Given(model, model.process.sums(self.real), self.settings, variances)
        for name, line in lines.items():
            torch.manual_seed(1000 + seed)  # the same noise for all lines
            start = time.perf_counter()
            states = list(line.draw(given))
            seconds = (time.perf_counter() - start) / len(self.real)
            if seed == 0:
                self.gallery.keep(self.study.title, *name, states)
            figures = self.problem.judge(states[-1]) | {"seconds": seconds}
            self.record.add(self.key(name, seed), figures | (bound if line.bounded else {}))

    def _bound(self, model: Model, lines: Lines) -> tuple[Tensor | None, dict[str, float]]:
        """Best variances and what they make of the bound, if there is one for a line."""
        if not any(line.bounded for line in lines.values()):
            return None, {}
        rows = torch.randint(self.problem.num_train, (self.settings.variance_images,))
        variances = best_variances(model, self.problem.batch(rows))
        bound = log_bound(model, self.real, variances).mean().item()
        return variances, {"bound": nats_of_pixels(bound, self.problem.dimensions)}


def run_missing(record: Record, settings: Settings, options: Options, gallery: Gallery) -> None:
    """Each study in turn; then the networks that take longest, where a study has them."""
    columns = [TextColumn("{task.description:<50}"), BarColumn(), MofNCompleteColumn()]
    studies = SHORT_STUDIES if options.is_short else STUDIES
    with Progress(*columns, TimeElapsedColumn()) as progress:
        works = [Work(study, settings, record, gallery, progress) for study in studies]
        for work in works:
            if options.only in REFERENCE[0]:
                work.score_reference()
            work.run(options.only, through=False)
        for work in works:
            if work.study.through:
                work.run(options.only, through=True)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train and draw what is missing, write the table and the pictures; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    folder = options.folder if options.is_short else SHORT_RESULTS
    gallery = Gallery(folder / f"{NAME}_images")
    run_missing(record, settings, options, gallery)
    frame = record.frame()
    write_report(options.folder, NAME, settings, frame, gallery)
    return frame


if __name__ == "__main__":
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it gives
    main(sys.argv[1:])
