"""A saddle-point matrix with known values, factored.

K is permuted so that a few *late* indices come last (``saddle_ordering``). K11 of
the others is L D L' with a sparse L, from SciPy's SuperLU without exchanges of rows; what is left
for the late ones is the small dense S = K22 - K21 K11^-1 K12. The signs of D and of the eigenvalues
of S are the inertia of K: n positive and r negative ones where, and only where, Q is positive
definite on the null space of A (Gould 1985, *On practical conditions for the existence and
uniqueness of solutions to the general equality quadratic programming problem*).
"""

from functools import cached_property

import numpy as np
from scipy import sparse

from constrained_core.linear.saddle_ordering import (
    SMALL_PIVOT,
    Ordering,
    factor_in_order,
    postponed,
)
from constrained_core.linear.saddle_refined import RefinedFactor

__all__ = ["SaddleFactor"]

LARGE_MULTIPLIER = 1e4
"""Entry of L from which an order is chosen anew for the values at hand."""
ROUNDING = 1e3 * float(np.finfo(np.float64).eps)
"""Share of the terms of S up to which their sum may be rounding."""
ROUNDED = 1e-2
"""Size of a pivot, in a matrix of entries of about one, that may be rounding of single precision as
it grows in an elimination."""
MAX_POSTPONED = 16
"""Directions along which rounding may make a semidefinite matrix a negative one."""
STEEP = 1e4
"""Entry of the inverse, in a matrix of entries of about one, from which digits may be lost."""
ZERO = 1e-10
"""Eigenvalue of S, scaled to one, that is none."""


class SaddleFactor(RefinedFactor):
    """K with known values, factored.

    Args:
        ordering: where its indices go.
        values: ``(nq + 2 na,)`` entries of K; they may be complex, for derivatives by a complex
            step.
        scale: ``(n + r,)`` powers of two T: what is factored is T K T.
    """

    def __init__(self, ordering: Ordering, values: np.ndarray, scale: np.ndarray) -> None:
        super().__init__(ordering.pattern, values, scale)
        self.ordering, self._values = ordering, values
        first, self._across, self._last = ordering.split(self.scaled)
        self._factor = factor_in_order(first) if first.shape[0] else None
        self.explained = self.solve_early(self._across)
        self.rest = self._last - self._across.T @ self.explained

    def moved(self, values: np.ndarray) -> "SaddleFactor":
        """The same for other values of K."""
        return SaddleFactor(self.ordering, values, self.scale)

    def without_negative_pivots(self) -> "SaddleFactor":
        """The factor whose late indices are also those with pivots that are not positive: of a
        semidefinite matrix by rounding."""
        factor = self
        for _ in range(MAX_POSTPONED):
            negative = np.flatnonzero(factor.pivots <= 0)
            if not len(negative) or factor.pivots[negative[0]] < -ROUNDED:
                break
            # What comes after the first one is of no meaning.
            factor = SaddleFactor(
                postponed(factor.ordering, negative[:1]), self._values, self.scale
            )
        return factor

    @property
    def num_entries(self) -> int:
        """Entries of the factor."""
        early, late = len(self.ordering.early), self.num_late
        return int(self.lower.nnz + early * late + late**2)

    @property
    def num_late(self) -> int:
        """Indices that come last, where the factor is dense."""
        return len(self.ordering.late)

    @cached_property
    def lower(self) -> sparse.csc_array:
        """L, as SuperLU has it: rows are in no order."""
        return sparse.csc_array((0, 0)) if self._factor is None else self._factor.L.tocsc()

    @cached_property
    def pivots(self) -> np.ndarray:
        """``(n + r - t,)`` D."""
        return np.zeros(0) if self._factor is None else self._factor.U.diagonal()

    @property
    def is_in_order(self) -> bool:
        """Whether K11 is L D L': where a pivot is zero, SuperLU exchanges rows without a word."""
        return self._factor is None or _is_identity(self._factor.perm_r)

    @property
    def is_stable(self) -> bool:
        """Whether the order serves these values."""
        if not (self.is_in_order and (np.abs(self.pivots) >= SMALL_PIVOT).all()):
            return False
        entries = self.lower.data
        smallest, largest = entries.min(initial=0.0), entries.max(initial=0.0)
        return bool(-LARGE_MULTIPLIER < smallest and largest < LARGE_MULTIPLIER)

    @cached_property
    def clearance(self) -> float:
        """Share of the square of a row that those before it leave, where it is least: what is lost
        of its digits."""
        n, ordering = self.pattern.num_variables, self.ordering
        shares = np.abs(self.pivots[ordering.early >= n])
        try:
            late = np.abs(np.diagonal(self._late_inverse))[ordering.late >= n]
        except np.linalg.LinAlgError:
            return 0.0
        return float(min(shares.min(initial=1.0), 1 / late.max(initial=1.0)))

    @cached_property
    def loss(self) -> float:
        if self.pattern.is_diagonal:
            return float(np.finfo(np.float64).eps) / self.clearance
        late = np.abs(np.diagonal(self._late_inverse)).max(initial=0.0)
        if np.abs(self.pivots).min(initial=1.0) * STEEP > 1 and late < STEEP:
            return 0.0
        return self._estimated_loss()

    @cached_property
    def _late(self) -> tuple[np.ndarray, np.ndarray]:
        """S without what is rounding, scaled to about one, and the scale."""
        size = np.abs(self._last) + np.abs(self._across).T @ np.abs(self.explained)
        rest = np.where(np.abs(self.rest) > ROUNDING * size, self.rest, 0.0)
        scale = _balance(np.abs(rest))
        return scale[:, None] * rest * scale, scale

    def signs(self) -> tuple[int, int]:
        """The numbers of zero and of negative eigenvalues of K."""
        values = np.linalg.eigvalsh(self._late[0])
        negative = (self.pivots < 0).sum() + (values <= -ZERO).sum()
        return int((np.abs(values) < ZERO).sum()), int(negative)

    @cached_property
    def log_det(self) -> float:
        """log |det K|."""
        scaled = np.log(np.abs(self.pivots)).sum() + np.linalg.slogdet(self.rest)[1]
        return float(scaled - 2 * np.log(self.scale).sum())

    def _solve(self, right: np.ndarray) -> np.ndarray:
        """For ``(k, n + r)``: row by row, as SuperLU reads its columns."""
        first, last = (
            np.take(right, index, axis=1) for index in (self.ordering.early, self.ordering.late)
        )
        late = (last - first @ self.explained) @ self._late_inverse
        early = self.solve_early(first.T).T - late @ self.explained.T
        return np.take(np.concatenate([early, late], axis=1), self.ordering.place, axis=1)

    def solve_early(self, right: np.ndarray) -> np.ndarray:
        if self._factor is None or right.shape[1] == 0:
            return right.astype(self._whole.dtype)
        return self._factor.solve(np.asfortranarray(right, dtype=self._whole.dtype))

    @cached_property
    def _late_inverse(self) -> np.ndarray:
        scale = _balance(np.abs(self.rest))
        return scale[:, None] * np.linalg.inv(scale[:, None] * self.rest * scale) * scale

    @property
    def has_root_of_precision(self) -> bool:
        """Whether what is factored first is a positive definite Q."""
        first = self.pivots[: self.pattern.num_variables]
        return self.ordering.has_variables_first and bool((first > 0).all())

    def root(self, noise: np.ndarray) -> np.ndarray:
        """``(..., n)`` of covariance Q from white noise ``(..., n + r)``, of which the last r are
        not needed, where Q is factored first, or where it is positive semidefinite and all of K."""
        n = self.pattern.num_variables
        white = noise.reshape(-1, noise.shape[-1]).T[:n]
        drawn = self._root_of_first(white) if self.has_root_of_precision else self._root(white)
        return (drawn.T / self.scale[:n]).reshape(*noise.shape[:-1], n)

    def _root_of_first(self, white: np.ndarray) -> np.ndarray:
        n = self.pattern.num_variables
        lower = self.lower if len(self.pivots) == n else self.lower[:n, :n]
        drawn = np.empty_like(white)
        drawn[self.ordering.early[:n]] = lower @ (np.sqrt(self.pivots[:n])[:, None] * white)
        return drawn

    def _root(self, white: np.ndarray) -> np.ndarray:
        late, scale = self._late
        values, vectors = np.linalg.eigh(late)
        first, last = np.split(white, [len(self.ordering.early)])
        early = self.coloured(first)
        own = (vectors * np.sqrt(np.maximum(values, 0.0))) @ (vectors.T @ last) / scale[:, None]
        return np.concatenate([early, self.explained.T @ early + own])[self.ordering.place]

    def coloured(self, white: np.ndarray) -> np.ndarray:
        """``(n + r - t, k)`` of covariance K11 from white noise, if that is positive definite."""
        return self.lower @ (np.sqrt(self.pivots)[:, None] * white)

    @cached_property
    def selected_inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """``K^-1`` where Q has entries, ``(nq,)``, and where A has, ``(na,)``."""
        row, column = self.pattern.inverse_entries
        # K^-1 is that of K11, and E S^-1 E' with E = [K11^-1 K12; -I].
        spread = np.concatenate([self.explained, -np.eye(len(self.rest))])[self.ordering.place]
        values = np.einsum("et,et->e", (spread @ self._late_inverse)[row], spread[column])
        inside, places = self.ordering.inverse_places
        values[inside] += self._early_inverse()[places]
        values = values * self.scale[row] * self.scale[column]
        return values[: len(self.pattern.q_row)], values[len(self.pattern.q_row) :]

    def _early_inverse(self) -> np.ndarray:
        store = self.ordering.spread(self.lower.sorted_indices())
        return self.ordering.supernodes.inverse(store, self.pivots)


def _is_identity(permutation: np.ndarray) -> bool:
    return bool((permutation == np.arange(len(permutation))).all())


def _balance(size: np.ndarray) -> np.ndarray:
    """``(t,)`` T such that the largest entries of the rows of T S T are about one (Ruiz 2001)."""
    scale = np.ones(len(size))
    for _ in range(10 if size.size else 0):
        largest = (scale[:, None] * size * scale).max(1)
        scale = scale / np.sqrt(np.where(largest > 0, largest, 1.0))
    return scale
