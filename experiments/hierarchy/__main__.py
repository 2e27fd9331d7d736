"""Forecasts of a hierarchy that add up, with their uncertainty.

Nights that visitors spend in 20 regions of Australia, in its states and in all, each forecast on
its own by exponential smoothing, from 20 origins and 1 to 4 quarters ahead. Such forecasts do not
add up. Reconciled ones are the mean of a conditional law: N(base forecasts, covariance of their
errors) given C x = 0. That mean is MinT (Wickramasuriya et al. 2019), to rounding; the law also
says how uncertain all nodes are, together, and its draws add up.

    python -m experiments.hierarchy [--short] [--only TEXT]
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpyro
import pandas as pd
from tqdm import tqdm

from experiments.command import parse
from experiments.hierarchy.cases import Case
from experiments.hierarchy.laws import METHODS
from experiments.hierarchy.report import BEST, report
from experiments.hierarchy.tourism import load_hierarchy

NAME = "hierarchy"


@dataclass(frozen=True)
class Settings:
    """What all outcomes depend on.

    Attributes:
        num_origins: the last quarters from which four more are known.
        num_draws: of the law, to see that they add up.
    """

    num_origins: int = 20
    horizons: tuple[int, ...] = (1, 2, 3, 4)
    num_draws: int = 1000

    def shortened(self) -> "Settings":
        """Two origins."""
        return replace(self, num_origins=2, num_draws=50)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what was asked for; returns a row for each method, origin and horizon."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    numpyro.enable_x64()
    hierarchy, record = load_hierarchy(), options.record(NAME, settings)
    first = len(hierarchy.series) - max(settings.horizons) - settings.num_origins + 1
    case = cache(lambda origin, horizon: Case.at(hierarchy, origin, horizon))
    for origin in tqdm(range(first, first + settings.num_origins), NAME):
        for horizon in settings.horizons:
            for method in options.chosen(list(METHODS)):
                key = {"method": method, "origin": origin, "horizon": horizon}
                if key in record:
                    continue
                given = case(origin, horizon)
                forecast = METHODS[method](hierarchy, given.base)
                outcome = given.score(hierarchy, forecast)
                if method == BEST:
                    outcome |= given.agreement(hierarchy, settings.num_draws)
                record.add(key, outcome)
    runs = record.frame()
    report(options.folder, NAME, settings, hierarchy, runs)
    return runs


if __name__ == "__main__":
    main()
