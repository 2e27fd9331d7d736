"""Log weights of independent variables, as walks on a fiber read them.

The log weight of value v of variable i is ``slope[i] v + table[offset[i] + v]``, up to a constant.
"""

from abc import ABC, abstractmethod

import numpy as np
from scipy.special import gammaln, logsumexp

from constrained_core.errors import ConstraintError

__all__ = ["CountWeights", "TableWeights", "Weights"]

MAX_COUNT = 10_000_000
"""Largest count of a table of log factorials, 80 MB."""


class Weights(ABC):
    """Log weights of n variables, each between ``lower`` and ``upper``.

    Attributes:
        lower, upper: ``(n,)`` int64 least and largest value of positive weight; upper is None
            where the law has none.
    """

    lower: np.ndarray
    upper: np.ndarray | None

    @abstractmethod
    def slope(self) -> np.ndarray:
        """``(n,)`` log weight of one unit of each variable, beside the table."""

    @abstractmethod
    def table(self, largest: int) -> np.ndarray:
        """``(T,)`` for values up to ``largest``."""

    @abstractmethod
    def offset(self) -> np.ndarray:
        """``(n,)`` where the values of each variable begin in the table."""

    @abstractmethod
    def tilted(self, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(n,)`` means and variances under weights times ``exp(tilt v)``."""


class CountWeights(Weights):
    """Poisson counts of given rates; a rate of zero holds its variable at zero.

    Args:
        rate: ``(n,)`` nonnegative.
    """

    def __init__(self, rate: np.ndarray) -> None:
        self.rate = np.asarray(rate, dtype=np.float64)
        if not (np.isfinite(self.rate) & (self.rate >= 0)).all():
            raise ConstraintError(
                f"rate: expected finite rates of at least 0, got {self.rate.tolist()}; use exp or "
                "softplus to make them so."
            )
        self.lower = np.zeros(len(self.rate), dtype=np.int64)
        self.upper = None

    def slope(self) -> np.ndarray:
        """Log rates: the table says the rest."""
        return np.log(np.where(self.rate > 0, self.rate, 1.0))

    def table(self, largest: int) -> np.ndarray:
        """Minus log factorials, the same for all variables."""
        if largest > MAX_COUNT:
            raise ConstraintError(
                f"expected counts of at most {MAX_COUNT} on the fiber, got up to {largest}; use "
                "larger units, or a normal approximation."
            )
        return -gammaln(np.arange(largest + 1.0) + 1)

    def offset(self) -> np.ndarray:
        """Zeros: all variables share one table."""
        return np.zeros(len(self.rate), dtype=np.int64)

    def tilted(self, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Poisson again."""
        mean = self.rate * np.exp(np.minimum(tilt, 50.0))
        return mean, mean


class TableWeights(Weights):
    """Finitely many values, 0..C-1, of given log weights; minus infinity where impossible.

    Args:
        log_weights: ``(n, C)``, Bernoulli with C = 2.
    """

    def __init__(self, log_weights: np.ndarray) -> None:
        self.log_weights = np.asarray(log_weights, dtype=np.float64)
        possible = self.log_weights > -np.inf
        if np.isnan(self.log_weights).any() or not possible.any(axis=1).all():
            raise ConstraintError(
                "probabilities: expected at least one positive one of every variable and no NaN, "
                f"got log weights {self.log_weights.tolist()}; check how they are computed."
            )
        self.lower = possible.argmax(axis=1)
        self.upper = possible.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)

    @property
    def has_holes(self) -> bool:
        """Whether a value between possible ones is impossible."""
        possible = self.log_weights > -np.inf
        between = np.logical_or.accumulate(possible, axis=1)
        between &= np.logical_or.accumulate(possible[:, ::-1], axis=1)[:, ::-1]
        return bool((between & ~possible).any())

    def slope(self) -> np.ndarray:
        """Zeros: the table says it all."""
        return np.zeros(len(self.log_weights))

    def table(self, largest: int) -> np.ndarray:
        """The log weights, row after row."""
        return self.log_weights.ravel()

    def offset(self) -> np.ndarray:
        """A row for each variable."""
        n, categories = self.log_weights.shape
        return np.arange(n) * categories

    def tilted(self, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By normalised tables."""
        values = np.arange(self.log_weights.shape[1])
        scores = self.log_weights + np.clip(tilt, -50, 50)[:, None] * values
        probs = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        mean = probs @ values
        return mean, (probs * (values - mean[:, None]) ** 2).sum(axis=1)
