"""A sparse matrix, bound to a law: as planned, or with values that no plan was made of."""

import numpy as np
import torch
from torch import Tensor

from constrained_core import plan_constraint
from constrained_core.checks.sides import dependent_rows
from constrained_core.errors import ConstraintError, ParameterError
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.linear.structure import cleaned
from constrained_core.sparse import SparseMatrix, SparsePattern
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.inspection import are_known, host_array, outside_transforms
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import split_exactly
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.sparse import SparseIndex, sparse_index
from pyro_constrained.kernels.linear.matrix import BoundMatrix
from pyro_constrained.kernels.linear.null_space import NullSpace
from pyro_constrained.kernels.linear.sparse_rows import SparseGram, SparseRows

__all__ = ["SparseBoundMatrix", "UnanalysedSparseMatrix"]

BLOCK = 256
"""Unit vectors that are solved for at once."""


class _SparseMatrix(BoundMatrix):
    """B is R, the independent rows scaled."""

    rows: SparseRows
    scaled_rows: SparseRows
    is_sparse = True

    @lazy_property
    def gram(self) -> SparseGram:
        return self.rows.gram()

    def reduce(self, gap: Tensor) -> Tensor:
        return gap

    def null_space(self) -> NullSpace:
        raise ConstraintError(
            "A: expected a dense A for an orthonormal basis of its null space, got a sparse one, "
            "whose basis is not sparse; use basis='elimination', or reparam.auto_reparam."
        )

    def scaled_null_space(self, scale: Tensor) -> NullSpace:
        return self.null_space()

    def elimination(self) -> tuple[Tensor, Tensor]:
        raise ConstraintError("A: expected a dense A for a dense covariance, got a sparse one.")


class SparseBoundMatrix(_SparseMatrix):
    """Sparse rows as planned.

    Args:
        plan: the plan.
        like: a tensor of the law.
    """

    plan: SparsePlan

    def __init__(self, plan: SparsePlan, like: Tensor) -> None:
        self.plan = plan
        self.num_rows, self.rank = plan.num_rows, plan.rank
        exact = like.double()
        given, index = (sparse_index(one, like.device) for one in (plan.given, plan.pattern))
        self.given = SparseRows(given, plan_tensor(plan, "given_values", exact), like.dtype)
        self.rows = SparseRows(index, plan_tensor(plan, "values", exact), like.dtype)
        self.scaled_rows = self.rows
        self.row_scale = plan_tensor(plan, "row_scale", like)
        self.log_range_volume, self.half_log_det = plan.log_range_volume, plan.log_volume
        self._exact_bits = _product_bits(plan)
        if not plan.has_full_row_rank:
            self.kept = plan_tensor(plan, "kept", like, torch.int64)
            self._dropped = plan_tensor(plan, "dropped", like, torch.int64)
            self._dependence = _sparse_rows(SparseMatrix.of(plan.dependence), like)
        if plan.has_own:
            variables = plan_tensor(plan, "own_variables", like, torch.int64)
            self.own = variables, plan_tensor(plan, "own_entries", like)
        if plan.determined.size:
            self.determined = plan_tensor(plan, "determined", like, torch.int64)

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        implied = self._dependence.apply(scaled_k)
        size = self._dependence.absolute().apply(scaled_k.abs())
        given = k.index_select(-1, self._dropped)
        tolerance = torch.finfo(k.dtype).eps ** 0.5 * (given.abs() + size)
        agrees = (given - implied).abs() <= tolerance
        return torch.ones_like(k, dtype=torch.bool).index_copy(-1, self._dropped, agrees)

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        high, low = split_exactly(value.double(), self._exact_bits)
        if low is None:
            return scaled_k - self.rows.exactly(high)
        first, rest = self.rows.exactly(torch.stack([high, low])).unbind()
        return (scaled_k - first) - rest

    def determined_values(self, scaled_k: Tensor) -> Tensor:
        return self._solution.apply(scaled_k)

    def prepare(self) -> None:
        if self.determined is not None:
            _ = self._solution

    @lazy_property
    def _solution(self) -> SparseRows:
        """``(d, r)`` the determined variables in terms of the right-hand sides; zeros are exact."""
        plan = self.plan
        places = np.searchsorted(plan.pivots, plan.determined)
        row, column, values = [], [], []
        for start in range(0, len(places), BLOCK):
            block = places[start : start + BLOCK]
            unit = np.zeros((len(block), plan.rank))
            unit[np.arange(len(block)), block] = 1.0
            coefficients = cleaned(plan.complete_adjoint(unit)[0])
            where = coefficients.nonzero()
            row.append(where[0] + start)
            column.append(where[1])
            values.append(coefficients[where])
        entries = SparseMatrix(
            np.concatenate(row),
            np.concatenate(column),
            np.concatenate(values),
            (len(places), plan.rank),
        )
        with outside_transforms():
            return _sparse_rows(entries, self.row_scale)


class UnanalysedSparseMatrix(_SparseMatrix):
    """Values that are learned, traced or a batch: all rows are independent, or there is no law.

    Args:
        index: where the entries are.
        values: ``(*batch, nnz)``.
        like: a tensor of the law.
    """

    def __init__(self, index: SparseIndex, values: Tensor, like: Tensor) -> None:
        self.num_rows = self.rank = index.pattern.shape[0]
        self.given = self.rows = self.scaled_rows = SparseRows(index, values.double(), like.dtype)
        self.row_scale = like.new_ones(self.num_rows)
        if are_known(values):
            self._require_independent()

    @staticmethod
    def no_pivots() -> ConstraintError:
        """Coordinates need pivots, which are chosen by values."""
        return ConstraintError(
            "A: expected known values to choose coordinates of the subspace by, got a sparse A "
            "whose values are mapped over or a batch; use reparam.auto_reparam for the site, or a "
            "constant A."
        )

    @lazy_property
    def half_log_det(self) -> Tensor:
        return self.gram.half_log_det

    def _require_independent(self) -> None:
        """
        Raises:
            ParameterError: rows depend on each other, as they are now.
        """
        try:
            self.half_log_det  # noqa: B018  # factors the rows
        except ParameterError as error:
            raise TensorParameterError(dependent_rows(self._dependent())) from error

    def _dependent(self) -> list[int]:
        """Rows that follow from others, as far as Python may look."""
        values = self.rows.values
        if values.ndim > 1 or not are_known(values):
            return []
        plan = plan_constraint(SparseMatrix.on(self.rows.index.pattern, host_array(values)))
        return plan.dropped.tolist()

    @property
    def log_range_volume(self) -> Tensor:  # type: ignore[override]
        return self.half_log_det

    def agrees(self, k: Tensor, scaled_k: Tensor) -> Tensor:
        return torch.ones_like(k, dtype=torch.bool)

    def gap(self, scaled_k: Tensor, value: Tensor) -> Tensor:
        return scaled_k - self.rows.exactly(value)


def _sparse_rows(matrix: SparseMatrix, like: Tensor) -> SparseRows:
    values = torch.tensor(matrix.values, dtype=torch.float64, device=like.device)
    return SparseRows(sparse_index(matrix.pattern, like.device), values, like.dtype)


def _product_bits(plan: SparsePlan) -> int:
    """Bits needed beyond those of an integer vector to hold its product with any row exactly."""
    pattern: SparsePattern = plan.pattern
    if not len(plan.values):
        return 0
    mantissa, exponent = np.frexp(plan.values)
    integer = np.ldexp(mantissa, 53).astype(np.int64)
    _, trailing = np.frexp((integer & -integer).astype(np.float64))
    last_bit = np.full(plan.rank, np.iinfo(np.int32).max)
    np.minimum.at(last_bit, pattern.row, exponent - 54 + trailing)
    total = np.bincount(pattern.row, np.abs(plan.values), minlength=plan.rank)
    _, first_bit = np.frexp(total)
    return int((first_bit - last_bit).max())
