"""The plan of a walk on a fiber: where it starts, its directions, and the window of its steps."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from constrained_core.errors import ConstraintError, IntractableConstraintError
from constrained_core.fiber.bounds import largest_values, require_bounded
from constrained_core.fiber.lattice import as_integers, lattice_of
from constrained_core.fiber.planner import plan_fiber
from constrained_core.fiber.points import count_fiber, enumerate_fiber
from constrained_core.groups import GroupSum
from constrained_core.walk.connectivity import Connectivity, connects, unimodularity
from constrained_core.walk.moves import Tableau, integer_kernel, make_tableau, reduced_basis
from constrained_core.walk.start import find_start, relaxed_mean
from constrained_core.walk.weights import TableWeights, Weights

__all__ = ["WalkPlan", "plan_walk"]

WINDOW_DROP = 20.0
"""A window of steps leaves out log weights lower than the largest by this much: 2e-9."""

GRID = 32
"""Points of a line that are looked at to find where its mass is."""

MAX_WINDOW = 4096
SMALL_FIBRE = 2_000
SMALL_CHAIN = 100_000


@dataclass(frozen=True, eq=False)
class WalkPlan:
    """All that a walk on ``{x integer : A x = k, lower <= x <= upper}`` needs to know.

    Attributes:
        matrix: ``(m, n)`` int64.
        k: ``(m,)`` int64.
        weights: those of the n variables.
        bounds: ``(2, n)`` least and largest value of every variable; free counts have 0 twice.
        free: ``(f,)`` variables in no row, drawn from the base law.
        active: ``(p,)`` variables that can change.
        near: ``(n,)`` means and variances of the tilted law.
        tableau: of the active columns, where A is unimodular and no moves are given.
        moves: ``(M, p)`` other directions: a lattice basis, or the moves given by the user.
        mixes: whether random combinations of the moves are directions too.
        connectivity: what is known of it.
    """

    matrix: np.ndarray
    k: np.ndarray
    weights: Weights
    bounds: np.ndarray
    free: np.ndarray
    active: np.ndarray
    near: tuple[np.ndarray, np.ndarray]
    tableau: Tableau | None
    moves: np.ndarray
    mixes: bool
    connectivity: Connectivity

    @cached_property
    def num_steps(self) -> int:
        """Steps of one sweep: the dimension of the fiber."""
        if not self.active.size:
            return 0
        return len(self.active) - int(np.linalg.matrix_rank(self.matrix[:, self.active]))

    @cached_property
    def largest(self) -> int:
        """The largest value of any variable."""
        return int(self.bounds[1].max(initial=0))

    @cached_property
    def _widest(self) -> int:
        low, high = self.bounds[:, self.active]
        return int((high - low).max(initial=0)) + 1

    @cached_property
    def window(self) -> int:
        """Steps that are weighed at once: all of them, or all that matter on most lines."""
        if isinstance(self.weights, TableWeights) or not self.active.size:
            return self._widest
        # Along a line through two counts of mean mu, the log weight curves by 2 / mu at least.
        mean = float(np.quantile(self.near[0][self.active], 0.9))
        mass = int(2 * np.sqrt(WINDOW_DROP * (mean + 20.0)))
        return min(self._widest, mass, MAX_WINDOW)

    @cached_property
    def num_refinements(self) -> int:
        """How often a range of steps is cut down to where its mass is."""
        width, count = self._widest, 0
        while width > self.window:
            width, count = 3 * -(-width // GRID), count + 1
        return count + 1 if count else 0

    @cached_property
    def stay_weight(self) -> np.ndarray:
        """``(p,)`` log weights with which columns stay in the basis: large means do."""
        return np.log(self.near[0][self.active] + 0.1)

    def starts(self, count: int, seed: int) -> np.ndarray:
        """``(count, n)`` starts that differ: the first near the mean, others at random targets."""
        rng = np.random.default_rng(seed)
        points = [
            find_start(
                self.matrix, self.k, self.weights, self.bounds, self.near, rng if i else None
            )
            for i in range(min(count, 8))
        ]
        return np.stack([points[i % len(points)] for i in range(count)])

    @cached_property
    def start(self) -> np.ndarray:
        """``(n,)`` a point near the mean."""
        return self.starts(1, 0)[0]


def plan_walk(
    matrix: np.ndarray | GroupSum, k: np.ndarray, weights: Weights, moves: np.ndarray | None = None
) -> WalkPlan:
    """Plan a walk on the fiber of ``A x = k``.

    Args:
        matrix: ``(m, n)`` whole numbers, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(m,)`` whole numbers; one number for one row.
        weights: those of the n variables.
        moves: ``(M, n)`` a Markov basis, or None for directions of our own.

    Raises:
        ConstraintError: shapes that do not fit; moves that are not in the kernel of A.
        InfeasibleConstraintError: no integer solution of any sign.
        UnboundedSupportError: a fiber that is not bounded.
    """
    matrix, k = _checked_sides(matrix, k, len(weights.lower))
    lattice_of(matrix).check(k)
    bounds, free = _bounds(matrix, k, weights)
    active = np.flatnonzero((bounds[0] < bounds[1]) & (matrix != 0).any(axis=0))
    near = relaxed_mean(matrix, k, weights)
    plan = WalkPlan(
        matrix=matrix,
        k=k,
        weights=weights,
        bounds=bounds,
        free=free,
        active=active,
        near=near,
        tableau=None,
        moves=np.zeros((0, len(active)), dtype=np.int64),
        mixes=False,
        connectivity=Connectivity(True, "no variable can change"),
    )
    if moves is not None:
        plan = replace(plan, moves=_checked_moves(moves, matrix, active))
        known = Connectivity(True, "the moves are a Markov basis, as whoever gave them says")
        return replace(plan, connectivity=_on_small_fiber(plan, known))
    return _with_own_moves(plan)


def _checked_sides(
    matrix: np.ndarray | GroupSum, k: np.ndarray, num_variables: int
) -> tuple[np.ndarray, np.ndarray]:
    """A ``(m, n)`` and k ``(m,)`` as integers."""
    given = matrix.to_dense() if isinstance(matrix, GroupSum) else matrix
    matrix = np.atleast_2d(as_integers("A", given))
    k = as_integers("k", k)
    k = k[None] if np.ndim(given) == 1 else k
    if matrix.ndim != 2 or matrix.shape[1] != num_variables or k.shape != matrix.shape[:1]:
        raise ConstraintError(
            f"expected A of shape (m, {num_variables}) and k of shape (m,) for a base law of "
            f"{num_variables} variables, got {matrix.shape} and {k.shape}; a walk has one A and "
            "one k, so make a sampler of each."
        )
    return matrix, k


def _bounds(matrix: np.ndarray, k: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    used = (matrix != 0).any(axis=0)
    if weights.upper is not None:
        return np.stack([weights.lower, weights.upper]), np.flatnonzero(~used)
    largest = np.zeros(matrix.shape[1], dtype=np.int64)
    possible = used & (weights.tilted(np.zeros(matrix.shape[1]))[0] > 0)
    columns = np.flatnonzero(possible)
    require_bounded(matrix[:, columns].T, columns)
    largest[columns] = largest_values(matrix[:, columns].T, np.stack([k, k]), None)
    return np.stack([weights.lower, largest]), np.flatnonzero(~used)


def _checked_moves(moves: np.ndarray, matrix: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The moves of variables that can change, each once."""
    moves = np.atleast_2d(as_integers("moves", moves))
    if moves.shape[1] != matrix.shape[1] or (matrix @ moves.T).any():
        raise ConstraintError(
            f"moves: expected shape (M, {matrix.shape[1]}) with A moves.T = 0, got shape "
            f"{moves.shape} and a largest |A d| of "
            f"{np.abs(matrix @ moves.T).max() if moves.shape[1] == matrix.shape[1] else '?'}; "
            "every move must leave A x as it is."
        )
    fixed = np.setdiff1d(np.arange(matrix.shape[1]), active)
    moves = moves[(moves != 0).any(axis=1) & ~(moves[:, fixed] != 0).any(axis=1)]
    return moves[:, active]


def _with_own_moves(plan: WalkPlan) -> WalkPlan:
    """Elementary directions of a unimodular A, else a reduced lattice basis and combinations."""
    matrix = plan.matrix[:, plan.active]
    if not plan.active.size:
        return plan
    mean, variance = (a[plan.active] for a in plan.near)
    why = unimodularity(matrix)
    if why is not None:
        tableau = make_tableau(matrix, mean)
        known = Connectivity(True, f"{why}, and its elementary directions connect every fiber")
        plan = replace(plan, tableau=tableau, moves=_directions(tableau), connectivity=known)
    else:
        moves = reduced_basis(integer_kernel(matrix), 1 / (variance + 0.25))
        reason = (
            "A is not known to be unimodular; combinations of all lattice moves are drawn, but "
            "those needed may be rare: compare chains, or give a Markov basis as `moves`"
        )
        plan = replace(plan, moves=moves, mixes=True, connectivity=Connectivity(None, reason))
    if isinstance(plan.weights, TableWeights) and plan.weights.has_holes:
        reason = "values between possible ones are impossible: the walk may not get past them"
        plan = replace(plan, connectivity=Connectivity(None, reason))
    if plan.connectivity.is_connected is None:
        plan = replace(plan, connectivity=_on_small_fiber(plan, plan.connectivity))
    return plan


def _directions(tableau: Tableau) -> np.ndarray:
    rank, count = tableau.entries.shape
    moves = np.zeros((count, rank + count), dtype=np.int64)
    moves[np.arange(count), tableau.others] = 1
    moves[:, tableau.basis] = -tableau.entries.T
    return moves


def _on_small_fiber(plan: WalkPlan, otherwise: Connectivity) -> Connectivity:
    """Looked up on all points of a small fiber."""
    points = _points(plan)
    if points is None:
        return otherwise
    if len(points) < 2 or connects(points, plan.moves):
        return Connectivity(True, f"the moves connect all {len(points)} points of the fiber")
    reason = f"the moves alone do not connect the {len(points)} points of the fiber"
    if plan.mixes or plan.tableau is not None:
        return Connectivity(None, f"{reason}; others are drawn too, perhaps rarely")
    return Connectivity(False, f"{reason}; give a Markov basis, or no moves")


def _points(plan: WalkPlan) -> np.ndarray | None:
    """``(count, p)`` the active part of all points of a small fiber, None for a large one."""
    matrix, (low, high) = plan.matrix[:, plan.active], plan.bounds[:, plan.active]
    fixed = np.setdiff1d(np.arange(plan.matrix.shape[1]), plan.active)
    rest = plan.k - plan.matrix[:, fixed] @ plan.bounds[0, fixed]
    try:
        exact = plan_fiber(matrix, rest, upper=high, max_transitions=SMALL_CHAIN)
        count = count_fiber(exact, rest)
    except IntractableConstraintError:
        return None
    if count > SMALL_FIBRE:
        return None
    points = enumerate_fiber(exact, rest)
    value = plan.weights.slope()[plan.active] * points
    table = plan.weights.table(plan.largest)
    value = value + table[plan.weights.offset()[plan.active] + points]
    return points[(points >= low).all(axis=1) & (value > -np.inf).all(axis=1)]
