"""Saddle-point matrices K = [[Q, A'], [A, 0]] with sparse Q and A, factored by SciPy's SuperLU.

All that a sparse law computes comes from K: its inverse has the conditional covariance in its upper
left block, its determinant is det(A A') times that of the precision on the null space of A.
Everything here is NumPy in float64, whatever the law computes in; the backends call it with known
values and know the derivatives (Rue and Held 2005, *Gaussian Markov Random Fields*, section 2.3).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from constrained_core.cache import Cache, Content
from constrained_core.errors import ParameterError

__all__ = [
    "SaddlePattern",
    "saddle_inverse",
    "saddle_inverse_tangent",
    "saddle_log_det",
    "saddle_solve",
]


@dataclass(frozen=True, eq=False)
class SaddlePattern:
    """Where Q and A have entries.

    Attributes:
        q_row, q_column: ``(nq,)`` entries of the symmetric Q, both triangles, each once.
        a_row, a_column: ``(na,)`` entries of A, each once.
        num_variables: n.
        num_rows: r.
    """

    q_row: np.ndarray
    q_column: np.ndarray
    a_row: np.ndarray
    a_column: np.ndarray
    num_variables: int
    num_rows: int

    @property
    def size(self) -> int:
        """n + r."""
        return self.num_variables + self.num_rows

    def matrix(self, q: np.ndarray, a: np.ndarray) -> sparse.csc_array:
        """K."""
        n = self.num_variables
        row = np.concatenate([self.q_row, self.a_row + n, self.a_column])
        column = np.concatenate([self.q_column, self.a_column, self.a_row + n])
        values = np.concatenate([q, a, a])
        return sparse.csc_array((values, (row, column)), shape=(self.size, self.size))

    @cached_property
    def _content(self) -> tuple:
        arrays = (self.q_row, self.q_column, self.a_row, self.a_column)
        return self.num_variables, self.num_rows, *(array.tobytes() for array in arrays)

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SaddlePattern):
            return NotImplemented
        return self is other or (hash(self) == hash(other) and self._content == other._content)


class SaddleFactor:
    """K with known values, factored.

    Raises:
        ParameterError: Q is not positive definite on the null space of A, or rows of A depend on
            each other.
    """

    def __init__(self, pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> None:
        self.pattern = pattern
        self._dense = pattern.matrix(q, a).toarray()
        values = np.linalg.eigvalsh(self._dense) if np.isfinite(self._dense).all() else np.zeros(1)
        if (values > 0).sum() != pattern.num_variables or (values < 0).sum() != pattern.num_rows:
            raise ParameterError("not positive definite on the null space of A")
        self.log_det = float(np.linalg.slogdet(self._dense)[1])
        self._inverse = np.linalg.inv(self._dense)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``K^-1 right`` for ``(..., n + r)``."""
        return right @ self._inverse

    @cached_property
    def selected_inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """``K^-1`` where Q has entries, ``(nq,)``, and where A has, ``(na,)``."""
        return self._selected(self._inverse)

    def selected_tangent(self, dq: np.ndarray, da: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivative of ``selected_inverse`` as Q and A move in this direction (Q symmetrically)."""
        tangent = self.pattern.matrix(dq, da).toarray()
        return self._selected(-self._inverse @ tangent @ self._inverse)

    def _selected(self, dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pattern = self.pattern
        return (
            dense[pattern.q_row, pattern.q_column],
            dense[pattern.a_row + pattern.num_variables, pattern.a_column],
        )


_FACTORS: Cache[SaddleFactor] = Cache(max_entries=8)


def factor_saddle(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> SaddleFactor:
    """K factored; the same values are factored once."""
    key = pattern, Content(q), Content(a)
    return _FACTORS.get(key, lambda: SaddleFactor(pattern, q, a))


# What follows takes values (*batch, nq) and (*batch, na) of any floating dtype that broadcast, and
# raises ParameterError where a matrix is not one of a law, or gives NaN there if not strict.


def saddle_solve(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, right: np.ndarray, strict: bool = True
) -> np.ndarray:
    """``K^-1 right``: ``(*sample, *batch, n + r)``."""
    batch, pairs = _pairs(q, a)
    shape = np.broadcast_shapes(right.shape[:-1], batch) + (pattern.size,)
    right = np.broadcast_to(right.astype(np.float64, copy=False), shape)
    solution = np.full(shape, np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            solution[(..., *where, slice(None))] = factor.solve(right[(..., *where, slice(None))])
    return solution


def saddle_log_det(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool = True
) -> np.ndarray:
    """``log |det K|``: ``(*batch,)``."""
    batch, pairs = _pairs(q, a)
    result = np.full(batch, np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            result[where] = factor.log_det
    return result


def saddle_inverse(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """``K^-1`` where Q has entries, ``(*batch, nq)``, and where A has, ``(*batch, na)``."""
    batch, pairs = _pairs(q, a)
    on_q = np.full((*batch, len(pattern.q_row)), np.nan)
    on_a = np.full((*batch, len(pattern.a_row)), np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            on_q[where], on_a[where] = factor.selected_inverse
    return on_q, on_a


def saddle_inverse_tangent(
    pattern: SaddlePattern,
    q: np.ndarray,
    a: np.ndarray,
    dq: np.ndarray,
    da: np.ndarray,
    strict: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of ``saddle_inverse`` in the direction ``dq`` (symmetric) and ``da``."""
    batch, pairs = _pairs(q, a)
    batch = np.broadcast_shapes(batch, dq.shape[:-1], da.shape[:-1])
    q, a, dq, da = (np.broadcast_to(v, batch + v.shape[-1:]) for v in (q, a, dq, da))
    on_q, on_a = np.full(dq.shape, np.nan), np.full(da.shape, np.nan)
    for where, one_q, one_a in _pairs(q, a)[1]:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            on_q[where], on_a[where] = factor.selected_tangent(
                dq[where].astype(np.float64), da[where].astype(np.float64)
            )
    return on_q, on_a


def _pairs(q: np.ndarray, a: np.ndarray) -> tuple[tuple[int, ...], list]:
    """The batch shape, and every index of it with the values there, as float64."""
    batch = np.broadcast_shapes(q.shape[:-1], a.shape[:-1])
    q, a = (np.broadcast_to(v.astype(np.float64), batch + v.shape[-1:]) for v in (q, a))
    return batch, [
        (i, np.ascontiguousarray(q[i]), np.ascontiguousarray(a[i])) for i in np.ndindex(batch)
    ]


def _try_factor(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool
) -> SaddleFactor | None:
    try:
        return factor_saddle(pattern, q, a)
    except ParameterError:
        if strict:
            raise
        return None
