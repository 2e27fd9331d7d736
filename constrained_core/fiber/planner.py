"""From an integer constraint to the plan of its fiber."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constrained_core.cache import Cache, content
from constrained_core.errors import (
    ConstraintError,
    InfeasibleConstraintError,
    IntractableConstraintError,
    ParameterError,
    UnboundedSupportError,
)
from constrained_core.fiber.facts import Facts, facts_of
from constrained_core.fiber.known import Known
from constrained_core.fiber.lattice import as_integers
from constrained_core.fiber.parts import FiberParts, split
from constrained_core.fiber.plan import NO_POINT, FiberPlan
from constrained_core.fiber.specification import Specification, row_range
from constrained_core.groups import GroupSum

__all__ = ["MAX_TRANSITIONS", "check_held", "check_lattice", "plan_fiber"]

MAX_TRANSITIONS = 10_000_000
"""Budget of a trellis: about 40 MB of tables, a tenth of a second per pass and batch element."""

_WHOLE: Cache[FiberParts] = Cache(max_entries=32)
_PARTS: Cache[FiberParts] = Cache(max_entries=32)
_PLANS: Cache[FiberPlan] = Cache(max_entries=32)
_CALLS: Cache[FiberPlan] = Cache(max_entries=32)


@dataclass(frozen=True, eq=False)
class _Request:
    """The arguments of ``plan_fiber``, with k, upper and ``k_max`` as arrays."""

    matrix: np.ndarray | GroupSum
    k: np.ndarray | None
    upper: np.ndarray | None
    k_max: np.ndarray | None
    merge: bool
    grouped: bool
    edges: bool
    max_transitions: int

    @cached_property
    def _matrix_content(self) -> Hashable:
        return content(self.matrix)

    @property
    def key(self) -> Hashable:
        arrays = (self.k, self.upper, self.k_max)
        options = (self.merge, self.grouped, self.edges, self.max_transitions)
        return (self._matrix_content, *map(content, arrays), *options)

    @property
    def is_grouped(self) -> bool:
        return self.grouped and (self.upper is None or bool((self.upper == 1).all()))

    def parts(self, matrix: np.ndarray | GroupSum) -> FiberParts:
        """Those of a matrix of whole numbers."""
        key = (content(matrix), self.is_grouped)
        return _PARTS.get(key, lambda: split(matrix, self.is_grouped))

    def integers(self) -> np.ndarray | GroupSum:
        if isinstance(self.matrix, GroupSum):
            return self.matrix
        return as_integers("A", self.matrix)

    def facts(self, known: Callable[[], Known | None] | None) -> Facts:
        """What parameters say of the constraint; they are not asked where it is of no use."""
        key = (self._matrix_content, self.is_grouped)
        whole = _WHOLE.get(key, lambda: self.parts(self.integers()))
        is_bounded = self.upper is not None
        is_useful = whole.variables.size or (whole.free.size and not is_bounded)
        if known is None or not is_useful:
            return Facts(whole)
        return facts_of(self.integers(), whole, known(), is_bounded, self.merge, self.parts)


def plan_fiber(
    matrix: np.ndarray | GroupSum,
    k: np.ndarray | None,
    *,
    upper: np.ndarray | None = None,
    k_max: np.ndarray | None = None,
    merge: bool = False,
    grouped: bool = True,
    max_transitions: int | None = None,
    known: Callable[[], Known | None] | None = None,
    edges: bool = False,
) -> FiberPlan:
    """Analyse ``{x integer : A x = k, 0 <= x <= upper}``; the same content is analysed once.

    Args:
        matrix: ``(m, n)`` whole numbers of any dtype, or a ``GroupSum``.
        k: ``(*batch, m)`` whole numbers; the trellis has the right-hand sides of the batch. None
            where it is not known: then the trellis has all that can be reached.
        upper: ``(n,)`` largest value of every variable by its base law; None if unbounded.
        k_max: ``(m,)`` where k is None, plan for ``0 <= k <= k_max`` only.
        merge: whether equal columns are one column of the trellis (Poisson).
        grouped: whether blocks of one row with one coefficient are groups. They are not where
            a variable has more values than 0 and 1 but finitely many.
        max_transitions: budget of the trellis; 10^7 if None.
        known: reads the parameters, for values that they make impossible and tables that they
            make independent; asked only where a trellis, or an unbounded variable, may profit.
        edges: whether first derivatives in rates of exactly 0 are wanted.

    Raises:
        ConstraintError: entries that are not whole numbers; no k, no ``k_max`` and no ``upper``;
            a budget that is no positive number.
        InfeasibleConstraintError: a k without a point on its fiber.
        UnboundedSupportError: infinitely many points.
        IntractableConstraintError: a trellis past its budget.
        ParameterError: a trellis past its budget, and a k that the parameters make impossible.
    """
    limit = MAX_TRANSITIONS if max_transitions is None else _checked_limit(max_transitions)
    k, upper, k_max = (None if a is None else np.asarray(a) for a in (k, upper, k_max))
    matrix = matrix if isinstance(matrix, GroupSum) else np.asarray(matrix)
    request = _Request(matrix, k, upper, k_max, merge, grouped, edges, limit)
    facts = request.facts(known)
    return _CALLS.get((request.key, facts.key), lambda: _plan(request, facts))


def _checked_limit(max_transitions: int) -> int:
    if not isinstance(max_transitions, int | np.integer) or max_transitions <= 0:
        raise ConstraintError(
            "max_transitions: expected a positive whole number, the budget of transitions of an "
            f"exact answer, got {max_transitions!r}; leave it out for {MAX_TRANSITIONS}."
        )
    return int(max_transitions)


def _plan(request: _Request, facts: Facts) -> FiberPlan:
    """``plan_fiber`` for arguments not met before; plans are shared where only they differ."""
    whole, k = Facts(request.parts(request.integers())), request.k
    if k is not None:
        k = as_integers("k", k)
        whole.parts.lattice.check(k)
        upper = None if request.upper is None else as_integers("upper", request.upper)
        _check_range(row_range(whole.parts, upper), k)
    if not facts.are_certain:
        return _made(request, facts, k)
    try:
        return _made(request, facts, k)
    except InfeasibleConstraintError:  # parameters exclude it: is there a point at all?
        try:
            return _made(request, whole, k)
        except (IntractableConstraintError, UnboundedSupportError) as error:
            raise ParameterError(NO_POINT) from error


def _made(request: _Request, facts: Facts, k: np.ndarray | None) -> FiberPlan:
    upper, k_max = (
        None if value is None else as_integers(name, value)
        for name, value in (("upper", request.upper), ("k_max", request.k_max))
    )
    sides = k if k is None or facts.fixed is None else k - facts.fixed.shift
    if sides is not None:
        facts.parts.lattice.check(sides)
    specification = Specification(
        request.parts(request.integers()),
        facts,
        sides,
        upper,
        k_max,
        request.merge,
        request.edges,
        request.max_transitions,
    )
    key = (content(request.integers()), request.is_grouped, request.edges, specification.key)
    plan = _PLANS.get(key, specification.plan)
    if sides is not None:
        _check_points(plan, sides)
    return plan


def check_lattice(plan: FiberPlan, k: np.ndarray) -> None:
    """Check that every ``k (*batch, m)`` has a point on its fiber.

    Raises:
        ConstraintError: a k that is not whole.
        InfeasibleConstraintError: saying why, with the place in the batch.
        ParameterError: there may be points, but none that the parameters allow.
    """
    sides = plan.sides(as_integers("k", k))
    try:
        plan.lattice.check(sides)
        _check_points(plan, sides)
    except InfeasibleConstraintError as error:
        if plan.fixed is None and plan.possible is None:
            raise
        raise ParameterError(NO_POINT) from error


def check_held(plan: FiberPlan, k: np.ndarray, digits: int, dtype: str) -> None:
    """Check that a dtype holds the values of variables.

    Args:
        plan: of this k, or of larger ones too.
        k: ``(*batch, m)`` right-hand sides.
        digits: bits of a number of that type.
        dtype: its name.

    Raises:
        ConstraintError: a value that the type rounds.
    """
    if plan.largest <= 2**digits:
        return
    upper = plan.upper
    if (plan.entries.data > 0).all():
        upper = np.minimum(upper, np.max(k, initial=0))
    variable = int(upper.argmax())
    if upper[variable] > 2**digits:
        raise ConstraintError(
            f"k: expected counts of at most 2**{digits}, the whole numbers that {dtype} holds, got "
            f"k that leave x[{variable}] values up to {upper[variable]}; give the parameters in "
            "double precision."
        )


def _check_range(limits: np.ndarray, k: np.ndarray) -> None:
    """Check that right-hand sides are within what rows can give."""
    least, largest = limits
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


def _check_points(plan: FiberPlan, k: np.ndarray) -> None:
    """Check that right-hand sides of the lattice have a point with 0 <= x <= upper."""
    _check_range(plan.row_range, k)
    missing = np.zeros(k.shape[:-1], dtype=bool)
    for table in plan.tables:
        missing |= (table.margins(k) < 0).any(axis=-1)
    if plan.trellis is not None:
        missing |= plan.trellis.find(k) < 0
    if missing.any():
        where = tuple(int(i) for i in np.argwhere(missing)[0])
        raise InfeasibleConstraintError(
            "A x = k has no solution: no integer x with 0 <= x <= upper has "
            f"k{list(where) if where else ''} = {k[where].tolist()}, although integers of any sign "
            "do; correct k."
        )
