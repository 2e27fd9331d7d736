"""From an integer constraint to the plan of its fibre."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from constrained_core.fibre import FibrePlan, GroupFibre
from constrained_core.fibre_blocks import FibreParts, split
from constrained_core.fibre_chain import make_chain
from constrained_core.groups import GroupSum
from constrained_core.lattice import as_integers

__all__ = ["MAX_TRANSITIONS", "check_lattice", "plan_fibre"]

MAX_TRANSITIONS = 10_000_000
"""Budget of a chain: about 40 MB of tables, and a tenth of a second per pass and batch element."""

T = TypeVar("T")


class _Memory(Generic[T]):
    """Bounded memory of what was made from a key, the oldest forgotten first."""

    def __init__(self, max_entries: int) -> None:
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._max_entries = max_entries
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        made = make()
        with self._lock:
            self._entries[key] = made
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return made


_PARTS: _Memory[FibreParts] = _Memory(max_entries=32)
_PLANS: _Memory[FibrePlan] = _Memory(max_entries=32)
_CALLS: _Memory[FibrePlan] = _Memory(max_entries=32)


def plan_fibre(
    matrix: np.ndarray | GroupSum,
    k: np.ndarray | None,
    *,
    upper: np.ndarray | None = None,
    k_max: np.ndarray | None = None,
    merge: bool = False,
    grouped: bool = True,
    max_transitions: int = MAX_TRANSITIONS,
) -> FibrePlan:
    """Analyse ``{x integer : A x = k, 0 <= x <= upper}``; the same content is analysed once.

    Args:
        matrix: ``(m, n)`` whole numbers of any dtype, or a ``GroupSum``.
        k: ``(*batch, m)`` whole numbers; the chain has the right-hand sides of the batch. None
            where it is not known: then the chain has all that can be reached.
        upper: ``(n,)`` largest value of every variable by its base law; None if unbounded.
        k_max: ``(m,)`` where k is None, plan for ``0 <= k <= k_max`` only.
        merge: whether equal columns are one column of the chain (Poisson).
        grouped: whether blocks of one row with one coefficient are groups. They are not where
            a variable has more values than 0 and 1 but finitely many.
        max_transitions: budget of the chain.

    Raises:
        ConstraintError: entries that are not whole numbers; no k, no ``k_max`` and no ``upper``.
        InfeasibleConstraintError: a k without a point on its fibre.
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: a chain past its budget.
    """
    k, upper, k_max = (None if a is None else np.asarray(a) for a in (k, upper, k_max))
    matrix = matrix if isinstance(matrix, GroupSum) else np.asarray(matrix)
    key = (*map(_content, (matrix, k, upper, k_max)), merge, grouped, max_transitions)
    return _CALLS.get(key, lambda: _plan(matrix, k, upper, k_max, merge, grouped, max_transitions))


def _content(array: np.ndarray | GroupSum | None) -> Hashable:
    if array is None or isinstance(array, GroupSum):
        return array
    return array.shape, array.dtype.str, array.tobytes()


def _plan(
    matrix: np.ndarray | GroupSum,
    k: np.ndarray | None,
    upper: np.ndarray | None,
    k_max: np.ndarray | None,
    merge: bool,
    grouped: bool,
    max_transitions: int,
) -> FibrePlan:
    """``plan_fibre`` for arguments not met before; plans are shared where only they differ."""
    matrix = matrix if isinstance(matrix, GroupSum) else as_integers("A", matrix)
    k, upper, k_max = (
        None if value is None else as_integers(name, value)
        for name, value in (("k", k), ("upper", upper), ("k_max", k_max))
    )
    grouped = grouped and (upper is None or bool((upper == 1).all()))
    split_key = (_content(matrix), grouped)
    parts = _PARTS.get(split_key, lambda: split(matrix, grouped))
    if k is not None:
        parts.lattice.check(k)
    task = _Task(parts, k, upper, k_max, merge, max_transitions)
    plan = _PLANS.get((split_key, task.key), task.plan)
    if k is not None:
        _check_points(plan, k)
    return plan


def check_lattice(plan: FibrePlan, k: np.ndarray) -> None:
    """Check that every ``k (*batch, m)`` has a point on its fibre.

    Raises:
        ConstraintError: a k that is not whole.
        InfeasibleConstraintError: saying why, with the place in the batch.
    """
    k = as_integers("k", k)
    plan.lattice.check(k)
    _check_points(plan, k)


def _check_points(plan: FibrePlan, k: np.ndarray) -> None:
    """Check that right-hand sides of the lattice have a point with 0 <= x <= upper."""
    least, largest = plan.row_range
    outside = (k < least) | (k > largest)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        row = where[-1]
        raise InfeasibleConstraintError(
            f"A x = k has no solution: expected k[{', '.join(map(str, where))}] between "
            f"{least[row]:g} and {largest[row]:g}, what row {row} of A can give with "
            f"0 <= x <= upper (and k <= k_max, where that was given), got {k[where]}; correct k, "
            "or raise k_max."
        )
    missing = plan.chain is not None and plan.chain.find(k) < 0
    if np.any(missing):
        where = tuple(int(i) for i in np.argwhere(missing)[0])
        raise InfeasibleConstraintError(
            "A x = k has no solution: no integer x with 0 <= x <= upper has "
            f"k{list(where) if where else ''} = {k[where].tolist()}, although integers of any sign "
            "do; correct k."
        )


class _Task:
    """What a plan is made from, reduced to what it depends on."""

    def __init__(
        self,
        parts: FibreParts,
        k: np.ndarray | None,
        upper: np.ndarray | None,
        k_max: np.ndarray | None,
        merge: bool,
        max_transitions: int,
    ) -> None:
        if k is None and k_max is None and upper is None:
            raise ConstraintError(
                "k is not known when the fibre is planned and the base law is unbounded: give "
                "k_max of shape (m,), the largest k, or a concrete k."
            )
        self._parts, self._upper = parts, upper
        self._merge, self._max_transitions = merge, max_transitions
        self._row_range = _row_range(parts, upper, k_max if k is None else None)
        self._starts, self._bounds = None, self._row_range
        if k is not None:
            num_rows = parts.shape[0]
            k = k.reshape(-1, num_rows) if k.size else np.zeros((1, num_rows), dtype=np.int64)
            self._starts = np.unique(k[:, parts.rows], axis=0)
            self._bounds = np.stack([k.min(axis=0), k.max(axis=0)])

    @property
    def key(self) -> tuple:
        """All that the plan depends on, beside the parts."""
        arrays = (self._starts, self._bounds, self._row_range, self._upper)
        return (*map(_content, arrays), self._merge, self._max_transitions)

    def plan(self) -> FibrePlan:
        """The plan, made anew."""
        parts, chain = self._parts, None
        num_rows, num_variables = parts.shape
        upper = np.full(num_variables, -1) if self._upper is None else self._upper.copy()
        if parts.groups is not None:
            variables = parts.groups.variables
            largest = self._largest_totals(parts.groups)[parts.groups.index]
            own = largest if self._upper is None else upper[variables]
            upper[variables] = np.minimum(own, largest)
        if len(parts.variables):
            chain = make_chain(
                parts, self._starts, self._bounds, self._upper, self._merge, self._max_transitions
            )
            upper[chain.variables] = chain.num_values[chain.column] - 1
        return FibrePlan(
            num_rows=num_rows,
            num_variables=num_variables,
            upper=upper,
            free=parts.free,
            groups=parts.groups,
            chain=chain,
            lattice=parts.lattice,
            row_range=self._row_range,
        )

    def _largest_totals(self, groups: GroupFibre) -> np.ndarray:
        totals = self._bounds[:, groups.rows] / groups.divisor
        return np.floor(totals.max(axis=0).clip(0)).astype(np.int64)


def _row_range(parts: FibreParts, upper: np.ndarray | None, k_max: np.ndarray | None) -> np.ndarray:
    """``(2, m)`` the least and the largest (A x)_i; infinite where x is unbounded."""
    largest_x = np.ones(parts.shape[1]) if upper is None else upper.astype(float)
    least, largest = parts.negative @ largest_x, parts.positive @ largest_x
    if upper is None:
        least, largest = np.where(least < 0, -np.inf, 0), np.where(largest > 0, np.inf, 0)
    if k_max is not None:
        least, largest = np.maximum(least, 0), np.minimum(largest, k_max)
    return np.stack([least, largest])
