"""Coordinates of the subspace by elimination: some variables are free, the others, pivots, follow.

x = x0 + W u with u the free variables themselves: W has the entries that the structure of A allows,
and u is read off x without an error. Volumes are stretched by a constant.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from constrained_core import plan_constraint
from constrained_core.linear.plan import DensePlan
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparseMatrix
from pyro_constrained.kernels.arrays.compiled import kept_by_a_graph
from pyro_constrained.kernels.arrays.errors import on_host, require_forward_once
from pyro_constrained.kernels.arrays.functions import described
from pyro_constrained.kernels.arrays.inspection import (
    are_known,
    host_array,
    is_constant,
    outside_transforms,
    unwrapped,
)
from pyro_constrained.kernels.arrays.linalg import diagonal, matvec, take
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.arrays.sparse import sparse_index
from pyro_constrained.kernels.arrays.tracing import constant, quiet_under_trace
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.rows import DenseRows, DisjointRows, Rows
from pyro_constrained.kernels.linear.saddle import saddle_log_det, saddle_solve
from pyro_constrained.kernels.linear.sparse_matrix import UnanalysedSparseMatrix
from pyro_constrained.kernels.linear.sparse_rows import SparseRows, joined
from pyro_constrained.kernels.linear.unanalysed import UnanalysedMatrix

__all__ = ["Elimination", "elimination_of"]

FEW = 2**14
"""Entries up to which a dense matrix multiplies faster than a sparse one."""


class Elimination(ABC):
    """Free variables and pivots of the solutions of ``A x = k``.

    Attributes:
        matrix: A.
        pivots, free: ``(r,)`` and ``(n - r,)`` variables; ``(*batch, ...)`` of a batch of A.
        log_volume: 1/2 log det W'W, what the map from u to x does to volumes.
    """

    pivots: Tensor
    free: Tensor
    log_volume: Tensor | float

    _followers: Rows | None = None

    def __init__(self, matrix: BoundMatrix) -> None:
        self.matrix = matrix
        self._origins: WeakKeyDictionary[LinearConstraint, Tensor] = WeakKeyDictionary()

    @abstractmethod
    def solve(self, gap: Tensor) -> Tensor:
        """``(..., r)`` the step of the pivots that closes a gap of the scaled rows."""

    def embed(self, constraint: LinearConstraint, coordinates: Tensor) -> Tensor:
        """The point ``(..., n)`` whose free variables are these ``(..., n - r)``."""
        value = self._point(constraint, coordinates)
        for _ in range(2):
            excess = self._excess(constraint, value)
            if are_known(excess) and not bool(excess.any()):
                break
            value = constraint.settle(value, partial(self._closing, excess))
        return value

    @constant
    def _excess(self, constraint: LinearConstraint, value: Tensor) -> Tensor:
        return constraint.excess(value)

    def _closing(self, excess: Tensor, value: Tensor) -> Tensor:
        """A step of the pivots alone."""
        return self._step(excess).to(value.dtype)

    def _point(self, constraint: LinearConstraint, coordinates: Tensor) -> Tensor:
        """That point, up to rounding."""
        if self._followers is not None:
            pivots = self._origin(constraint) - self._followers.apply(coordinates)
            return joined(pivots, coordinates).index_select(-1, self._place)
        value = self._placed(self.free, coordinates)
        return value + self._step(constraint.gap(value)).to(value.dtype)

    @cached_property
    def _place(self) -> Tensor:
        with outside_transforms():  # it serves later calls
            return torch.argsort(torch.cat([self.pivots, self.free]))

    def _origin(self, constraint: LinearConstraint) -> Tensor:
        """``(*batch, r)`` the pivots where all free variables are zero."""
        if torch.compiler.is_compiling():
            return self.solve(constraint.scaled_k).to(constraint.scaled_k.dtype)
        if constraint in self._origins:
            return self._origins[constraint]
        scaled_k = constraint.scaled_k
        if not is_constant(scaled_k):
            return self.solve(scaled_k).to(scaled_k.dtype)
        scaled_k = unwrapped(scaled_k)
        with outside_transforms():  # it serves later calls
            self._origins[constraint] = self.solve(scaled_k).to(scaled_k.dtype)
        return self._origins[constraint]

    def extract(self, value: Tensor) -> Tensor:
        """The free variables of a point."""
        return take(value, self.free)

    def _step(self, gap: Tensor) -> Tensor:
        return self._placed(self.pivots, self.solve(gap))

    def _placed(self, index: Tensor, entries: Tensor) -> Tensor:
        """``(..., n)`` with these entries, zero elsewhere."""
        batch = broadcast_shapes(index.shape[:-1], entries.shape[:-1])
        zeros = entries.new_zeros(batch + (self.matrix.num_variables,))
        if index.ndim == 1:
            return zeros.index_copy(-1, index, entries)
        size = index.shape[-1:]
        return zeros.scatter(-1, index.expand(batch + size), entries.expand(batch + size))


class _DisjointElimination(Elimination):
    """One pivot of every row, in O(n)."""

    def __init__(self, matrix: BoundMatrix, rows: DisjointRows) -> None:
        super().__init__(matrix)
        weights, plan = rows.weights, matrix.plan
        if plan is None:  # one row whose values are not planned
            self.pivots = weights.detach().abs().argmax(-1, keepdim=True)
            every = torch.arange(rows.num_variables - 1, device=weights.device)
            self.free = every + (every >= self.pivots)
        else:
            self.pivots = plan_tensor(plan, "pivots", weights, torch.int64)
            self.free = plan_tensor(plan, "free", weights, torch.int64)
        self._weights = take(weights, self.pivots)
        self.log_volume = matrix.half_log_det - self._weights.abs().log().sum(-1)

    def solve(self, gap: Tensor) -> Tensor:
        return gap / self._weights


class _DenseElimination(Elimination):
    """Pivots of the plan, or of the values as they are."""

    def __init__(self, matrix: BoundMatrix) -> None:
        super().__init__(matrix)
        if isinstance(matrix.plan, DensePlan):
            like, rows = matrix.row_scale, matrix.rows.dense()
            self.pivots = plan_tensor(matrix.plan, "pivots", like, torch.int64)
            self.free = plan_tensor(matrix.plan, "free", like, torch.int64)
            columns = rows.index_select(-1, self.pivots)
            self._followers = DenseRows(plan_tensor(matrix.plan, "followers", like))
        else:
            assert isinstance(matrix, UnanalysedMatrix)
            order, columns = matrix.pivot_columns()
            self.pivots, self.free = order[..., : matrix.rank], order[..., matrix.rank :]
        self._inverse = torch.linalg.inv(columns.double()).to(columns.dtype)
        # Not slogdet, whose derivative is wrong in forward mode inside of forward mode.
        factor = torch.linalg.lu_factor(columns.double())[0]
        log_det = diagonal(factor).abs().log().sum(-1)
        self.log_volume = matrix.half_log_det - log_det.to(columns.dtype)

    def solve(self, gap: Tensor) -> Tensor:
        # Rows that are redundant come last.
        gap = self.matrix.reduce(gap)[..., : self._inverse.shape[-1]]
        return matvec(self._inverse, gap)


class _SparseElimination(Elimination):
    """Pivots of the plan, whose columns the host has factored."""

    def __init__(self, matrix: BoundMatrix, plan: SparsePlan) -> None:
        super().__init__(matrix)
        like = matrix.row_scale
        self._plan = plan
        self.pivots = plan_tensor(plan, "pivots", like, torch.int64)
        self.free = plan_tensor(plan, "free", like, torch.int64)
        self.log_volume = plan.log_volume - plan.log_pivot_volume
        self._followers = None if plan.followers is None else _rows_of(plan.followers, like)
        assert isinstance(matrix.rows, SparseRows)
        self._steps = _PivotSteps(matrix.rows, self.pivots, self.free)

    def solve(self, gap: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._steps.solve(gap)
        require_forward_once()
        return _Pivots.apply(self._plan, False, gap.cpu().double()).to(gap.device)


def _rows_of(matrix: sparse.csr_array, like: Tensor) -> Rows:
    """Followers as rows: dense where they are few, as a product is then faster."""
    if math.prod(matrix.shape) <= FEW:
        return DenseRows(torch.from_numpy(matrix.toarray()).to(like))
    entries = SparseMatrix.of(matrix)
    values = torch.tensor(entries.values, dtype=torch.float64, device=like.device)
    return SparseRows(sparse_index(entries.pattern, like.device), values, like.dtype)


class _PivotSteps:
    """Steps of the pivots by a saddle-point matrix.

    With Q = 1 for free variables, 0 for pivots, K^-1 [0; gap] closes a gap by pivots alone, and
    det K = +-det(A[:, pivots])^2.
    """

    def __init__(self, rows: SparseRows, pivots: Tensor, free: Tensor) -> None:
        self._rows, self._pivots = rows, pivots
        zeros = torch.zeros(rows.num_variables, dtype=torch.float64, device="cpu")
        self._q = zeros.index_fill(0, free.cpu(), 1.0)

    def log_pivot_volume(self) -> Tensor:
        """log |det A[:, pivots]|, in double precision."""
        return 0.5 * saddle_log_det(self._rows.index.saddle, self._q, self._rows.values)

    def solve(self, gap: Tensor) -> Tensor:
        right = joined(gap.new_zeros(self._rows.num_variables), gap)
        solution = saddle_solve(self._rows.index.saddle, self._q, self._rows.values, right)
        return solution.to(gap).index_select(-1, self._pivots)


class _MovingElimination(Elimination):
    """Sparse values that are learned: as they are now, they choose the pivots."""

    def __init__(self, matrix: UnanalysedSparseMatrix) -> None:
        super().__init__(matrix)
        rows, device = matrix.rows, matrix.row_scale.device
        if rows.values.ndim > 1 or not are_known(rows.values):
            raise matrix.no_pivots()
        plan = plan_constraint(SparseMatrix.on(rows.index.pattern, host_array(rows.values)))
        self.pivots = torch.tensor(plan.pivots, device=device)
        self.free = torch.tensor(plan.free, device=device)
        self._steps = _PivotSteps(rows, self.pivots, self.free)
        log_pivot_volume = self._steps.log_pivot_volume().to(matrix.row_scale)
        self.log_volume = matrix.half_log_det - log_pivot_volume

    def solve(self, gap: Tensor) -> Tensor:
        return self._steps.solve(gap)


class _Pivots(torch.autograd.Function):
    """The inverse of the pivots' columns, or its transpose, times a vector."""

    @staticmethod
    @described
    @quiet_under_trace
    def forward(plan: SparsePlan, transposed: bool, vector: Tensor) -> Tensor:
        array = on_host(vector)
        if transposed:
            return torch.from_numpy(plan.complete_adjoint(array)[0])
        return torch.from_numpy(plan.complete(array, np.zeros(plan.free_size)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.plan, ctx.transposed, _ = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        return None, None, _Pivots.apply(ctx.plan, not ctx.transposed, gradients[0])

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, tangent: Tensor) -> Tensor:
        return _Pivots.apply(ctx.plan, ctx.transposed, tangent)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        plan, transposed, vector = arguments
        return _Pivots.apply(plan, transposed, vector.movedim(in_dims[2], 0)), 0


def elimination_of(matrix: BoundMatrix) -> Elimination:
    """Coordinates by elimination; made once for each plan.

    Raises:
        ConstraintError: a sparse A whose values are a batch or not known, or a batch of different
            ranks.
    """
    return _eliminated(matrix) if matrix.plan is None else _planned(matrix)


@kept_by_a_graph
def _planned(matrix: BoundMatrix) -> Elimination:
    assert matrix.plan is not None
    key = "elimination", matrix.row_scale.dtype, matrix.row_scale.device
    if key not in matrix.plan.executions:
        # What is kept serves every later transform.
        with torch.no_grad(), outside_transforms():
            matrix.plan.executions[key] = elimination = _eliminated(matrix)
            _ = elimination._place  # which a compiled step reads
    return matrix.plan.executions[key]


def _eliminated(matrix: BoundMatrix) -> Elimination:
    if isinstance(matrix.rows, DisjointRows):
        return _DisjointElimination(matrix, matrix.rows)
    if isinstance(matrix, UnanalysedSparseMatrix):
        return _MovingElimination(matrix)
    if isinstance(matrix.plan, SparsePlan):
        return _SparseElimination(matrix, matrix.plan)
    return _DenseElimination(matrix)
