"""Frozen facts about a constraint: what the backends need to know and nothing they compute.

Every plan describes ``B x = c``, the constraint that is executed, and how it comes from the
user's ``A x = k``: the rows ``kept`` of A are scaled (``row_scale``), and where A is badly
conditioned they are also orthonormalised (``triangle``), so that ``B`` always is well conditioned.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg, sparse

from constrained_core.linear.structure import (
    BlockReflector,
    cleaned,
    complementary_basis,
    first_members,
)

__all__ = ["AnyPlan", "DensePlan", "GroupPlan", "Plan", "RowPlan"]


@dataclass(frozen=True, eq=False)
class Plan(ABC):
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
    @abstractmethod
    def pivots(self) -> np.ndarray:
        """``(r,)`` variables that the others determine, one for each row."""

    @property
    @abstractmethod
    def followers(self) -> Any:
        """``(r, n - r)`` F: the pivots of a null vector are -F times its other entries."""

    @cached_property
    def free(self) -> np.ndarray:
        """``(n - r,)`` the variables that are not pivots."""
        return np.setdiff1d(np.arange(self.num_variables), self.pivots)

    @property
    def elimination(self) -> Any:
        """``(n, n - r)`` the null vectors of which one free variable is 1, the others 0."""
        basis = np.zeros((self.num_variables, self.free_size))
        basis[self.free, np.arange(self.free_size)] = 1.0
        basis[self.pivots] = -self.followers
        return basis

    @property
    def has_full_row_rank(self) -> bool:
        """Whether no row is redundant."""
        return self.rank == self.num_rows

    @cached_property
    def dropped(self) -> np.ndarray:
        """Indices of the redundant rows."""
        return np.setdiff1d(np.arange(self.num_rows), self.kept)

    @property
    def is_kept(self) -> np.ndarray:
        """``(m,)`` whether each row is executed."""
        return np.isin(np.arange(self.num_rows), self.kept)

    @cached_property
    def executions(self) -> dict[Any, Any]:
        """What the backends made of the plan, to be found again with it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in self.__dict__.items() if name != "executions"}


@dataclass(frozen=True, eq=False)
class RowPlan(Plan):
    """One independent row.

    Attributes:
        weights: ``(n,)`` the scaled row, or None for a row of ones.
    """

    weights: np.ndarray | None

    @cached_property
    def pivots(self) -> np.ndarray:
        """``(1,)`` the variable of the largest weight, determined by the others."""
        largest = 0 if self.weights is None else np.argmax(np.abs(self.weights))
        return np.array([largest], dtype=np.int64)

    @property
    def followers(self) -> np.ndarray:
        """``(1, n - 1)`` F: the pivot of a null vector is -F times its other entries."""
        weights = np.ones(self.num_variables) if self.weights is None else self.weights
        return weights[None, self.free] / weights[self.pivots]


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

    @property
    def followers(self) -> np.ndarray:
        """``(r, n - r)`` F: the pivots of a null vector are -F times its other entries."""
        weights = np.ones(self.num_variables) if self.weights is None else self.weights
        is_member = np.arange(self.rank)[:, None] == self.index[self.free]
        return is_member * weights[self.free] / weights[self.pivots][:, None]


@dataclass(frozen=True, eq=False)
class DensePlan(Plan):
    """Any rows.

    Attributes:
        stored: ``(r, n)`` the scaled rows R, in the precision of A where they fit in it: of large
            matrices each copy counts.
        triangle: ``(r, r)`` lower triangular T with R = T B, or None where B = R.
        orthonormal: ``(r, n)`` an orthonormal basis B of their span, or None where they are well
            conditioned, and B = R (sparsity and exact zeros survive).
        exact_bits: bits that an exact product of a scaled row with an integer vector needs
            beyond those of the vector.
        solution: ``(d, r)`` values of the determined variables from the scaled right-hand side.
    """

    stored: np.ndarray
    triangle: np.ndarray | None
    orthonormal: np.ndarray | None
    exact_bits: int
    solution: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """``(r, n)`` R in double precision."""
        return self.stored.astype(np.float64, copy=False)

    @property
    def executed(self) -> np.ndarray:
        """``(r, n)`` B, as it is stored."""
        return self.stored if self.orthonormal is None else self.orthonormal

    @property
    def basis(self) -> np.ndarray:
        """``(r, n)`` B in double precision."""
        return self.executed.astype(np.float64, copy=False)

    @cached_property
    def pivots(self) -> np.ndarray:
        """``(r,)`` variables that the others determine, of well conditioned columns."""
        if self.rank == 0:
            return np.zeros(0, dtype=np.int64)
        _, pivots = linalg.qr(self.basis, mode="r", pivoting=True, check_finite=False)
        return np.sort(pivots[: self.rank])

    @cached_property
    def order(self) -> np.ndarray:
        """``(n,)`` the pivots, then the other variables."""
        return np.concatenate([self.pivots, self.free])

    @cached_property
    def place(self) -> np.ndarray:
        """``(n,)`` the place of every variable in that order."""
        return np.argsort(self.order)

    @cached_property
    def followers(self) -> np.ndarray:
        """``(r, n - r)`` F: the pivots of a null vector are -F times its other entries."""
        basis = self.basis
        return cleaned(np.linalg.solve(basis[:, self.pivots], basis[:, self.free]))

    @cached_property
    def null_basis(self) -> np.ndarray | BlockReflector:
        """An orthonormal basis of the null space, in that order."""
        return complementary_basis(self.followers)

    @property
    def null_matrix(self) -> np.ndarray:
        """``(n, n - r)`` the basis, where it is a matrix."""
        return np.asarray(self.null_basis)

    @property
    def null_vectors(self) -> np.ndarray:
        """``(n, r)`` Y of the basis, where it is a reflector I - Y K Y'."""
        return self.null_basis[0]

    @property
    def null_kernel(self) -> np.ndarray:
        """``(r, r)`` K of the basis, where it is a reflector I - Y K Y'."""
        return self.null_basis[1]

    @property
    def products_size(self) -> int:
        """Entries of ``products``."""
        return self.num_variables * self.rank**2

    @property
    def products(self) -> np.ndarray:
        """``(n, r^2)`` products of all pairs of rows of B: ``B diag(v) B' = v @ products``."""
        basis = self.basis
        pairs = basis[:, None] * basis
        return np.ascontiguousarray(pairs.reshape(self.rank**2, self.num_variables).T)

    @cached_property
    def log_triangle(self) -> float:
        """log |det T|."""
        if self.triangle is None:
            return 0.0
        return float(np.log(np.abs(np.diagonal(self.triangle))).sum())

    @cached_property
    def gram_inverse(self) -> np.ndarray:
        """``(r, r)`` inverse of B B'."""
        basis = self.basis
        factor = linalg.cho_factor(basis @ basis.T, lower=True)
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
