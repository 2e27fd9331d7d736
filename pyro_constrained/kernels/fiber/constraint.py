"""The constraint of a discrete law: whole numbers, planned exactly and bound to tensors."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from constrained_core import (
    ConstraintError,
    FiberPlan,
    GroupSum,
    ParameterError,
    as_integers,
    check_lattice,
    plan_fiber,
)
from constrained_core.checks.arguments import require_both_sides
from constrained_core.checks.shapes import check_exact_shapes
from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.known import Reader
from constrained_core.fiber.lattice import lattice_of, same_solutions
from constrained_core.fiber.planner import check_held
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis
from constrained_core.inputs import refuse_complex
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.errors import TensorParameterError
from pyro_constrained.kernels.arrays.groups import plan_groups
from pyro_constrained.kernels.arrays.in_place import Unchanged
from pyro_constrained.kernels.arrays.inputs import as_tensor, cast
from pyro_constrained.kernels.arrays.inspection import (
    has_values,
    host_array,
    is_differentiated,
    is_same_when_traced,
)
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.linalg import matvec
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.sparse import dense_form
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace

__all__ = ["Fiber", "IntegerConstraint", "Sides", "bind_fiber", "bind_integers", "same_fiber"]


class IntegerConstraint:
    """``A x = k`` in whole numbers, 0 <= x <= upper.

    Attributes:
        A, k: as given, as tensors (A may be a ``GroupSum``).
        integers: ``(*batch, m)`` k.
        upper: the largest value by the base law, or None.
        batch_shape: of k.
        num_variables: n.
        is_vector: whether A was given as one row ``(n,)``, so that k has no row dimension.
        made_of: A and k, as they are.
    """

    is_differentiated = False
    is_current: Tensor | None = None  # see LinearConstraint; a compiled step has no plan of these

    def __init__(
        self, A: Tensor | GroupSum, k: Tensor, integers: np.ndarray, upper: int | None
    ) -> None:
        self.A, self.k, self.upper = A, k, upper
        self.integers = integers
        self.batch_shape = torch.Size(integers.shape[:-1])
        self.num_variables = int(A.shape[-1])
        self.is_vector = isinstance(A, Tensor) and A.ndim == 1
        self.made_of = Unchanged({"A": A, "k": k})

    def residual(self, value: Tensor) -> Tensor:
        """``A value - k``, in the rows of A; int64 where value is of an integer type."""
        _require_real(value)
        if not value.is_floating_point():
            return self.residual(value.double()).long()  # small types would overflow
        return self._total(value) - cast(self.k, value.dtype)

    def _total(self, value: Tensor) -> Tensor:
        if isinstance(self.A, GroupSum):
            if self.A.weights is not None:
                value = value * plan_tensor(self.A, "weights", value)
            return plan_groups(self.A, "index", self.A.num_groups, value).totals(value)
        matrix = self._exact_matrix if value.dtype == torch.double else cast(self.A, value.dtype)
        return value @ matrix if self.is_vector else matvec(matrix, value)

    @lazy_property
    def _exact_matrix(self) -> Tensor:
        assert isinstance(self.A, Tensor)
        return self.A.double()

    def contains(self, value: Tensor) -> Tensor:
        """``(*batch,)`` whether every entry is a whole number in range and the sums are right."""
        _require_real(value)
        with torch.set_grad_enabled(False):
            value = value.double()
            inside = (value.abs().floor() == value).all(-1)
            if self.upper is not None:
                inside = inside & (value <= self.upper).all(-1)
            exact = self.residual(value) == 0
            return inside & (exact if self.is_vector else exact.all(-1))


def _require_real(value: Tensor) -> None:
    if value.is_complex():
        refuse_complex("value", value.dtype)


class Sides(NamedTuple):
    """Right-hand sides of the parts of a plan.

    Attributes:
        groups: the plan's groups with their sums ``(*batch, g)``, in sets of similar sizes.
        tables: the plan's tables with their margins ``(*batch, R + C)``.
        trellis: the plan's trellis with its start states ``(*batch,)``, or None.
    """

    groups: list[tuple[DisjointGroups, Tensor]]
    tables: list[tuple[TwoWayTable, Tensor]]
    trellis: tuple[Trellis, Tensor] | None

    @classmethod
    def of(cls, plan: FiberPlan, k: np.ndarray, like: Tensor) -> "Sides":
        """Those of k ``(*batch, m)``, less what fixed variables take of it."""
        groups = () if plan.groups is None else plan.groups.by_size
        # A law made in inference mode still differentiates for its moments.
        with torch.inference_mode(False):
            trellis = None
            if plan.trellis is not None:
                start = torch.as_tensor(plan.trellis.start_of(k), device=like.device)
                trellis = plan.trellis, start
            return cls(
                [(part, torch.from_numpy(part.totals(k)).to(like)) for part in groups],
                [(table, torch.from_numpy(table.margins(k)).to(like)) for table in plan.tables],
                trellis,
            )


class Fiber(IntegerConstraint):
    """A planned constraint.

    Attributes:
        plan: the plan.
        rank: r, the number of independent rows.
        sides: what k leaves for the variables that are not fixed.
    """

    def __init__(self, plan: FiberPlan, like: Tensor, *fields: Any) -> None:
        super().__init__(*fields)
        self.plan, self.rank = plan, plan.rank
        self._left = plan.sides(self.integers)
        self.sides = Sides.of(plan, self._left, like)

    @property
    def capacity(self) -> int:
        """At least the number of ones, or of zeros if they are fewer, of every group."""
        groups = self.plan.groups
        return 0 if groups is None else groups.capacity(groups.totals(self._left))

    def edges(self, batch_shape: torch.Size, like: Tensor) -> tuple[Sides, Tensor]:
        """What k leaves where a fixed variable is one larger: for each of the e columns that such
        variables have, ``(e, *batch, ...)``; and whether there is a point, ``(e, *batch)``."""
        fixed, left = self.plan.fixed, self._left
        assert fixed is not None
        left = np.broadcast_to(left, tuple(batch_shape) + left.shape[-1:])
        columns = fixed.columns.reshape((-1,) + (1,) * len(batch_shape) + left.shape[-1:])
        possible = self.plan.contains(left - columns)
        sides = Sides.of(self.plan, np.where(possible[..., None], left - columns, left), like)
        return sides, torch.as_tensor(possible, device=like.device)

    @property
    def num_values(self) -> int:
        """U: 1 + the largest value of any variable, by its base law if that has one."""
        return 1 + int(self.plan.upper.max(initial=0) if self.upper is None else self.upper)


@outside_graphs
@quiet_under_trace
def bind_fiber(
    A: Any,
    k: Any,
    like: Tensor,
    *,
    upper: int | None = None,
    k_max: Any = None,
    merge: bool = False,
    grouped: bool = True,
    max_transitions: int | None = None,
    known: Reader | None = None,
) -> Fiber:
    """Plan ``A x = k`` exactly and bind it to ``like``.

    Args:
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        like: the parameter of the law.
        upper: the largest value by the base law, or None.
        k_max: as k, without batch: one plan for all 0 <= k <= k_max.
        merge: whether equal columns are one column of the trellis.
        grouped: whether blocks of one row have a method of their own.
        max_transitions: the budget of the plan, if not the usual one.
        known: what ``like`` says for certain of the values of the variables.

    Raises:
        InfeasibleConstraintError: no point on the fiber.
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: a plan past its budget.
        ParameterError: a plan past its budget, and parameters that leave no point.
        ConstraintError: shapes that do not fit, numbers that are not whole, counts that the dtype
            of ``like`` does not hold; A or k is an input of ``torch.jit.trace``.
    """
    A, k, integers = _read(A, k, like)
    for name, given in {"A": A, "k": k}.items():
        _require_same_when_traced(name, given)
    matrix = _matrix(A)
    bounds = None if upper is None else np.full(matrix.shape[1], upper)
    options: dict[str, Any] = {
        "upper": bounds,
        "merge": merge,
        "grouped": grouped,
        "max_transitions": max_transitions,
        "edges": merge and is_differentiated(like),
    }
    if known is not None and has_values(like) and is_same_when_traced(like):
        options["known"] = lambda: known(host_array(like), matrix.shape[1])
    try:
        if k_max is None:
            plan = plan_fiber(matrix, integers, **options)
        else:
            given = as_tensor("k_max", k_max, torch.device("cpu"))
            bound = np.broadcast_to(_read_values("k_max", given), matrix.shape[:1])
            plan = plan_fiber(matrix, None, k_max=bound, **options)
            check_lattice(plan, integers)
    except ParameterError as error:
        raise TensorParameterError(str(error)) from error
    digits = 1 - int(math.log2(torch.finfo(like.dtype).eps))
    check_held(plan, integers, digits, str(like.dtype))
    return Fiber(plan, like, A, k, integers, upper)


@quiet_under_trace
def bind_integers(A: Any, k: Any, upper: int | None = None) -> IntegerConstraint:
    """Read ``A x = k`` without a plan, for checks of values.

    Raises:
        InfeasibleConstraintError: no integer x, of any sign, satisfies it.
        ConstraintError: shapes that do not fit, numbers that are not whole.
    """
    A, k, integers = _read(A, k, as_tensor("k", k))
    lattice_of(_matrix(A)).check(integers)
    return IntegerConstraint(A, k, integers, upper)


def same_fiber(one: IntegerConstraint, other: IntegerConstraint) -> bool:
    """Whether two constraints have the same points, as far as they are known."""
    matrices = _matrix(one.A), _matrix(other.A)
    k = one.integers, other.integers
    return one.upper == other.upper and same_solutions(*matrices, k)


def _read(A: Any, k: Any, like: Tensor) -> tuple[Tensor | GroupSum, Tensor, np.ndarray]:
    require_both_sides(A, k)
    if not isinstance(A, GroupSum):
        A = _held("A", dense_form(A), like.device)
        _check_matrix(A)
    k = _held("k", k, like.device)
    if k.requires_grad:
        raise ConstraintError(
            "k: expected whole numbers without a gradient for a discrete law, got a tensor that "
            "requires one; pass k.detach()."
        )
    rows = k[..., None] if not isinstance(A, GroupSum) and A.ndim == 1 else k
    check_exact_shapes(A.shape, k.shape)
    integers = as_integers("k", _read_values("k", rows))
    return A, k, integers


def _held(name: str, given: Any, device: torch.device) -> Tensor:
    """As a tensor; a copy of an array, which may change later."""
    if isinstance(given, int) and -(2**63) <= given < 2**63:
        return torch.as_tensor(given, device=device)
    return as_tensor(name, given, device)


def _check_matrix(A: Tensor) -> None:
    if A.requires_grad:
        raise ConstraintError(
            "A: expected a constant matrix of whole numbers for a discrete law, got a tensor that "
            "requires a gradient; its fiber is planned exactly, so pass A.detach()."
        )


def _require_same_when_traced(name: str, given: Tensor | GroupSum) -> None:
    if isinstance(given, Tensor) and not is_same_when_traced(given):
        raise ConstraintError(
            f"{name}: expected whole numbers that stay what they are, of which a fiber is planned "
            "exactly, got an input of torch.jit.trace, whose later values the program would not "
            "see; give an array or a number, for each of which JitTrace_ELBO compiles anew."
        )


def _matrix(A: Tensor | GroupSum) -> np.ndarray | GroupSum:
    if isinstance(A, GroupSum):
        return A
    matrix = as_integers("A", _read_values("A", A))
    return matrix[None] if matrix.ndim == 1 else matrix


def _read_values(name: str, given: Tensor) -> np.ndarray:
    if not has_values(given):
        raise ConstraintError(
            f"{name}: expected whole numbers that can be read, of which a fiber is planned "
            "exactly, got a tensor that torch.func.vmap maps over; give one law the batch of k "
            "and of parameters, or map over parameters and values only."
        )
    return host_array(given)
