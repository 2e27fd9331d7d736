"""How good are gradients through constrained draws? Bias, variance and error of each estimator.

A loss of a draw x from a law given A x = k has an expected value, whose gradient in the parameters
of the law training needs. Each estimator makes a guess of it from one draw, or a few. Two laws,
where the exact gradient is known for some losses at any n:

-   **Gaussian**: n independent normal variables given that they sum to zero. Gradients in loc and
    log scale together. In loc alone pathwise and marginal expectation are the same; they differ
    in how the draw's noise answers to the scale, which the latter leaves out.
-   **exactly n/2** of n bits, gradients in their logits.

Losses: ``squares`` |x - b|^2; ``mixed squares`` |W x - t|^2 with five rows of W; ``absolute``
sum |x_i - b_i|, whose mean is closed form for the Gaussian (error function). Of bits, squares are
linear in x.

    python -m experiments.gradient_estimators [--short] [--only TEXT]
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpyro
import pandas as pd
from jax import random
from tqdm import tqdm

from experiments.command import parse
from experiments.gradient_estimators.estimators import ESTIMATORS, estimates
from experiments.gradient_estimators.problems import Gaussian, Problem, Subset
from experiments.gradient_estimators.report import report
from rivals.quality import Quality

NAME = "gradient_estimators"
LAWS: tuple[type[Problem], ...] = (Gaussian, Subset)


@dataclass(frozen=True)
class Settings:
    """What all outcomes depend on; parameters and targets are new for each seed."""

    sizes: tuple[int, ...] = (10, 30, 70, 100)
    num_draws: int = 10_000
    num_seeds: int = 10
    losses: tuple[str, ...] = ("squares", "mixed squares", "absolute")

    def shortened(self) -> "Settings":
        """A few seconds."""
        return replace(self, sizes=(4,), num_draws=200, num_seeds=1, losses=("squares",))


def judge(problem: Problem, loss: str, estimator: str, seed: int, num_draws: int) -> dict:
    """Quality of many estimates."""
    begin = time.process_time()
    found = np.asarray(estimates(problem, loss, estimator, random.key(seed), num_draws))
    seconds = time.process_time() - begin
    exact = np.asarray(problem.exact_gradient(loss))
    return Quality.of(found, exact)._asdict() | {"seconds": seconds}


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what was asked for; returns a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    numpyro.enable_x64()
    record = options.record(NAME, settings)
    tasks = [
        (law, loss, n, estimator, seed)
        for law in LAWS
        for loss in law.losses
        if loss in settings.losses
        for estimator in options.chosen(list(ESTIMATORS[law.name]))
        for n in settings.sizes
        for seed in range(settings.num_seeds)
    ]
    for law, loss, n, estimator, seed in tqdm(tasks, NAME):
        key = {"law": law.name, "loss": loss, "estimator": estimator, "n": n, "seed": seed}
        if key not in record:
            problem = law.draw(n, seed)
            record.add(key, judge(problem, loss, estimator, seed, settings.num_draws))
    runs = record.frame()
    report(options.folder, NAME, settings, runs)
    return runs


if __name__ == "__main__":
    main()
