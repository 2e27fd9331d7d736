"""Disease mapping: an intrinsic field that sums to zero, as a law and as a narrow likelihood.

Which counties have a raised risk, where most have a handful of deaths? Neighbours tell of each
other: their effects are an intrinsic field, whose density knows differences only. Given that the
effects sum to zero it is a proper law; it can be drawn from, scored and sampled in coordinates of
its own. Without such a law, programs see the sum with a small error instead: then NUTS must take
steps as small as that error, and there are no draws from the prior.

    python -m experiments.disease_mapping [--short] [--only TEXT]
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
from jax import random
from tqdm import tqdm

from constrained_core.fields import Field, besag
from experiments.command import parse
from experiments.disease_mapping.counties import Counties, load
from experiments.disease_mapping.models import METHODS, OURS, build
from experiments.disease_mapping.report import draw, report
from experiments.nuts import Chains, Sampler
from numpyro_constrained import ConstrainedGMRF

NAME = "disease_mapping"


@dataclass(frozen=True)
class Settings:
    """What an outcome depends on."""

    num_warmup: int = 500
    num_draws: int = 1000
    num_chains: int = 4

    def shortened(self) -> "Settings":
        """Few draws."""
        return replace(self, num_warmup=60, num_draws=60, num_chains=2)


def score(chains: Chains, reference: np.ndarray | None) -> dict[str, float]:
    """How good the chains are, and how far from a reference for the log risks."""
    draws = chains.draws
    log_risk = draws["log_risk"]
    names = ("intercept", "sigma", "share")
    distance = 0.0
    if reference is not None:
        gap = (log_risk.mean((0, 1)) - reference) / log_risk.std((0, 1))
        distance = float(np.sqrt(np.square(gap).mean()))
    return chains.outcome([log_risk, *(draws[name] for name in names)]) | {
        "sum": np.abs(draws["phi"].sum(-1)).max(),
        "sigma": draws["sigma"].mean(),
        "share": draws["share"].mean(),
        "distance": distance,
    }


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what was asked for; returns a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    num_seeds = 1 if options.is_short else 3
    numpyro.enable_x64()
    counties = load()
    field = besag(counties.adjacency, scaled=True)
    arguments = jnp.asarray(counties.expected), jnp.asarray(counties.deaths)
    sizes = settings.num_warmup, settings.num_draws, settings.num_chains
    record = options.record(NAME, settings)
    sampler = cache(lambda method: Sampler(build(method, field), *sizes))
    # What the others are compared with, and shown: chains of seeds of their own.
    chains = sampler(OURS).run(1000, *arguments)
    reference = chains.draws["log_risk"].mean((0, 1))
    methods = options.chosen(METHODS)
    for seed, method in tqdm([(s, m) for s in range(num_seeds) for m in methods], NAME):
        if {"method": method, "seed": seed} not in record:
            drawn = sampler(method).run(seed, *arguments)
            record.add({"method": method, "seed": seed}, score(drawn, reference))
    runs = record.frame()
    report(options.folder, NAME, settings, counties, runs)
    draw(options.folder / f"{NAME}.png", counties, _maps(counties, field, chains))
    return runs


def _maps(counties: Counties, field: Field, chains: Chains) -> dict[str, np.ndarray]:
    law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
    log_risk = chains.draws["log_risk"]
    return {
        "deaths over expected deaths": counties.raw_risk,
        "risk, posterior mean": np.exp(log_risk).mean((0, 1)),
        "probability that the risk is raised": (log_risk > 0).mean((0, 1)),
        "a draw of the spatial effect from its prior": np.asarray(law.sample(random.key(0))),
    }


if __name__ == "__main__":
    main()
