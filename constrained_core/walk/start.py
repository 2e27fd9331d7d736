"""Points of a fiber from which a walk can start, by integer programming."""

from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported when they are first used
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

from constrained_core.errors import InfeasibleConstraintError, IntractableConstraintError
from constrained_core.walk.weights import TableWeights, Weights

__all__ = ["find_start", "relaxed_mean"]

SECONDS = 60.0
GAP = 0.05
"""A start is good enough within this fraction of the best one."""


def relaxed_mean(
    matrix: np.ndarray, k: np.ndarray, weights: Weights, num_steps: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of the tilted law ``w_i(v) exp(v (A' lambda)_i)`` with mean sums k.

    It is what the law given ``A x = k`` is close to where sums are large. Damped Newton steps on
    the convex dual; the result is rough where no such law exists.

    Args:
        matrix: ``(m, n)`` int64.
        k: ``(m,)`` int64.
        weights: those of the n variables.
    """
    multiplier = np.zeros(len(matrix))
    scale = 1.0 + np.abs(k)
    mean, variance = weights.tilted(np.zeros(matrix.shape[1]))
    for _ in range(num_steps):
        gap = k - matrix @ mean
        if np.abs(gap / scale).max(initial=0.0) < 1e-6:
            break
        hessian = (matrix * variance) @ matrix.T
        ridge = 1e-9 * (1.0 + np.trace(hessian) / max(len(k), 1))
        step = np.linalg.solve(hessian + ridge * np.eye(len(k)), gap)
        for size in 0.5 ** np.arange(12):
            trial = multiplier + size * step
            tilted = weights.tilted(trial @ matrix)
            trial_gap = (k - matrix @ tilted[0]) / scale
            if np.abs(trial_gap).sum() < np.abs(gap / scale).sum():
                break
        else:
            break
        multiplier, (mean, variance) = trial, tilted
    return mean, variance


def find_start(
    matrix: np.ndarray,
    k: np.ndarray,
    weights: Weights,
    bounds: np.ndarray,
    near: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """A point ``(n,)`` of the fiber of large probability.

    Counts are those nearest to a mean in standard deviations; variables with a table of weights
    maximise the sum of log weights.

    Args:
        matrix: ``(m, n)`` int64.
        k: ``(m,)`` int64.
        weights: those of the n variables.
        bounds: ``(2, n)`` least and largest values.
        near: ``(n,)`` means and variances.
        rng: moves the target at random, for starts that differ.

    Raises:
        InfeasibleConstraintError: no point.
        IntractableConstraintError: none found within a minute.
    """
    task = weights.log_weights if isinstance(weights, TableWeights) else None
    programme = _nearest(bounds, near, rng) if task is None else _heaviest(task, rng)
    sums = csr_array(matrix.astype(float)) @ programme.values
    found = scipy.optimize.milp(
        programme.cost,
        constraints=[scipy.optimize.LinearConstraint(sums, k, k), programme.extra],
        bounds=programme.box,
        integrality=programme.is_whole,
        options={"time_limit": SECONDS, "mip_rel_gap": GAP},
    )
    point = None if found.x is None else np.rint(programme.values @ found.x).astype(np.int64)
    if point is not None and (matrix @ point == k).all():
        return point
    if found.status == 2:
        raise InfeasibleConstraintError(
            "A x = k has no solution: no integer x within the least and largest values of the base "
            "law has these sums, although integers of any sign do; correct k."
        )
    raise IntractableConstraintError(
        f"no point of the fiber of A x = k was found within {SECONDS:g} seconds "
        f"({found.message}); split the rows into independent blocks, or drop rows."
    )


class _Programme(NamedTuple):
    """Cost, the variables x as ``values @ unknowns``, and what the unknowns obey."""

    cost: np.ndarray
    values: csr_array
    box: "scipy.optimize.Bounds"
    extra: "scipy.optimize.LinearConstraint"
    is_whole: np.ndarray


def _nearest(
    bounds: np.ndarray, near: tuple[np.ndarray, np.ndarray], rng: np.random.Generator | None
) -> _Programme:
    """x and distances e with e >= |x - target|."""
    target, deviation = near[0], np.sqrt(near[1] + 0.25)
    if rng is not None:
        target = (target + 0.5) * rng.gamma(2.0, 0.5, len(target))
    n = len(target)
    identity, zero = eye_array(n), csr_array((n, n))
    sides = vstack([hstack([-identity, identity]), hstack([identity, identity])])
    return _Programme(
        cost=np.concatenate([np.zeros(n), 1 / deviation]),
        values=csr_array(hstack([identity, zero])),
        box=scipy.optimize.Bounds(
            np.append(bounds[0], np.zeros(n)), np.append(bounds[1], np.full(n, np.inf))
        ),
        extra=scipy.optimize.LinearConstraint(sides, np.concatenate([-target, target])),
        is_whole=np.repeat([1, 0], n),
    )


def _heaviest(log_weights: np.ndarray, rng: np.random.Generator | None) -> _Programme:
    """An indicator for each value of each variable."""
    n, categories = log_weights.shape
    possible = log_weights > -np.inf
    cost = -np.where(possible, log_weights, 0.0)
    if rng is not None:
        cost = cost - rng.gumbel(size=cost.shape)
    one_each = kron(eye_array(n), np.ones((1, categories)))
    return _Programme(
        cost=cost.ravel(),
        values=csr_array(kron(eye_array(n), np.arange(categories)[None])),
        box=scipy.optimize.Bounds(0, possible.ravel().astype(float)),
        extra=scipy.optimize.LinearConstraint(one_each, 1, 1),
        is_whole=np.ones(cost.size),
    )
