"""The largest value of every variable on a fiber of a law without largest values (Poisson)."""

from fractions import Fraction

import numpy as np
import scipy  # its parts are imported when they are first used

from constrained_core.errors import UnboundedSupportError

__all__ = ["largest_values", "require_bounded"]


UNKNOWN = np.iinfo(np.int64).max


def largest_values(columns: np.ndarray, bounds: np.ndarray, upper: np.ndarray | None) -> np.ndarray:
    """``(q,)`` upper bounds of x >= 0 with ``bounds[0] <= columns' x <= bounds[1]``.

    Rows of one sign bound their variables; others take a linear programme per variable.

    Args:
        columns: ``(q, r)`` coefficients for which the fiber is bounded.
        bounds: ``(2, r)`` least and largest right-hand side.
        upper: ``(q,)`` bounds that hold already, or None.
    """
    largest = np.full(len(columns), UNKNOWN) if upper is None else upper.copy()
    for sign, bound in ((1, bounds[1]), (-1, -bounds[0])):
        for row in np.flatnonzero((sign * columns >= 0).all(axis=0)):
            inside = columns[:, row] != 0
            ratio = max(bound[row], 0) // (sign * columns[inside, row])
            largest[inside] = np.minimum(largest[inside], ratio)
    for column in np.flatnonzero(largest == UNKNOWN):
        largest[column] = _programme(columns, bounds, int(column))
    return largest


def _programme(columns: np.ndarray, bounds: np.ndarray, column: int) -> int:
    cost = np.zeros(len(columns))
    cost[column] = -1
    sides = np.concatenate([columns.T, -columns.T])
    found = scipy.optimize.linprog(cost, A_ub=sides, b_ub=np.concatenate([bounds[1], -bounds[0]]))
    return 0 if found.fun is None else int(np.floor(-found.fun * (1 + 1e-6) + 1e-6))


def require_bounded(columns: np.ndarray, variables: np.ndarray) -> None:
    """Check that no direction d >= 0 has ``A d = 0``.

    Args:
        columns: ``(q, r)`` coefficients.
        variables: ``(q,)`` their numbers, for the message.

    Raises:
        UnboundedSupportError: naming a direction.
    """
    signs = np.sign(columns)
    if (np.abs(signs).sum(axis=1) > 0)[~_in_row_of_one_sign(signs)].any():
        found = scipy.optimize.linprog(
            -np.ones(len(columns)), A_eq=columns.T, b_eq=np.zeros(columns.shape[1]), bounds=(0, 1)
        )
        if -found.fun > 1e-6:
            raise UnboundedSupportError(
                "the fiber of A x = k is not bounded: adding any multiple of "
                f"{_direction(columns, found.x, variables)} to x leaves A x as it is; add a row "
                "that bounds these variables."
            )


def _in_row_of_one_sign(signs: np.ndarray) -> np.ndarray:
    one_sign = (signs >= 0).all(axis=0) | (signs <= 0).all(axis=0)
    return (signs[:, one_sign] != 0).any(axis=1)


def _direction(columns: np.ndarray, found: np.ndarray, variables: np.ndarray) -> str:
    fractions = [Fraction(float(x)).limit_denominator(1000) for x in found]
    scale = int(np.lcm.reduce([f.denominator for f in fractions], dtype=object))
    whole = np.array([int(f * scale) for f in fractions])
    size = whole if not (columns.T @ whole).any() else np.round(found, 6)
    return " + ".join(
        f"x[{i}]" if d == 1 else f"{d} x[{i}]" for i, d in zip(variables, size, strict=True) if d
    )
