"""Frozen facts about a constraint: what the backends need to know and nothing they compute.

Every plan describes ``B x = c``, the constraint that is executed, and how it comes from the
user's ``A x = k``: the rows ``kept`` of A are scaled (``row_scale``), and where A is badly
conditioned they are also orthonormalised (``triangle``), so that ``B`` always is well conditioned.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse

from constrained_core.structure import BlockReflector, block_reflector, first_members

__all__ = ["AnyPlan", "DensePlan", "GroupPlan", "Plan", "RowPlan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What all plans share.

    Attributes:
        num_rows: m, the rows of A as given.
        num_variables: n.
        kept: indices of the r independent rows that are executed, ascending.
        row_scale: ``(r,)`` factors; the scaled rows are ``A[kept] * row_scale[:, None]``.
        log_volume: 1/2 log det(B B').
        log_range_volume: 1/2 log of the pseudo-determinant of A A'.
        determined: ``(d,)`` the variables that A x = k alone determines.
        dependence: ``(m - r, r)`` every redundant row of A in terms of the scaled rows.
    """

    num_rows: int
    num_variables: int
    kept: np.ndarray
    row_scale: np.ndarray
    log_volume: float
    log_range_volume: float
    determined: np.ndarray
    dependence: np.ndarray | sparse.csr_array

    @property
    def rank(self) -> int:
        """r, the number of independent rows."""
        return len(self.kept)

    @property
    def free_size(self) -> int:
        """n - r, the dimension of the subspace."""
        return self.num_variables - self.rank

    @property
    def has_full_row_rank(self) -> bool:
        """Whether no row is redundant."""
        return self.rank == self.num_rows

    @cached_property
    def dropped(self) -> np.ndarray:
        """Indices of the redundant rows."""
        return np.setdiff1d(np.arange(self.num_rows), self.kept)


@dataclass(frozen=True, eq=False)
class RowPlan(Plan):
    """One independent row.

    Attributes:
        weights: ``(n,)`` the scaled row, or None for a row of ones.
    """

    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class GroupPlan(Plan):
    """Disjoint groups: row g sums ``weights[i] * x[i]`` over the members of group g.

    Attributes:
        index: ``(n,)`` the executed row of every variable, 0..r-1; variables of a group whose
            weights are all zero are in no row and have weight 0.
        weights: ``(n,)`` scaled weights, or None where all are one.
    """

    index: np.ndarray
    weights: np.ndarray | None

    @cached_property
    def given_index(self) -> np.ndarray:
        """``(n,)`` the row of A, 0..m-1, of every variable."""
        return self.kept[self.index]

    @cached_property
    def given_weights(self) -> np.ndarray | None:
        """``(n,)`` the unscaled weights, or None where all are one."""
        return None if self.weights is None else self.weights / self.row_scale[self.index]

    @cached_property
    def determined_rows(self) -> np.ndarray:
        """``(d,)`` the groups of the determined variables, which are alone in them."""
        return self.index[self.determined]

    @cached_property
    def pivots(self) -> np.ndarray:
        """``(r,)`` one variable of every group, determined by the others."""
        return first_members(self.index, self.weights, self.rank)

    @cached_property
    def free(self) -> np.ndarray:
        """``(n - r,)`` the variables that are not pivots."""
        return np.setdiff1d(np.arange(self.num_variables), self.pivots)


@dataclass(frozen=True, eq=False)
class DensePlan(Plan):
    """Any rows.

    Attributes:
        rows: ``(r, n)`` the scaled rows R.
        triangle: ``(r, r)`` lower triangular T with R = T B, or None where B = R.
        basis: ``(r, n)`` B: the scaled rows where they are well conditioned (sparsity and exact
            zeros survive), else an orthonormal basis of their span.
        exact_bits: bits that an exact product of a scaled row with an integer vector needs
            beyond those of the vector.
        solution: ``(d, r)`` values of the determined variables from the scaled right-hand side.
    """

    rows: np.ndarray
    triangle: np.ndarray | None
    basis: np.ndarray
    exact_bits: int
    solution: np.ndarray

    @cached_property
    def reflector(self) -> BlockReflector:
        """The block reflector whose last n - r columns are an orthonormal null-space basis."""
        return block_reflector(self.rows)

    @property
    def reflector_vectors(self) -> np.ndarray:
        """``(n, r)`` Y of the reflector I - Y K Y'."""
        return self.reflector.vectors

    @property
    def reflector_kernel(self) -> np.ndarray:
        """``(r, r)`` K of the reflector I - Y K Y'."""
        return self.reflector.kernel

    @property
    def has_small_null_space(self) -> bool:
        """Whether a null-space basis is cheaper to apply as a matrix than as a reflector."""
        return self.free_size <= 2 * self.rank

    @cached_property
    def null_basis(self) -> np.ndarray:
        """``(n, n - r)`` N, the last columns of the reflector, as a matrix."""
        vectors, kernel = self.reflector
        basis = -vectors @ (kernel @ vectors[self.rank :].T)
        basis[self.rank :] += np.eye(self.free_size)
        return basis

    @cached_property
    def gram_inverse(self) -> np.ndarray:
        """``(r, r)`` inverse of B B'."""
        factor = linalg.cho_factor(self.basis @ self.basis.T, lower=True)
        return linalg.cho_solve(factor, np.eye(self.rank))

    @cached_property
    def right_inverse(self) -> np.ndarray:
        """``(n, r)`` the shortest steps that change one scaled row each by one."""
        steps = self.basis.T @ self.gram_inverse
        if self.triangle is None:
            return steps
        return linalg.solve_triangular(self.triangle, steps.T, lower=True, trans="T").T

    @property
    def is_plain(self) -> bool:
        """Whether the executed rows are all rows of A, so that ``B x = c`` says it all."""
        return self.has_full_row_rank and self.triangle is None


AnyPlan = RowPlan | GroupPlan | DensePlan
