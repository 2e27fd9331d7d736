"""Points of a subspace that were made there: a density need not ask whether they are on it.

A step of HMC makes a point by the transform onto the support and then scores it; a step of SVI
draws one and scores it.
"""

from weakref import ref

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.linear.constraint import LinearConstraint

__all__ = ["is_made_on", "made_on"]

_MADE: dict[int, tuple[ref, int, LinearConstraint]] = {}
"""By the number of a tensor: itself, its version, and the constraint that it obeys."""


def made_on(constraint: LinearConstraint, point: Tensor) -> Tensor:
    """The point, which from now on is known to obey the constraint to the last bits.

    Only a part of a graph is: other tensors may be changed by way of NumPy, which nothing tells.
    """
    if torch.compiler.is_compiling() or point.grad_fn is None or not are_known(point):
        return point
    number = id(point)
    own = ref(point, lambda _: _MADE.pop(number, None))
    _MADE[number] = own, point._version, constraint
    return point


def is_made_on(constraint: LinearConstraint, point: Tensor) -> bool:
    """Whether the point was made on this subspace, and has not been changed since."""
    if torch.compiler.is_compiling() or id(point) not in _MADE:
        return False
    own, version, other = _MADE[id(point)]
    if own() is not point or point._version != version:
        return False
    return other is constraint or _is_same(other, constraint)


def _is_same(one: LinearConstraint, other: LinearConstraint) -> bool:
    """Whether two constraints are seen to be equal."""
    if one.matrix is not other.matrix:
        return False
    sides = one.scaled_k, other.scaled_k
    return sides[0] is sides[1] or (are_known(*sides) and torch.equal(*sides))
