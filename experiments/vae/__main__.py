"""Image VAEs under sums of pixels, beside the usual cures: ``python -m experiments.vae``.

Every method has the same nets, batches, steps and seeds, and is shown the sums.
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import jax
import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.command import parse
from experiments.images.critic import trained_critic
from experiments.images.data import Split, load
from experiments.perceptron import Parameters
from experiments.record import Record
from experiments.vae.comparison import METHODS, plain_of
from experiments.vae.methods import Method
from experiments.vae.report import write_report
from experiments.vae.scoring import score
from experiments.vae.settings import BLOCK, Settings
from experiments.vae.speed import seconds_per_step, summary
from experiments.vae.training import fit

NAME = "vae"

CRITICS = Path("outputs") / "experiments" / "critics"

THREADS = "16"
"""Of JAX's pool, which reads it from the environment when it starts. A batch of triangular solves
waits in one of its threads for others (jaxlib 0.10): two such batches at once, as low-rank laws
have, wait for ever in a pool of two."""


class Bench:
    """A set of images and what is given of them, with nets that were trained on it.

    Args:
        name: of the set.
        law: ``blocks`` or ``total``.
    """

    def __init__(self, name: str, law: str, settings: Settings) -> None:
        self.name, self.law, self.settings = name, law, settings
        self.split = first_tests(load(name), settings.test_images)
        self.critic = trained_critic(self.split, CRITICS / f"{name}.pt")
        # Of the last method only: the one after the plain VAE takes over its training.
        self.nets = lru_cache(settings.seeds)(self._nets)

    def method(self, name: str) -> Method:
        block = BLOCK if self.law == "blocks" else self.split.side
        return METHODS[name](self.split.side, block, self.settings)

    def key(self, method: str) -> dict[str, str]:
        return {"set": self.name, "law": self.law, "method": method}

    def run(self, name: str, seed: int) -> dict[str, float]:
        """Figures of merit of a method."""
        begin = time.perf_counter()
        method = self.method(name)
        figures = score(method, self.nets(method.trained_as, seed), self.split, self.critic, seed)
        return figures | {"seconds": time.perf_counter() - begin}

    def _nets(self, method: Method, seed: int) -> Parameters:
        return fit(method, self.split, seed)


def first_tests(split: Split, number: int) -> Split:
    """The same with fewer images to judge by; the critic has seen none of them either way."""
    return split._replace(test=split.test[:number], test_labels=split.test_labels[:number])


def run_missing(record: Record, bench: Bench, names: Sequence[str], progress: Progress) -> None:
    """Train and score the methods of which the record has no outcome yet."""
    seeds = range(bench.settings.seeds)
    bar = progress.add_task(f"{bench.name}, {bench.law}", total=len(names) * len(seeds))
    for name in names:
        for seed in seeds:
            progress.update(bar, description=f"{bench.name}, {bench.law}: {name}")
            key = bench.key(name) | {"seed": seed}
            if key not in record:
                record.add(key, bench.run(name, seed))
            progress.advance(bar)


def time_missing(record: Record, bench: Bench, names: Sequence[str]) -> None:
    """Measure seconds per step of all methods together, unless the record has them."""
    if all(bench.key(name) in record for name in names):
        return
    timed = [name for name in METHODS if name in {*names, *map(plain_of, names)}]
    taken = seconds_per_step([bench.method(name).trained_as for name in timed], bench.split)
    for name, figures in summary(timed, taken).items():
        if name in names and bench.key(name) not in record:
            record.add(bench.key(name), figures)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing, write the table and the picture; a row for each run."""
    os.environ.setdefault("NPROC", THREADS)
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    times = options.record(f"{NAME}_times", settings)
    names = options.chosen(list(METHODS))
    columns = [TextColumn("{task.description:<50}"), BarColumn(), MofNCompleteColumn()]
    with jax.enable_x64(False), Progress(*columns, TimeElapsedColumn()) as progress:
        for law in settings.laws:
            for name in settings.sets:
                bench = Bench(name, law, settings)
                run_missing(record, bench, names, progress)
                time_missing(times, bench, names)
    frame = record.frame()
    write_report(options.folder, NAME, settings, frame, times.frame())
    return frame


if __name__ == "__main__":
    main(sys.argv[1:])
