"""A factored saddle-point matrix, whose solutions are refined where rounding is too large."""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from constrained_core.linear.residual import ResidualOf
from constrained_core.linear.saddle_pattern import SaddlePattern

__all__ = ["REFINEMENTS", "RefinedFactor"]

FINE = 16 * float(np.finfo(np.float64).eps)
"""Residual that needs no refinement, over the right-hand side and the solution times the largest
sum of a row of |K|: rounding of K alone makes one of eps."""
EVEN = 1e4
"""Ratio of entries of K, scaled to about one, up to which a solution is refined as a whole; from
there on by residuals in twice the precision, as small variables have digits of their own, and
multipliers of their size cancel in the rows of large ones."""
REFINEMENTS = 3
"""How often it is, at most."""
DIGITS = 16
LITTLE_LOSS = 1e-13
"""Relative error of a solution that one refinement as a whole removes."""
TOGETHER = 8
"""Vectors that are solved for at once."""


class RefinedFactor(ABC):
    """K with known values, of which T K T is factored.

    Args:
        pattern: of K.
        values: ``(nq + 2 na,)`` its entries; they may be complex, for derivatives by a complex
            step.
        scale: ``(n + r,)`` powers of two T.
    """

    def __init__(self, pattern: SaddlePattern, values: np.ndarray, scale: np.ndarray) -> None:
        self.pattern, self.scale = pattern, scale
        row, column = pattern.entries
        self.scaled = values * scale[row] * scale[column]
        self._whole = pattern.filled(self.scaled)
        size = np.abs(self.scaled)
        self._norm = np.bincount(row, size, minlength=pattern.size).max(initial=0.0)
        self._is_even = EVEN * size.min(initial=np.inf, where=size > 0) > size.max(initial=0.0)

    @property
    def loss(self) -> float:
        """Relative error of what is found without refinement, where it may be large."""
        return 0.0

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``K^-1 right`` for ``(..., n + r)``, refined where rounding is seen to be larger than it
        must be."""
        vectors = right.reshape(-1, self.pattern.size)
        solution = np.empty(vectors.shape, dtype=self._whole.dtype)
        for start in range(0, len(vectors), TOGETHER):  # as many as stay in the cache
            part = slice(start, start + TOGETHER)
            solution[part] = self._refined(vectors[part] * self.scale) * self.scale
        return solution.reshape(right.shape)

    def _refined(self, scaled: np.ndarray) -> np.ndarray:
        solution = self._solve(scaled)
        if self._is_even and self.loss < LITTLE_LOSS:
            rest = scaled - (self._whole @ solution.T).T
            fine = FINE * (self._norm * _largest(solution) + _largest(scaled))
            is_coarse = ~(np.abs(rest) <= fine[:, None]).all(-1)
            if is_coarse.any():
                solution[is_coarse] += self._solve(rest[is_coarse])
            return solution
        for _ in range(self._num_refinements):
            change = self._solve(self._residual(solution, scaled))
            solution += change
            if (np.abs(change) <= FINE * np.abs(solution)).all():
                break
        return solution

    def _estimated_loss(self) -> float:
        right = np.random.default_rng(0).standard_normal((1, self.pattern.size))
        solution = self._solve(right)
        change = self._solve(self._residual(solution, right))
        return float(np.abs(change).max(initial=0.0) / np.abs(solution).max(initial=1e-300))

    @cached_property
    def _num_refinements(self) -> int:
        if self.loss < LITTLE_LOSS:
            return REFINEMENTS
        return math.ceil(DIGITS / -math.log10(min(self.loss, 0.1)))  # each removes as many digits

    @cached_property
    def _residual(self) -> ResidualOf:
        return ResidualOf(self._whole)

    @abstractmethod
    def _solve(self, right: np.ndarray) -> np.ndarray:
        """``(T K T)^-1 right`` for ``(k, n + r)``."""


def _largest(vectors: np.ndarray) -> np.ndarray:
    return np.abs(vectors).max(-1, initial=0.0)
