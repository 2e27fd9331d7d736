"""The constraint in executable form: ``B x = c`` from ``A x = k``."""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor

from constrained_core import (
    ConstraintError,
    GroupSum,
    check_batched_rows,
    check_consistency,
    plan_constraint,
)
from constrained_core.plan import DensePlan, GroupPlan, Plan, RowPlan
from pyro_constrained.kernels.groups import Groups, plan_groups
from pyro_constrained.kernels.linalg import matvec, solve_lower, split_exactly
from pyro_constrained.kernels.null_space import BlockNullSpace, DenseNullSpace, NullSpace
from pyro_constrained.kernels.plans import plan_tensor
from pyro_constrained.kernels.rows import DenseGram, DenseRows, Gram, GroupRows, Rows, SingleRow
from pyro_constrained.kernels.shapes import broadcast_shapes

__all__ = ["LinearConstraint", "bind_constraint", "default_tolerance"]


def default_tolerance(dtype: torch.dtype) -> float:
    """Relative tolerance of support checks: 1e-6 in float64, 1e-4 in float32."""
    return 1e-6 if dtype == torch.float64 else 1e-4


class LinearConstraint:
    """``A x = k`` bound to tensors.

    Attributes:
        A, k: as given, as tensors (A may be a ``GroupSum``).
        given: all m rows of A, for residuals.
        rows: the r well conditioned rows B that are executed.
        target: ``(*batch, r)`` c.
        log_volume, log_range_volume: 1/2 log det B B', 1/2 log pdet A A'.
        determined: the variables that the constraint alone determines, as an index, and where it
            holds them at zero; None if there are none.
    """

    def __init__(self, A, k, given, rows, target, log_volume, log_range_volume) -> None:
        self.A: Tensor | GroupSum = A
        self.k: Tensor = k
        self.given: Rows = given
        self.rows: Rows = rows
        self.target: Tensor = target
        self.log_volume = log_volume
        self.log_range_volume = log_range_volume
        self.determined: tuple[Tensor, Tensor] | None = None
        # Under torch.jit.trace a size is a tensor.
        self.rank, self.num_variables = int(rows.size), int(rows.num_variables)

    @property
    def free_size(self) -> int:
        return self.num_variables - self.rank

    @cached_property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return not isinstance(self.A, GroupSum) and self.A.ndim == 1

    @property
    def is_differentiated(self) -> bool:
        """Whether gradients reach A or k, so that the subspace can move."""
        return self.k.requires_grad or (isinstance(self.A, Tensor) and self.A.requires_grad)

    @cached_property
    def batch_shape(self) -> torch.Size:
        matrix_batch = () if isinstance(self.A, GroupSum) else self.A.shape[:-2]
        k_batch = self.k.shape if self.is_vector else self.k.shape[:-1]
        return broadcast_shapes(matrix_batch, k_batch)

    def residual(self, value: Tensor) -> Tensor:
        """``A value - k``, in the rows of A."""
        total = self.given.apply(value)
        return (total[..., 0] if self.is_vector else total) - self.k

    def contains(self, value: Tensor, tolerance: float) -> Tensor:
        """Whether ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row."""
        with torch.no_grad():
            size = self.given.magnitude(value)
            size = (size[..., 0] if self.is_vector else size) + self.k.abs()
            holds = self.residual(value).abs() <= tolerance * size
            return holds if self.is_vector else holds.all(-1)

    def mismatch(self, value: Tensor) -> Tensor:
        """``c - B value``, as exactly as the dtype allows."""
        return self.target - self.rows.apply(value)

    def pin(self, value: Tensor, correction: Tensor) -> Tensor:
        """The correction, made exact where the constraint alone holds a variable at zero: a
        rounding error has no scale there to be small against. Changed in place."""
        if self.determined is None:
            return correction
        index, is_zero = self.determined
        exact = torch.where(is_zero, -value[..., index], correction[..., index])
        return correction.index_copy_(-1, index, exact)

    def null_space(self) -> NullSpace:
        """Orthonormal basis of the null space of A."""
        return self.rows.null_space()

    def embed(self, coordinates: Tensor) -> Tensor:
        """The point of the subspace with these coordinates ``(..., n - r)`` in the null space;
        zeros are the point nearest to the origin."""
        origin = self._shortest(self.target)
        return self.settle(origin + self.null_space().embed(coordinates))

    def settle(self, value: Tensor) -> Tensor:
        """Move a point beside the subspace onto it to the last bits; no gradient."""
        with torch.no_grad():
            correction = self.pin(value, self._shortest_to(value))
        return value + correction

    def _shortest_to(self, value: Tensor) -> Tensor:
        """The shortest step from a point beside the subspace to it."""
        return self._shortest(self.mismatch(value))

    def nearest(self, value: Tensor) -> Tensor:
        """The point of the subspace nearest to ``value``."""
        return self.settle(value + self._shortest(self.target - self.rows.apply(value)))

    def _shortest(self, mismatch: Tensor) -> Tensor:
        """The shortest step that changes ``B x`` by ``mismatch``."""
        return self.rows.adjoint(self.gram.solve(mismatch))

    @cached_property
    def gram(self) -> Gram:
        """``B B'``, factored."""
        with torch.enable_grad():
            return self.rows.gram()


class _DensePlanConstraint(LinearConstraint):
    """Dense rows that were analysed: some may be redundant, or executed in an orthonormal basis."""

    def __init__(self, plan: DensePlan, scaled_k: Tensor, *fields: Any) -> None:
        super().__init__(*fields)
        self.plan, self.scaled_k = plan, scaled_k

    def mismatch(self, value: Tensor) -> Tensor:
        return _to_basis(self.plan, self._gap(value))

    def _gap(self, value: Tensor) -> Tensor:
        """``scaled_k - R value`` for the scaled rows R, as exactly as the dtype allows."""
        if self.plan.is_plain:
            return super().mismatch(value)
        rows = DenseRows(plan_tensor(self.plan, "rows", value))
        high, low = split_exactly(value, self.plan.exact_bits)
        return (self.scaled_k - rows.apply(high)) - rows.apply(low)

    @cached_property
    def gram(self) -> Gram:
        log_volume = torch.as_tensor(self.plan.log_volume).to(self.target)
        return DenseGram(log_volume, plan_tensor(self.plan, "gram_inverse", self.target))

    def _shortest_to(self, value: Tensor) -> Tensor:
        return matvec(plan_tensor(self.plan, "right_inverse", value), self._gap(value))

    def null_space(self) -> NullSpace:
        if self.plan.has_small_null_space:
            return DenseNullSpace(plan_tensor(self.plan, "null_basis", self.target))
        return BlockNullSpace(
            plan_tensor(self.plan, "reflector_vectors", self.target),
            plan_tensor(self.plan, "reflector_kernel", self.target),
        )


def _to_basis(plan: DensePlan, vector: Tensor) -> Tensor:
    """From scaled rows to the executed basis, ``T^-1 vector``."""
    if plan.triangle is None:
        return vector
    return solve_lower(plan_tensor(plan, "triangle", vector), vector)


@torch.compiler.disable
@ignore_jit_warnings()
def bind_constraint(A: Any, k: Any, like: Tensor) -> LinearConstraint:
    """Analyse ``A x = k`` and bind it to the dtype and device of ``like``.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        like: a tensor of the law, whose dtype and device the constraint takes.

    Raises:
        InfeasibleConstraintError: redundant rows disagree.
        ConstraintError: shapes do not fit, NaN or infinity.
    """
    if A is None or k is None:
        missing = " and ".join(name for name, part in (("A", A), ("k", k)) if part is None)
        raise ConstraintError(f"expected A and k, got no {missing}; give both sides of A x = k.")
    if not isinstance(A, GroupSum):
        A = torch.as_tensor(A, device=like.device)
        A = A if A.is_floating_point() else A.to(torch.float64)
    k = torch.as_tensor(k, device=like.device)
    _check_shapes(A, k)
    if not math.isfinite(float(k.detach().sum())):
        raise ConstraintError(
            f"k: expected finite values, got {k[~k.isfinite()][:1].tolist()}; check how k is made."
        )
    if isinstance(A, Tensor) and (A.requires_grad or A.ndim > 2):
        return _bind_unanalysed(A, k, like)
    return _bind_planned(A, k, like)


def _check_shapes(A: Tensor | GroupSum, k: Tensor) -> None:
    if not isinstance(A, GroupSum) and A.ndim == 0:
        raise ConstraintError(
            "A: expected shape (*batch, m, n), or (n,) for one row, got a scalar; give one "
            "coefficient per variable."
        )
    if not isinstance(A, GroupSum) and A.ndim == 1:
        return
    m = A.shape[-2]
    if k.ndim == 0 or k.shape[-1] != m:
        raise ConstraintError(
            f"k: expected shape (*batch, {m}) for the {m} rows of A, got {tuple(k.shape)}; give "
            "one value per row."
        )
    try:
        broadcast_shapes(A.shape[:-2], k.shape[:-1])
    except ValueError as error:
        raise ConstraintError(
            f"expected batch shapes of A and k that broadcast together, got {tuple(A.shape[:-2])} "
            f"and {tuple(k.shape[:-1])}; reshape one."
        ) from error


def _bind_planned(A: Tensor | GroupSum, k: Tensor, like: Tensor) -> LinearConstraint:
    matrix = A if isinstance(A, GroupSum) else _matrix(A)
    plan = plan_constraint(matrix)
    k_rows = k[..., None] if isinstance(A, Tensor) and A.ndim == 1 else k
    if not plan.has_full_row_rank:
        exact = k_rows if k_rows.is_floating_point() else k_rows.double()
        check_consistency(plan, exact.detach().cpu().numpy())
    scaled_k = k_rows.to(like.dtype)
    if not plan.has_full_row_rank:
        scaled_k = scaled_k[..., plan_tensor(plan, "kept", like, torch.int64)]
    scaled_k = scaled_k * plan_tensor(plan, "row_scale", like)
    given = _given_rows(A, plan, like)
    A = A if isinstance(A, GroupSum) else A.to(like.dtype)
    fields = A, k.to(like.dtype), given
    volumes = plan.log_volume, plan.log_range_volume
    constraint: LinearConstraint
    if isinstance(plan, RowPlan | GroupPlan):
        constraint = LinearConstraint(*fields, _structured_rows(plan, like), scaled_k, *volumes)
    else:
        basis, target = DenseRows(plan_tensor(plan, "basis", like)), _to_basis(plan, scaled_k)
        constraint = _DensePlanConstraint(plan, scaled_k, *fields, basis, target, *volumes)
    if plan.determined.size:
        index = plan_tensor(plan, "determined", like, torch.int64)
        constraint.determined = index, _determined_values(plan, scaled_k.detach()) == 0
    return constraint


def _determined_values(plan: Plan, scaled_k: Tensor) -> Tensor:
    """Values of the determined variables, up to factors."""
    if isinstance(plan, DensePlan):
        return matvec(plan_tensor(plan, "solution", scaled_k), scaled_k)
    if isinstance(plan, GroupPlan):
        return scaled_k[..., plan_tensor(plan, "determined_rows", scaled_k, torch.int64)]
    return scaled_k


def _matrix(A: Tensor) -> np.ndarray:
    matrix = A.detach().cpu().numpy()
    return matrix[None] if matrix.ndim == 1 else matrix


def _given_rows(A: Tensor | GroupSum, plan: Plan, like: Tensor) -> Rows:
    if isinstance(A, Tensor):
        A = A.to(like.dtype)
        return (
            SingleRow(A, _is_plain(plan) and plan.row_scale[0] == 1)
            if A.ndim == 1
            else DenseRows(A)
        )
    if isinstance(plan, GroupPlan):
        return _group_rows(plan, like, prefix="given_")
    index = torch.zeros(plan.num_variables, dtype=torch.int64, device=like.device)
    return GroupRows(Groups(index, plan.num_rows), like.new_zeros(plan.num_variables))


def _structured_rows(plan: RowPlan | GroupPlan, like: Tensor) -> Rows:
    if isinstance(plan, GroupPlan):
        return _group_rows(plan, like)
    plain = _is_plain(plan)
    return SingleRow(_ones(plan, like) if plain else plan_tensor(plan, "weights", like), plain)


def _is_plain(plan: Plan) -> bool:
    """Whether the constraint is one sum of all variables."""
    return isinstance(plan, RowPlan) and plan.weights is None


def _group_rows(plan: GroupPlan, like: Tensor, prefix: str = "") -> GroupRows:
    plain = plan.weights is None
    return GroupRows(
        plan_groups(plan, prefix + "index", plan.num_rows if prefix else plan.rank, like),
        _ones(plan, like) if plain else plan_tensor(plan, prefix + "weights", like),
        plain,
        plan,
    )


def _ones(plan: Plan, like: Tensor) -> Tensor:
    return like.new_ones(()).expand(plan.num_variables)


def _bind_unanalysed(A: Tensor, k: Tensor, like: Tensor) -> LinearConstraint:
    """A batch of matrices, or one that requires a gradient: full row rank is taken for granted."""
    if A.ndim > 1:
        check_batched_rows(A.detach().cpu().numpy())
    A, k = A.to(like.dtype), k.to(like.dtype)
    if A.ndim > 1 and A.shape[-2] > A.shape[-1]:
        raise ConstraintError(
            f"A: expected at most {A.shape[-1]} rows for {A.shape[-1]} variables, as a batched or "
            f"differentiated A must have independent rows, got {A.shape[-2]}; drop rows."
        )
    given = SingleRow(A) if A.ndim == 1 else DenseRows(A)
    norms = torch.linalg.vector_norm(A.detach(), dim=-1, keepdim=True)
    scaled = A / norms
    if A.ndim == 1:
        row = SingleRow(scaled)
        log_volume = torch.linalg.vector_norm(scaled).log()
        return LinearConstraint(
            A, k, given, row, k[..., None] / norms, log_volume, log_volume + norms.log()[0]
        )
    orthonormal, upper = torch.linalg.qr(scaled.mT)
    target = solve_lower(upper.mT, k / norms[..., 0])
    log_scaled_volume = upper.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    log_range_volume = log_scaled_volume + norms[..., 0].log().sum(-1)
    rows = DenseRows(orthonormal.mT)
    return LinearConstraint(A, k, given, rows, target, 0.0, log_range_volume)
