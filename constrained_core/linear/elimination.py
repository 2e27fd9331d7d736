"""Sparse elimination: r variables with well conditioned columns that follow from the others."""

import math

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.sparse.linalg import splu

from constrained_core.errors import ConstraintError
from constrained_core.linear.structure import rounding, without_rounding

__all__ = ["Elimination", "choose_pivots"]

REFINEMENTS = 2
"""Steps of iterative refinement: one repairs an unlucky pivot order, the second is for safety."""

MAX_FILL = 50
"""Followers are made where they have at most so many times the entries of A."""

PERTURBATIONS = (1e-15, 1e-13, 1e-11, 1e-9)
"""Relative sizes of the noise that keeps later pivots from being zero, in turn. None of them is 0:
of a matrix with several pivots that are exactly zero, SuperLU (SciPy 1.17) may read and write past
the end of its arrays."""

TIE = 1 - 1e-6
"""A guess is kept where no entry is larger than it by more than this ratio says."""

SHORT = 0.01
"""How much a short column counts beside a large entry: it decides between equal ones."""


class Elimination:
    """``A[:, pivots]`` factored, so that pivots follow from the other variables.

    Args:
        matrix: ``(r, n)`` independent rows.
        pivots: ``(r,)`` variables, ascending.
        free: ``(n - r,)`` the others, ascending.
    """

    def __init__(self, matrix: sparse.csc_array, pivots: np.ndarray, free: np.ndarray) -> None:
        self._pivot_columns = sparse.csc_array(matrix[:, pivots])
        self._free_columns = sparse.csc_array(matrix[:, free])
        self._rank = len(pivots)
        self._factor = splu(self._pivot_columns) if self._rank else None

    @property
    def log_volume(self) -> float:
        """log |det A[:, pivots]|."""
        if self._factor is None:
            return 0.0
        return float(np.log(np.abs(self._factor.U.diagonal())).sum())

    def complete(self, k: np.ndarray, free_values: np.ndarray) -> np.ndarray:
        """The pivots ``(..., r)`` that satisfy the rows."""
        batch = np.broadcast_shapes(k.shape[:-1], free_values.shape[:-1])
        moved = self._multiply(self._free_columns, free_values)
        return self.solve(np.broadcast_to(k - moved, (*batch, self._rank)))

    def complete_adjoint(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of ``complete``: what ``(..., r)`` means for k and for the free values."""
        on_k = self.solve(gradient, transposed=True)
        return on_k, -self._multiply(self._free_columns.T, on_k)

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """``A[:, pivots]^-1 right``, or by its transpose, for ``(..., r)``."""
        if self._factor is None or right.size == 0:
            return np.zeros(right.shape)
        columns = np.ascontiguousarray(right.reshape(-1, self._rank).T, dtype=np.float64)
        matrix = self._pivot_columns.T if transposed else self._pivot_columns
        how = "T" if transposed else "N"
        solution = self._factor.solve(columns, how)
        for _ in range(REFINEMENTS):
            solution += self._factor.solve(columns - matrix @ solution, how)
        return solution.T.reshape(right.shape)

    def _multiply(self, matrix: sparse.sparray, values: np.ndarray) -> np.ndarray:
        batch = values.shape[:-1]
        columns = values.reshape(math.prod(batch), matrix.shape[1]).T
        return (matrix @ columns).T.reshape(*batch, matrix.shape[0])

    def followers(self, is_fixed: np.ndarray) -> sparse.csr_array | None:
        """``A[:, pivots]^-1 A[:, free]`` without rounding errors, or None where it is too full.

        Args:
            is_fixed: ``(r,)`` the pivots that follow from no variable.
        """
        if self._factor is None:
            return sparse.csr_array(self._free_columns)
        budget = MAX_FILL * (self._pivot_columns.nnz + self._free_columns.nnz)
        factor = self._factor
        result = sparse.csr_array(self._free_columns)[np.argsort(factor.perm_r)]
        for triangle in (factor.L, factor.U):
            result = None if result is None else _solve_triangle(triangle, result, budget)
        if result is None:
            return None
        follows = sparse.diags_array((~is_fixed).astype(np.float64))
        result = without_rounding(follows @ result[factor.perm_c])
        return result if self._holds(result) else None

    def _holds(self, followers: sparse.csr_array) -> bool:
        """Whether the pivots' columns times the followers are the free columns."""
        gap = abs(self._pivot_columns @ followers - self._free_columns)
        size = abs(self._pivot_columns) @ abs(followers) + abs(self._free_columns)
        if 0 in size.shape:
            return True
        gap, size = gap.max(axis=0).toarray(), size.max(axis=0).toarray()
        return bool((gap <= 10 * rounding(self._rank) * size).all())


def _solve_triangle(
    triangle: sparse.csc_array, right: sparse.csr_array, budget: int
) -> sparse.csr_array | None:
    """``T^-1 right``, or None where more than ``budget`` entries would be held.

    With T = D (I - N), T^-1 = ... (I + N^4) (I + N^2) (I + N) D^-1: few products of sparse
    matrices.
    """
    inverse = sparse.diags_array(1 / triangle.diagonal())
    power = sparse.csr_array(sparse.eye_array(triangle.shape[0]) - inverse @ triangle)
    power.setdiag(0.0)
    power.eliminate_zeros()
    result = sparse.csr_array(inverse @ right)
    while power.nnz:
        result = sparse.csr_array(result + power @ result)
        power = power @ power
        for matrix in (result, power):
            matrix.eliminate_zeros()
            if matrix.nnz > budget:
                return None
    return result


def choose_pivots(rows: sparse.csr_array, order: np.ndarray) -> np.ndarray:
    """Variables whose columns are well conditioned, ascending.

    They are the pivots of Gaussian elimination of A' with partial pivoting: with A' = [L_1; L_2] U,
    pivots first, entries of L are at most 1, and the pivots of a null vector are -L_1'^-1 L_2'
    times its other entries: of moderate size in practice, though the worst case is 2^r.

    SuperLU factors square matrices only. A' is followed by unit columns of the variables that are
    not in a first guess, the matching of rows with variables that has the largest product of
    entries. Where that guess is of dependent columns a later pivot is zero: entries are perturbed
    then, as little as can be.

    Args:
        rows: ``(r, n)`` independent rows of lengths near one.
        order: ``(r,)`` in which the rows are eliminated.
    """
    rank, num_variables = rows.shape
    if rank == 0 or rank == num_variables:
        return np.arange(rank)
    guess = _matching(rows)
    others = np.setdiff1d(np.arange(num_variables), guess)
    place = np.concatenate([guess[order], others])
    units = sparse.eye_array(num_variables, format="csc")[:, others]
    noise = np.random.default_rng(0).uniform(-1, 1, size=rows.nnz)
    for perturbation in PERTURBATIONS:
        perturbed = rows.copy()
        perturbed.data *= 1 + perturbation * noise
        square = sparse.csc_array(sparse.hstack([perturbed[order].T, units], format="csr")[place])
        try:
            factor = splu(square, permc_spec="NATURAL", diag_pivot_thresh=TIE)
        except RuntimeError:  # a later pivot is exactly zero
            continue
        row_of_pivot = np.argsort(factor.perm_r)
        return np.sort(place[row_of_pivot[factor.perm_c[:rank]]])
    raise ConstraintError(
        "A: found no variables that follow from the others, as rows depend on each other but for "
        "the last digits; drop such rows."
    )


def _matching(rows: sparse.csr_array) -> np.ndarray:
    """A variable for each row, no two the same, of large entries in short columns."""
    entries = rows.tocoo()
    count = np.bincount(entries.col, minlength=rows.shape[1])
    size = np.log2(np.abs(entries.data))
    cost = 1 + size.max() - size + SHORT * np.log2(count[entries.col])
    graph = sparse.csr_array((cost, (entries.row, entries.col)), shape=rows.shape)
    _, variables = min_weight_full_bipartite_matching(graph)
    return variables.astype(np.int64)
