"""How good estimates of a gradient are, beside the exact one."""

from typing import NamedTuple

import numpy as np

__all__ = ["Quality", "cosine_distance"]


class Quality(NamedTuple):
    """How good gradient estimates are; see the notes under the table."""

    bias: float
    variance: float
    error: float
    relative_bias: float

    @classmethod
    def of(cls, estimates: np.ndarray, exact: np.ndarray) -> "Quality":
        """From ``(draws, n)`` estimates of an ``(n,)`` gradient."""
        estimates = np.asarray(estimates, dtype=np.float64)
        mean = estimates.mean(0)
        return cls(
            bias=float(cosine_distance(mean, exact)),
            variance=float(cosine_distance(estimates, mean).mean()),
            error=float(cosine_distance(estimates, exact).mean()),
            relative_bias=float(np.linalg.norm(mean - exact) / np.linalg.norm(exact)),
        )


def cosine_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - cosine of the angle along the last dimension; 1 where one of them is zero."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return 1 - (one * other).sum(-1) / np.where(lengths > 0, lengths, 1.0)
