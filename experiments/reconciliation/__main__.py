"""Bayesian data reconciliation with NUTS: all flows of a water network from a few noisy meters.

**Water.** Net3 of EPANET has 92 junctions and 119 links. At each junction what flows in flows out
or is consumed, exactly; a few links have a meter, with noise. What is the posterior of all flows?
Ours puts a constrained law on the velocities and lets NUTS move inside the subspace, either in the
coordinates of ``biject_to`` or by white noise (``ConstrainedNormalReparam``). The usual ways:
balance as a narrow likelihood, or leaving out 92 of the 119 variables by hand. All have the same
posterior (the first in the limit of no width). The scales of velocities and noise are known, or
inferred as well; either way the exact posterior is computed too, without sampling (``oracle``).

**Effects.** A regression on twenty groups whose effects sum to zero, for which NumPyro has
``ZeroSumNormal``.

    python -m experiments.reconciliation [--short] [--only TEXT]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpyro
import pandas as pd
from jax import Array
from tqdm import tqdm

from experiments.command import parse
from experiments.nuts import Chains, Sampler
from experiments.reconciliation import models, zero_sum
from experiments.reconciliation.report import report
from experiments.reconciliation.water import Water

NAME = "reconciliation"
PROBLEMS = (
    "effects, scale known",
    "effects, scale inferred",
    "water, scales known",
    "water, scales inferred",
)


@dataclass(frozen=True)
class Settings:
    """What an outcome depends on.

    Attributes:
        hours: of the simulated week at which flows are wanted.
    """

    hours: tuple[int, ...] = (27, 33, 39, 45)
    num_meters: int = 40
    noise: float = 0.05
    num_warmup: int = 300
    num_draws: int = 400
    num_chains: int = 4

    def shortened(self) -> "Settings":
        """Few draws at two hours."""
        return replace(self, hours=self.hours[:2], num_warmup=40, num_draws=40, num_chains=2)


@dataclass(frozen=True)
class Extent:
    """What is run.

    Attributes:
        problems, methods: their names.
        num_seeds: new noise and new chains for each.
        num_repeats: the same where a run takes a second.
    """

    problems: tuple[str, ...] = PROBLEMS
    methods: tuple[str, ...] = tuple(zero_sum.METHODS | models.METHODS)
    num_seeds: int = 3
    num_repeats: int = 21

    def shortened(self) -> "Extent":
        """One run; most of its time goes into compilation."""
        return Extent(PROBLEMS[-1:], ("ours, white noise",), 1, 1)


class Problem(NamedTuple):
    """One block of the table.

    Attributes:
        name: of the problem.
        methods: their names, and how many seeds each runs with.
        build: the model by a method.
        arguments: the data of a seed.
        score: outcome of the chains of a seed.
    """

    name: str
    methods: Mapping[str, int]
    build: Callable[[str], Callable]
    arguments: Callable[[int], Sequence[Array]]
    score: Callable[[int, Chains], dict[str, float]]


def water_problem(name: str, water: Water, task: models.Task, extent: Extent) -> Problem:
    """Flows of the network."""
    exact = cache(lambda seed: water.exact(task, seed))
    return Problem(
        name=name,
        methods=dict.fromkeys(models.METHODS, extent.num_seeds),
        build=lambda method: models.METHODS[method](task),
        arguments=lambda seed: [jnp.asarray(water.readings(seed))],
        score=lambda seed, chains: water.score(task, chains, exact(seed)),
    )


def effects_problem(name: str, samples_tau: bool, extent: Extent) -> Problem:
    """Effects of groups; the data are the same for all seeds."""
    group, outcome, effects = zero_sum.draw_data(seed=0)
    methods = zero_sum.OF_ANY_SCALE if samples_tau else zero_sum.METHODS
    return Problem(
        name=name,
        methods={
            method: extent.num_seeds if "soft" in method else extent.num_repeats
            for method in methods
        },
        build=lambda method: zero_sum.build(method, samples_tau),
        arguments=lambda _: [jnp.asarray(group), jnp.asarray(outcome)],
        score=lambda _, chains: zero_sum.score(chains, effects),
    )


def all_problems(water: Water, extent: Extent) -> list[Problem]:
    """Every block of the table that is wanted."""
    known, inferred, flows_known, flows_inferred = PROBLEMS
    problems = [
        effects_problem(known, False, extent),
        effects_problem(inferred, True, extent),
        water_problem(flows_known, water, water.known_task, extent),
        water_problem(flows_inferred, water, water.unknown_task, extent),
    ]
    return [problem for problem in problems if problem.name in extent.problems]


def turns(problem: Problem, methods: Sequence[str]) -> list[tuple[int, str]]:
    """Seeds and methods, each method once before any goes again."""
    return [
        (seed, method)
        for seed in range(max(problem.methods.values()))
        for method, num_seeds in problem.methods.items()
        if seed < num_seeds and method in methods
    ]


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what was asked for; returns a row for each run."""
    options = parse(__doc__, argv)
    settings, extent = Settings(), Extent()
    if options.is_short:
        settings, extent = settings.shortened(), extent.shortened()
    numpyro.enable_x64()
    water = Water.load(settings.hours, settings.num_meters, settings.noise)
    record = options.record(NAME, settings)
    sizes = settings.num_warmup, settings.num_draws, settings.num_chains
    for problem in all_problems(water, extent):
        sampler = cache(lambda method, build=problem.build: Sampler(build(method), *sizes))
        for seed, method in tqdm(turns(problem, options.chosen(extent.methods)), problem.name):
            key = {"problem": problem.name, "method": method, "seed": seed}
            if key not in record:
                chains = sampler(method).run(seed, *problem.arguments(seed))
                record.add(key, problem.score(seed, chains))
    runs = record.frame()
    report(options.folder, NAME, settings, water, runs)
    return runs


if __name__ == "__main__":
    main()
