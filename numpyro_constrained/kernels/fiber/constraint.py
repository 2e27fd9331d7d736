"""The constraint of a discrete law: whole numbers, planned exactly and bound to arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from constrained_core import (
    ConstraintError,
    FiberPlan,
    GroupSum,
    as_integers,
    check_lattice,
    plan_fiber,
)
from constrained_core.checks.arguments import require_both_sides
from constrained_core.checks.shapes import check_exact_shapes
from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.known import Reader
from constrained_core.fiber.lattice import (
    joint_relations,
    lattice_of,
    same_solutions,
)
from constrained_core.fiber.planner import check_held
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.inputs import on_host
from numpyro_constrained.kernels.arrays.known import seen
from numpyro_constrained.kernels.arrays.leaves import Layout, unstacked
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.arrays.sparse_inputs import dense_form, is_sparse
from numpyro_constrained.kernels.fiber.integer_constraint import (
    IntegerConstraint,
    require_known_sums,
)
from numpyro_constrained.kernels.fiber.planned_matrix import PlannedMatrix

__all__ = [
    "Fiber",
    "bind_fiber",
    "bind_integers",
    "rebind_fiber",
    "same_fiber",
]


class Fiber(IntegerConstraint):
    """A planned constraint.

    Attributes:
        plan: the plan.
        planned: the matrix that it was made of; None of a ``GroupSum``, which is static itself.
        rank: r, the number of independent rows.
        groups: the plan's groups with their sums ``(*batch, g)``, in sets of similar sizes.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
        tables: the plan's tables with their margins ``(*batch, R + C)`` and the largest of these.
        trellis: the plan's trellis with its start states ``(*batch,)``, or None.
        has_planned_matrix: ``(*batch,)`` whether A is the matrix of the plan; a leaf of a law can
            be replaced by another.
        possible: ``(*batch,)`` whether it is, and k is a right-hand side of the plan; it can be
            another where it is traced, or came in place of the one that was planned for.
    """

    def __init__(
        self,
        plan: FiberPlan,
        planned: PlannedMatrix | None,
        capacity: int | None,
        A: Any,
        k: Array,
        layout: Layout,
        upper: int | None,
        has_planned_matrix: Any = np.True_,
    ) -> None:
        super().__init__(A, k, layout, upper)
        self.plan, self.planned, self.rank = plan, planned, plan.rank
        self.has_planned_matrix = has_planned_matrix
        parts = () if plan.groups is None else plan.groups.by_size
        if self.integers is None:
            k, find = jnp.rint(self.k_rows).astype(jnp.result_type(int)), _find_start
        else:  # everything stays a NumPy constant, also inside a trace
            k, find = self.integers, _known_start
        is_whole = (k.astype(self.k_rows.dtype) == self.k_rows).all(-1)
        k = k if plan.fixed is None else k - _along(plan.fixed.shift, k)
        self.capacity = self._largest_capacity(k) if capacity is None else capacity
        self.trellis: tuple[Trellis, Any] | None = None
        if plan.trellis is not None:
            self.trellis = plan.trellis, find(plan.trellis, k)
        self.groups: list[tuple[DisjointGroups, Any]] = [(part, _totals(part, k)) for part in parts]
        pairs = zip(plan.tables, plan.margins, strict=True)
        self.tables: list[tuple[TwoWayTable, Any, np.ndarray]] = [
            (table, _margins(table, k), largest) for table, largest in pairs
        ]
        self.possible: Any = np.True_
        if capacity is not None or self.integers is None:  # else it was checked
            holds = is_whole & self._is_planned(k)
            ndim = max(holds.ndim, has_planned_matrix.ndim)
            self.possible = lift(holds, ndim) & lift(has_planned_matrix, ndim)
            self.groups = [
                (part, totals.clip(0, _along(self._largest(part), totals)))
                for part, totals in self.groups
            ]
            self.tables = [
                (table, margins.clip(0, _along(largest, margins)), largest)
                for table, margins, largest in self.tables
            ]

    @property
    def _limit(self) -> int | None:
        if isinstance(self.A, Tracer):
            return None
        room = np.iinfo(jnp.result_type(int)).max // 2
        limit = int(room // max(self._longest, 1))
        if self.integers is None:  # what 64 bits do not hold is no k of a plan
            is_enough = np.iinfo(jnp.result_type(int)).bits == 64
        else:
            is_enough = np.abs(self.integers).max(initial=0) <= room
        return limit if is_enough and self.plan.largest <= limit else None

    @property
    def decisive_rows(self) -> tuple[Any, Any]:
        """Rows that decide all others, or groups, and k there; of the plan where A is traced."""
        if not isinstance(self.A, Tracer):
            matrix = _as_rows(self.A if isinstance(self.A, GroupSum) else np.asarray(self.A))
            return matrix, self.k_rows
        rows, matrix = self.plan.matrix
        return matrix, self.k_rows[..., rows]

    def _is_planned(self, k: Any) -> Any:
        """``(*batch,)`` whether k is in reach of every part of the plan."""
        holds = (k[..., self.plan.zero_rows] == 0).all(-1)
        relations = self.plan.relations.T.astype(k.dtype)
        if relations.size:
            holds = holds & (k @ relations == 0).all(-1)
        if self.trellis is not None:
            trellis, start = self.trellis
            holds = holds & (start < trellis.sizes[0])
        for part, totals in self.groups:
            holds = holds & self._fits(part, totals, k).all(-1)
        for table, margins, largest in self.tables:
            told = margins @ table.told_weights.T.astype(k.dtype)
            holds = holds & (told == k[..., plan_index(table, "told")]).all(-1)
            holds = holds & ((margins >= 0) & (margins <= _along(largest, k))).all(-1)
        return holds

    def _fits(self, part: DisjointGroups, totals: Any, k: Any) -> Any:
        """``(*batch, g)`` whether groups can have such sums, and the plan has them."""
        given = k[..., plan_index(part, "rows")]
        is_sum = totals * _along(part.divisor, k) == given
        fits = is_sum & (totals >= 0) & (totals <= _along(self._largest(part), k))
        if self.upper is None:
            return fits
        rest = _along(part.sizes, k) - totals
        return fits & ((totals <= self.capacity) | (rest <= self.capacity))

    def _largest(self, part: DisjointGroups) -> np.ndarray:
        """``(g,)`` largest sums of groups that the plan has."""
        own = part.sizes
        if self.upper is None:
            own = np.zeros_like(part.sizes)
            np.maximum.at(own, part.index, self.plan.upper[part.variables])
        reach = (self.plan.row_range[:, part.rows] / part.divisor).max(0)
        return np.floor(np.minimum(own, reach)).astype(own.dtype)

    def _largest_capacity(self, k: Any) -> int:
        groups = self.plan.groups
        if groups is None or self.upper is None:
            return 0
        if self.integers is None:
            limit = self.plan.row_range[1, groups.rows] // np.abs(groups.divisor)
            return groups.capacity(np.minimum(limit, groups.sizes // 2).astype(np.int64))
        return groups.capacity(groups.totals(k))

    @property
    def num_values(self) -> int:
        """U: 1 + the largest value of any variable, by its base law if that has one."""
        return 1 + int(self.plan.upper.max(initial=0) if self.upper is None else self.upper)


def _totals(part: DisjointGroups, k: Any) -> Any:
    """``DisjointGroups.totals`` for a k that may be traced."""
    return k[..., plan_index(part, "rows")] // _along(part.divisor, k)


def _margins(table: TwoWayTable, k: Any) -> Any:
    """``TwoWayTable.margins`` for a k that may be traced."""
    sums = k[..., plan_index(table, "rows")] // _along(table.divisor, k)
    return sums @ table.weights.T.astype(k.dtype)


def _along(array: np.ndarray, like: Any) -> np.ndarray:
    """A vector as the last dimension of ``like``, in its dtype."""
    return array.astype(like.dtype).reshape((1,) * (like.ndim - 1) + array.shape)


def _known_start(trellis: Trellis, k: Any) -> Any:
    """``(*batch,)`` states of stage 0 of the right-hand sides; dead if there is none."""
    start = trellis.find(k)
    return np.where(start < 0, trellis.sizes[0], start).astype(np.int32)


def _find_start(trellis: Trellis, k: Array) -> Array:
    """``_known_start`` for a k that is traced."""
    given = k[..., None, plan_index(trellis, "rows")]
    starts = np.asarray(trellis.starts).astype(k.dtype)
    found = (given == starts.reshape((1,) * (k.ndim - 1) + starts.shape)).all(-1)
    return jnp.where(found.any(-1), found.argmax(-1), trellis.sizes[0])


def bind_fiber(
    A: Any,
    k: Any,
    like: Array,
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
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers that are known.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        like: the parameter of the law.
        upper: largest value by the base law, or None.
        k_max: as k, without batch: one plan for all 0 <= k <= k_max.
        merge: whether equal columns are one column of the trellis.
        grouped: whether blocks of one row have a method of their own.
        max_transitions: the budget of the plan, if not the usual one.
        known: what ``like``, if it is not traced, says for certain of the values of the variables.

    Raises:
        InfeasibleConstraintError: no point on the fiber.
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: a plan past its budget.
        ParameterError: a plan past its budget, and parameters that leave no point.
        ConstraintError: shapes that do not fit, numbers that are not whole, an A that is not known,
            counts that the dtype of ``like`` does not hold.
    """
    A = dense_form("A", A) if is_sparse(A) else A
    A, k = seen(A), seen(k)
    matrix, k, layout, integers = _read(A, k)
    num_variables = matrix.shape[-1]
    options: dict[str, Any] = {
        "upper": None if upper is None else np.full(num_variables, upper),
        "merge": merge,
        "grouped": grouped,
        "max_transitions": max_transitions,
    }
    if known is not None and not isinstance(like, Tracer):
        options["known"] = lambda: known(_values(like), num_variables)
    if k_max is None and integers is not None:
        plan = plan_fiber(matrix, integers, **options)
    else:
        bound = None if k_max is None else np.broadcast_to(np.asarray(k_max), matrix.shape[:1])
        plan = plan_fiber(matrix, None, k_max=bound, **options)
        if integers is not None:
            check_lattice(plan, integers)
    if integers is not None:  # a traced k that is not held is found in the program
        check_held(plan, integers, int(jnp.finfo(like.dtype).nmant) + 1, str(like.dtype))
        least = plan.row_range[0].min(initial=0)
        terms = 2 * (np.abs(integers).max(initial=0) - least)
        require_known_sums(float(terms), plan.num_variables, like.dtype)
    planned = None
    if not isinstance(matrix, GroupSum):
        planned = PlannedMatrix.of(matrix[0] if layout.is_vector else matrix)
    A, k = _leaves(A, k, like.dtype)
    return Fiber(plan, planned, None, A, k, layout, upper)


def _values(like: Array) -> np.ndarray:
    """Concrete parameters, in single precision at least."""
    values = np.asarray(like)
    return values if values.dtype.itemsize >= 4 else values.astype(np.float32)


def rebind_fiber(
    plan: FiberPlan,
    planned: PlannedMatrix | None,
    capacity: int,
    A: Any,
    k: Array,
    layout: Layout,
    upper: int | None,
    batch_dims: int,
) -> Fiber:
    """The constraint again from the leaves A and k of a pytree, which ``vmap`` may have stacked."""
    k = unstacked(k, 0 if layout.is_vector else 1, layout.k_batch, batch_dims)
    is_planned = np.True_ if planned is None else unstacked(planned.equals(A), 0, 0, batch_dims)
    return Fiber(plan, planned, capacity, A, k, layout, upper, is_planned)


def bind_integers(A: Any, k: Any, upper: int | None = None) -> IntegerConstraint:
    """Read ``A x = k`` without a plan, for checks of values.

    Raises:
        InfeasibleConstraintError: no integer x, of any sign, satisfies it.
        ConstraintError: shapes that do not fit, numbers that are not whole, an A that is not known.
    """
    A = dense_form("A", A) if is_sparse(A) else A
    A, k = seen(A), seen(k)
    matrix, k, layout, integers = _read(A, k)
    if integers is not None:
        lattice_of(matrix).check(integers)
        terms = 2.0 * np.abs(integers).max(initial=0)
        require_known_sums(terms, matrix.shape[-1], jnp.result_type(float))
    A, k = _leaves(A, k, jnp.result_type(float))
    return IntegerConstraint(A, k, layout, upper)


def same_fiber(one: Fiber, other: Fiber) -> Any:
    """Whether two constraints have the same points: a bool, or ``(*batch,)`` where k is traced."""
    if one.upper != other.upper or one.num_variables != other.num_variables:
        return False
    (first, k), (second, like) = one.decisive_rows, other.decisive_rows
    if one.integers is not None and other.integers is not None:
        return same_solutions(first, second, (k, like))
    batch = jnp.broadcast_shapes(k.shape[:-1], like.shape[:-1])
    k, like = (jnp.broadcast_to(part, batch + part.shape[-1:]) for part in (k, like))
    groups = isinstance(first, GroupSum) and isinstance(second, GroupSum)
    if one.plan is other.plan or (groups and first == second):  # plans of one matrix
        return (k == like).all(-1)
    if not same_solutions(first, second, None):
        return False
    relations = joint_relations(first, second).T.astype(jnp.result_type(int))
    return (jnp.concatenate([k, like], -1).astype(relations.dtype) @ relations == 0).all(-1)


def _leaves(A: Any, k: Any, dtype: Any) -> tuple[Any, Array]:
    """A and k as arrays; what is known stays known inside a trace."""
    with jax.ensure_compile_time_eval():
        A = A if isinstance(A, GroupSum) else _held("A", np.asarray(A), dtype)
        return A, _held("k", k, dtype)


def _held(name: str, given: Any, dtype: Any) -> Array:
    """A copy of whole numbers, which may change later; of those that are traced, NaN for ones that
    the type cannot hold."""
    leaf = jnp.array(given, dtype)
    if isinstance(leaf, Tracer):
        return jnp.where(leaf.astype(given.dtype) == given, leaf, jnp.nan)
    if (np.asarray(leaf, np.float64) != np.asarray(given, np.float64)).any():
        raise ConstraintError(
            f"{name}: expected whole numbers that {np.dtype(dtype).name} can hold, got a largest "
            f"of {int(np.abs(given).max())}; use float64 parameters."
        )
    return leaf


def _read(A: Any, k: Any) -> tuple[Any, Any, Layout, np.ndarray | None]:
    """The matrix as integers, k, how they are to be read, and k as integers if it is known."""
    require_both_sides(A, k)
    given = A if isinstance(A, GroupSum) else _known_matrix(A)
    is_vector = not isinstance(A, GroupSum) and np.ndim(A) == 1
    is_traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(k))
    k = jnp.asarray(k) if is_traced else on_host("k", k)
    rows = k[..., None] if is_vector else k
    check_exact_shapes(given.shape, k.shape)
    matrix = _as_rows(given)
    row_dims = 0 if isinstance(A, GroupSum) else 1 if is_vector else 2
    layout = Layout(row_dims, 0, rows.ndim - 1)
    return matrix, k, layout, None if is_traced else as_integers("k", rows)


def _as_rows(A: np.ndarray | GroupSum) -> np.ndarray | GroupSum:
    return A if isinstance(A, GroupSum) else np.atleast_2d(as_integers("A", A))


def _known_matrix(A: Any) -> np.ndarray:
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(A)):
        raise ConstraintError(
            "A: expected a constant matrix of whole numbers for a discrete law, got a traced "
            "array whose values are not known; its fiber is planned exactly from the values of A, "
            "so make A outside jit, vmap and grad, as a NumPy array."
        )
    return on_host("A", A)
