"""A root of a precision that is positive definite on the null space of A only.

With w of covariance Q + R'R, where R are rows of A in any units, K^-1 [w; 0] has the conditional
covariance C = (K^-1)_11 as with covariance Q itself, since C A' = 0 and C Q C = C. That matrix is
positive definite where Q is on the null space of A, in whatever way rounding turns the eigenvalues
of Q that are zero.
"""

import numpy as np
from scipy import linalg, sparse

from constrained_core.cache import Cache, Content
from constrained_core.errors import ParameterError
from constrained_core.linear.field_words import NOT_DEFINITE_ALONE
from constrained_core.linear.saddle_factor import SaddleFactor
from constrained_core.linear.saddle_factors import factor_of_precision, factor_saddle
from constrained_core.linear.saddle_pattern import SaddlePattern

__all__ = ["CompletedRoot", "root_for_noise"]

WEIGHTS = 1.0, 1e6
"""Of R'R beside a Q whose entries are about one; a large one where Q is negative across A."""


class CompletedRoot:
    """A root of Q + R'R, from a factor of Q.

    Q is split as in the factor: K11 = L D L' of the *early* variables, and the Schur complement S
    of the few *late* ones, which have the directions along which Q is singular. As many rows R as
    there are late variables complete S.

    Args:
        factor: of Q alone.
        rows: ``(r, n)`` A.

    Raises:
        ParameterError: Q + R'R is not seen to be positive definite.
    """

    def __init__(self, factor: SaddleFactor, rows: sparse.csr_array) -> None:
        self._factor = factor = factor.without_negative_pivots()
        if (factor.pivots <= 0).any():
            raise ParameterError(NOT_DEFINITE_ALONE)
        rows = rows.multiply(factor.scale[None]).tocsr()
        rows = rows.multiply(1 / sparse.linalg.norm(rows, axis=1)[:, None]).tocsr()
        early, late = (rows[:, index] for index in (factor.ordering.early, factor.ordering.late))
        # A on the vectors that Q sees only by S.
        across = late.toarray() - early @ factor.explained
        chosen = _leading_rows(across)
        self._early = early[chosen].toarray().T
        self._late, across = late[chosen].toarray().T, across[chosen]
        self._solved = factor.solve_early(self._early)
        gram = self._early.T @ self._solved
        for weight in WEIGHTS:
            self._inner = np.linalg.inv(np.eye(len(gram)) / weight + gram)
            completed = factor.rest + across.T @ self._inner @ across
            try:
                self._rest = np.linalg.cholesky((completed + completed.T) / 2)
            except np.linalg.LinAlgError:
                continue
            self._weight = np.sqrt(weight)
            return
        raise ParameterError(NOT_DEFINITE_ALONE)

    def root(self, noise: np.ndarray) -> np.ndarray:
        """``(..., n)`` of covariance Q + R'R from white noise ``(..., n + r)``."""
        factor, size = self._factor, len(self._factor.ordering.early)
        n, count = len(factor.scale), len(self._inner)
        white = noise.reshape(-1, noise.shape[-1]).T
        first, last, more = white[:size], white[size:n], white[n : n + count]
        early = factor.coloured(first) + self._weight * (self._early @ more)
        # The late ones given the early ones.
        through = self._inner @ (self._solved.T @ early)
        late = factor.explained.T @ (early - self._early @ through) + self._late @ through
        late = late + self._rest @ last
        drawn = np.concatenate([early, late])[factor.ordering.place]
        return (drawn.T / factor.scale).reshape(*noise.shape[:-1], n)


def _leading_rows(across: np.ndarray) -> np.ndarray:
    """As many rows as there are columns, which tell these apart best."""
    if 0 in across.shape:
        return np.arange(0)
    return linalg.qr(across.T, mode="r", pivoting=True)[1][: across.shape[1]]


_PRECISIONS: Cache[SaddleFactor] = Cache(max_entries=8)
_ROOTS: Cache[CompletedRoot] = Cache(max_entries=8)


def root_for_noise(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, fixed: bool = True
) -> SaddleFactor | CompletedRoot:
    """What makes noise whose covariance is Q, but for what K^-1 takes away: K where Q is factored
    first and positive definite, Q where it is seen to be semidefinite, else Q completed by A.

    Args:
        fixed: whether A is: where it moves, noise that depends on it has a derivative that nothing
            here knows.

    Raises:
        ParameterError: Q is not positive definite on the null space of A; or A is not fixed and Q
            is seen to have negative eigenvalues.
    """
    factor = factor_saddle(pattern, q, a)
    if isinstance(factor, SaddleFactor) and factor.has_root_of_precision:
        return factor
    of_q, of_a = Content(q), Content(a)
    alone = _PRECISIONS.get((pattern, of_q), lambda: factor_of_precision(pattern, q))
    if not alone.signs()[1]:  # this root is the same whatever A is, which may be learned elsewhere
        return alone
    if not fixed:
        raise ParameterError(NOT_DEFINITE_ALONE)
    shape = pattern.num_rows, pattern.num_variables
    rows = sparse.csr_array((a, (pattern.a_row, pattern.a_column)), shape=shape)
    return _ROOTS.get((pattern, of_q, of_a), lambda: CompletedRoot(alone, rows))
