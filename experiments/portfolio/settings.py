"""All that the outcomes depend on; none of it was tuned."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """How to learn, trade and judge.

    Attributes:
        seeds: runs of each method; they differ in the start of the net and in the batches.
        first_years: of the windows in which the portfolio is traded.
        years: length of a window; they follow on each other.
        training_years: before a window, which the net of that window learns from.
        holding_days: trading days between two decisions.
        memory_days: trading days that a feature or a covariance looks back on.
        shrinkage: of the sample correlations towards 0.
        risk_aversion: of the quadratic utility w'r - risk_aversion / 2 (w'r)^2, r over a holding.
        draw_scale: standard deviation of a weight drawn from a law, about; a fraction.
        penalty_weight, semantic_weight: of the losses that have such a term.
        cost: of trading, per unit of turnover; 0.001 is 10 basis points.
        bootstrap_draws, block_days: of the standard errors.
    """

    seeds: int = 10
    first_years: tuple[int, ...] = (2003, 2008, 2013, 2018)
    years: int = 5
    training_years: int = 11
    holding_days: int = 21
    memory_days: int = 252
    shrinkage: float = 0.2
    hidden: int = 16
    steps: int = 100
    batch_size: int = 64
    learning_rate: float = 5e-3
    risk_aversion: float = 5.0
    draw_scale: float = 0.05
    penalty_weight: float = 10.0
    semantic_weight: float = 0.01
    cost: float = 0.001
    bootstrap_draws: int = 2000
    block_days: int = 63

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, seeds=1, first_years=(2018,), steps=2, bootstrap_draws=50)
