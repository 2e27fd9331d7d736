"""Points of a subspace that were made there: a density need not ask whether they are on it.

A step of NUTS makes a point by the transform onto the support and then scores it. Arrays do not
change, so that a tracer stands for the same point as long as it lives.
"""

from weakref import ref

import numpy as np
from jax import Array
from jax.core import Tracer

from numpyro_constrained.kernels.linear.constraint import LinearConstraint

__all__ = ["is_made_on", "made_on"]

_MADE: dict[int, tuple[ref, LinearConstraint]] = {}
"""By the number of a tracer: itself, and the constraint that it obeys."""


def made_on(constraint: LinearConstraint, point: Array) -> Array:
    """The point, which from now on is known to obey the constraint to the last bits."""
    if isinstance(point, Tracer):  # a value that is known is checked when it is scored
        number = id(point)
        own = ref(point, lambda _: _MADE.pop(number, None))
        _MADE[number] = own, constraint
    return point


def is_made_on(constraint: LinearConstraint, point: Array) -> bool:
    """Whether the point was made on this subspace."""
    if id(point) not in _MADE:
        return False
    own, other = _MADE[id(point)]
    return own() is point and (other is constraint or _is_same(other, constraint))


def _is_same(one: LinearConstraint, other: LinearConstraint) -> bool:
    """Whether two constraints are seen to be equal."""
    if one.matrix is not other.matrix:
        return False
    sides = one.scaled_k, other.scaled_k
    if any(isinstance(side, Tracer) for side in sides):
        return sides[0] is sides[1]
    return np.array_equal(*sides)
