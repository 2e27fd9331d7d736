"""Image VAEs trained by Pyro and judged like those of NumPyro: ``python -m experiments.vae_pyro``.

The digits of scikit-learn, with the nets, batches, steps and seeds of ``experiments.vae``. What was
trained is handed to the code there that scores, so that the figures mean the same.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import jax
import numpy as np
import pandas as pd
import torch
from rich.progress import track

from experiments.command import parse
from experiments.images.data import DIGITS
from experiments.record import Record
from experiments.vae.__main__ import Bench
from experiments.vae.report import write_report
from experiments.vae.scoring import score
from experiments.vae.settings import Settings
from experiments.vae.speed import steps_to_time, summary
from experiments.vae_pyro.methods import (
    VAE,
    Completion,
    JointStart,
    Likelihood,
    LowRank,
    LowRankLikelihood,
    ProjectionLayer,
    SemanticLoss,
    SoftPenalty,
    fit,
    trainer,
)

NAME = "vae_pyro"

METHODS: dict[str, type[VAE]] = {
    "plain": VAE,
    "projection after training": VAE,
    "soft penalty": SoftPenalty,
    "semantic loss": SemanticLoss,
    "projection layer": ProjectionLayer,
    "constrained layer": Completion,
    "ours, likelihood": Likelihood,
    "ours, likelihood and constraint": VAE,
    "ours, joint start": JointStart,
    "low rank, plain": LowRank,
    "low rank, ours, likelihood": LowRankLikelihood,
    "ladder, plain": VAE,
    "ladder, projection layer": ProjectionLayer,
    "ladder, ours, likelihood": Likelihood,
}


def run(bench: Bench, name: str, seed: int) -> dict[str, float]:
    """Figures of merit of a method."""
    begin = time.perf_counter()
    method = bench.method(name)
    nets = fit(METHODS[name], method, bench.split, seed).to_jax()
    figures = score(method, nets, bench.split, bench.critic, seed)
    return figures | {"seconds": time.perf_counter() - begin}


def time_missing(record: Record, bench: Bench, names: Sequence[str]) -> None:
    """Measure seconds per step, methods in turns, unless the record has them."""
    if all(bench.key(name) in record for name in names):
        return
    images = torch.as_tensor(steps_to_time(bench.split, bench.settings))
    vaes = [make(bench.method(name), bench.split) for name, make in METHODS.items()]
    trainers = [trainer(vae) for vae in vaes]
    taken = np.empty((bench.settings.timed_turns, len(METHODS)))
    for turn, (place, (vae, svi)) in product(taken, enumerate(zip(vaes, trainers, strict=True))):
        begin = time.perf_counter()
        for x in images:
            svi.step(x, vae.sums_of(x))
        turn[place] = (time.perf_counter() - begin) / len(images)
    for name, figures in summary(list(METHODS), taken).items():
        if bench.key(name) not in record:
            record.add(bench.key(name), figures)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing, write the table and the picture; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    settings = replace(settings, sets=(DIGITS,))
    record = options.record(NAME, settings)
    times = options.record(f"{NAME}_times", settings)
    names = options.chosen(list(METHODS))
    with jax.enable_x64(False):
        for law in settings.laws:
            bench = Bench(DIGITS, law, settings)
            runs = list(product(names, range(settings.seeds)))
            for name, seed in track(runs, f"{DIGITS}, {law}"):
                key = bench.key(name) | {"seed": seed}
                if key not in record:
                    record.add(key, run(bench, name, seed))
            time_missing(times, bench, names)
    write_report(options.folder, NAME, settings, record.frame(), times.frame())
    return record.frame()


if __name__ == "__main__":
    main(sys.argv[1:])
