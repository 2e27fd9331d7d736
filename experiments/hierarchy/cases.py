"""One origin and horizon: base forecasts, the truth, and scores."""

from dataclasses import dataclass

import numpy as np

from experiments.hierarchy.forecasts import (
    Smoothing,
    likely_df,
    shrunk_covariance,
    split_covariance,
)
from experiments.hierarchy.laws import (
    Base,
    Forecast,
    conditional,
    incoherence,
    largest_residual,
    minimum_trace,
    ours,
)
from experiments.hierarchy.tourism import QUARTERS, Hierarchy


@dataclass(frozen=True, eq=False)
class Case:
    """One origin and horizon.

    Attributes:
        base: forecasts, and the law of their errors as seen before the origin.
        truth: ``(nodes,)``.
        unit: ``(nodes,)`` mean error before the origin of the same quarter a year ago, a scale.
    """

    base: Base
    truth: np.ndarray
    unit: np.ndarray

    @classmethod
    def at(cls, hierarchy: Hierarchy, origin: int, horizon: int) -> "Case":
        """Forecasts from the first ``origin`` quarters alone."""
        past = hierarchy.series[:origin]
        smoothing = Smoothing.fit(past)
        errors = smoothing.errors(horizon)
        covariance = shrunk_covariance(errors)
        base = Base(
            smoothing.forecast(horizon),
            covariance,
            likely_df(errors, covariance),
            split_covariance(errors, covariance, hierarchy.coherence),
        )
        unit = np.abs(past[QUARTERS:] - past[:-QUARTERS]).mean(0)
        truth = hierarchy.series[origin + horizon - 1]
        return cls(base, truth, unit)

    def score(self, hierarchy: Hierarchy, forecast: Forecast) -> dict[str, float]:
        """How good a forecast is; errors by level over the unit of each node."""
        crps = forecast.crps(self.truth) / self.unit
        error = np.abs(forecast.mean - self.truth) / self.unit
        return {
            **{f"crps_{level}": crps[nodes].mean() for level, nodes in hierarchy.levels.items()},
            "crps": crps.mean(),
            "error": error.mean(),
            "log_score": forecast.log_score(self.truth, hierarchy.levels["regions"]),
            "inside_50": forecast.is_inside(self.truth, 0.5).mean(),
            "inside_90": forecast.is_inside(self.truth, 0.9).mean(),
            "incoherence": incoherence(hierarchy, forecast),
        }

    def agreement(self, hierarchy: Hierarchy, num_draws: int) -> dict[str, float]:
        """How far ours is from MinT, and its draws from adding up."""
        found = conditional(hierarchy, self.base)
        published = minimum_trace(hierarchy, self.base)
        law = ours(hierarchy, self.base)
        size = np.abs(published.covariance).max()
        return {
            "from_mint": np.abs(found.mean / published.mean - 1).max(),
            "covariance_from_mint": np.abs(found.covariance - published.covariance).max() / size,
            "residual": largest_residual(law, num_draws),
        }
