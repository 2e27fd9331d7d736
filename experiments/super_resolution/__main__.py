"""Fine digits from noisy readings of their block sums: ``python -m experiments.super_resolution``.

The sums k are not known, only read with noise: k is sampled, and gradients of a guide go through k
into the law of the pixels given A x = k. The model is normal, so that the right answer is known.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from experiments.command import parse
from experiments.record import Record
from experiments.super_resolution.inference import Reconstruction, learn
from experiments.super_resolution.problem import Problem, make_problem
from experiments.super_resolution.report import draw, score, write_report
from experiments.super_resolution.settings import Settings

NAME = "super_resolution"
CLOSED_FORM = "closed form"
FIXED = "sums taken as exact, closed form"
LEARNED = "ours, sums sampled (SVI)"


def outcomes(
    problem: Problem, found: Reconstruction, bounds: np.ndarray, violation: float
) -> dict[str, dict[str, float]]:
    """Figures of merit of each method."""
    noise, truth = problem.likeliest_noise, problem.images
    exact = problem.posterior(noise)
    late = bounds[-len(bounds) // 10 :].mean()
    learned = {
        "noise": found.noise().item(),
        "gap": problem.log_evidence(noise) - late,
        "violation": violation,
    }
    return {
        CLOSED_FORM: score(exact, exact, truth) | {"noise": noise},
        FIXED: score(problem.posterior(0.0), exact, truth),
        LEARNED: score(found.posterior(), exact, truth) | learned,
    }


def run(record: Record, settings: Settings, seed: int, picture: Path) -> None:
    """Learn, keep the outcomes and draw a picture of the first seed."""
    problem = make_problem(settings, seed)
    found, bounds = learn(problem, settings, seed, lambda steps: tqdm(steps, f"seed {seed}"))
    draws, violation = found.draws(settings.num_draws)
    if seed == 0:
        draw(picture, problem, found.posterior(), draws)
    for method, outcome in outcomes(problem, found, bounds, violation).items():
        record.add({"method": method, "seed": seed}, outcome)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Learn what is missing, write the table and the picture; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    for seed in range(settings.seeds):
        if {"method": LEARNED, "seed": seed} not in record:
            run(record, settings, seed, options.folder / f"{NAME}.png")
    frame = record.frame()
    write_report(options.folder, NAME, settings, frame)
    return frame


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
