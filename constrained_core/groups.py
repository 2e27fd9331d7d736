"""``GroupSum``: the constraint matrix of disjoint sums, kept as an index."""

from dataclasses import dataclass
from functools import cached_property
from operator import index as index_of
from typing import Any

import numpy as np

from constrained_core.cache import ByContent
from constrained_core.errors import ConstraintError
from constrained_core.inputs import on_host

__all__ = ["GroupSum"]


@dataclass(frozen=True, eq=False, init=False)
class GroupSum(ByContent):
    """Sums over disjoint groups, accepted wherever a constraint matrix A is.

    Row g of the matrix that this stands for has ``weights[i]`` in column i where
    ``index[i] == g`` and zero elsewhere: ``(A x)_g`` is the sum of ``weights[i] * x[i]`` over them.
    Groups may be ragged, of one member, or empty (then k must be 0 there). Every operation of the
    laws costs O(n).

    Args:
        index: ``(n,)`` integers in ``0..num_groups-1``, the group of every variable.
        num_groups: number of groups, the number of rows m.
        weights: ``(n,)`` finite reals; ones if not given.

    Raises:
        ConstraintError: a wrong shape, a group outside the range, weights that are not finite.

    Example:
        >>> GroupSum([0, 0, 1], num_groups=2).to_dense()
        array([[1., 1., 0.],
               [0., 0., 1.]])
    """

    index: np.ndarray
    num_groups: int
    weights: np.ndarray | None

    def __init__(self, index: Any, num_groups: int, weights: Any = None) -> None:
        num_groups = _checked_number(num_groups)
        object.__setattr__(self, "index", _checked_index(index, num_groups))
        object.__setattr__(self, "num_groups", num_groups)
        object.__setattr__(self, "weights", _checked_weights(weights, len(self.index)))
        # Kept: PyTorch's compiler watches the arrays that it meets, and cannot in inference mode.
        object.__setattr__(self, "shape", (num_groups, len(self.index)))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """``(m, n)`` of the matrix."""
        return self.num_groups, len(self.index)

    @property
    def ndim(self) -> int:
        """2, as of any matrix."""
        return 2

    def to_dense(self) -> np.ndarray:
        """The ``(m, n)`` matrix; for small cases and checks only."""
        dense = np.zeros(self.shape)
        columns = np.arange(len(self.index))
        dense[self.index, columns] = 1.0 if self.weights is None else self.weights
        return dense

    @cached_property
    def sizes(self) -> np.ndarray:
        """``(m,)`` number of members of every group."""
        return np.bincount(self.index, minlength=self.num_groups)

    @cached_property
    def norms(self) -> np.ndarray:
        """``(m,)`` Euclidean lengths of the rows, 0 for empty ones."""
        weights = np.ones(len(self.index)) if self.weights is None else self.weights
        return np.sqrt(np.bincount(self.index, weights**2, minlength=self.num_groups))

    @cached_property
    def unit_weights(self) -> np.ndarray:
        """``(n,)`` weights of the rows scaled to length one."""
        weights = np.ones(len(self.index)) if self.weights is None else self.weights
        return weights / np.where(self.norms > 0, self.norms, 1.0)[self.index]

    def __repr__(self) -> str:
        kind = "unweighted" if self.weights is None else "weighted"
        return f"GroupSum({len(self.index)} variables, num_groups={self.num_groups}, {kind})"


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _checked_number(num_groups: Any) -> int:
    try:
        return index_of(num_groups)
    except TypeError as error:
        raise ConstraintError(
            f"GroupSum: expected num_groups to be a whole number, got {num_groups!r}; give the "
            "number of rows."
        ) from error


def _checked_index(index: Any, num_groups: int) -> np.ndarray:
    index = np.asarray(on_host(index))
    if index.ndim != 1 or (index.size and not np.issubdtype(index.dtype, np.integer)):
        raise ConstraintError(
            "GroupSum: expected index of shape (n,) with integer group numbers, got shape "
            f"{index.shape} and dtype {index.dtype}; give the group of every variable."
        )
    outside = np.flatnonzero((index < 0) | (index >= num_groups))
    if outside.size:
        raise ConstraintError(
            f"GroupSum: expected groups in 0..{num_groups - 1}, got index[{outside[0]}] = "
            f"{index[outside[0]]}; raise num_groups or renumber the groups."
        )
    return _frozen(index.astype(np.int64))


def _checked_weights(weights: Any, num_variables: int) -> np.ndarray | None:
    if weights is None:
        return None
    try:
        weights = np.asarray(on_host(weights), dtype=np.float64)
    except Exception as error:
        raise ConstraintError(
            "GroupSum: expected weights that are known numbers, got "
            f"{type(weights).__name__}; weights that are traced or require a gradient need a "
            "dense A."
        ) from error
    if weights.shape != (num_variables,) or not np.isfinite(weights).all():
        raise ConstraintError(
            f"GroupSum: expected finite weights of shape ({num_variables},), got shape "
            f"{weights.shape}{'' if np.isfinite(weights).all() else ' with NaN or infinity'}; "
            "give one weight per variable."
        )
    return _frozen(weights)
