"""``b - M x`` for a sparse M, as if in twice the precision, where its terms cancel."""

import numpy as np
from scipy import sparse

__all__ = ["ResidualOf"]

HALF = 2.0**27 + 1.0
"""What splits a double into two of half as many bits (Dekker 1971)."""


class ResidualOf:
    """Residuals of equations ``M x = b`` (S. Rump, T. Ogita, S. Oishi, *Accurate floating-point
    summation*, SIAM J. Sci. Comput. 31, 2008).

    Products are split into what is rounded and its rounding error, the former into high bits, all
    multiples of one number, which add up without rounding, and low bits.

    Args:
        matrix: M; every row has an entry.
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        self._columns, self._starts = matrix.indices, matrix.indptr[:-1]
        counts = np.diff(matrix.indptr)
        self._row = np.repeat(np.arange(len(counts)), counts)
        self._values, self._count = matrix.data, 2.0 ** np.ceil(np.log2(np.maximum(counts, 1)) + 1)
        self._high, self._low = _halves(matrix.data)

    def __call__(self, solution: np.ndarray, right: np.ndarray) -> np.ndarray:
        """``right - M solution`` for ``(k, size)`` each."""
        x = solution[:, self._columns]
        product = self._values * x
        high, low = _halves(x)
        error = self._high * high - product + self._high * low + self._low * high
        error += self._low * low
        step = self._count * _power_above(
            np.maximum.reduceat(np.abs(product), self._starts, axis=1)
        )
        step = step[:, self._row]
        coarse = (product + step) - step
        rest = right - self._sums(coarse)
        return rest - (self._sums(product - coarse) + self._sums(error))

    def _sums(self, terms: np.ndarray) -> np.ndarray:
        return np.add.reduceat(terms, self._starts, axis=1)


def _halves(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """High and low bits: the products of halves are exact."""
    spread = HALF * numbers
    high = spread - (spread - numbers)
    return high, numbers - high


def _power_above(size: np.ndarray) -> np.ndarray:
    """A power of two that is no smaller."""
    return np.ldexp(1.0, np.frexp(size)[1])
