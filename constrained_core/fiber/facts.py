"""Which of the facts about parameters a plan can use, and the constraint that they leave."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from constrained_core.cache import content
from constrained_core.fiber.known import Known
from constrained_core.fiber.lattice import integer_weights
from constrained_core.fiber.parts import FiberParts
from constrained_core.fiber.plan import FixedVariables
from constrained_core.fiber.tables import TwoWayTable
from constrained_core.groups import GroupSum

__all__ = ["Facts", "facts_of"]

Matrix = np.ndarray | GroupSum


@dataclass(frozen=True, eq=False)
class Facts:
    """A constraint taken apart, and what parameters say of it.

    Attributes:
        parts: those of the variables that are not fixed.
        fixed: the others, or None.
        possible: ``(n, C)`` the values that variables of the trellis can have, or None for all.
        tables: the blocks that are tables of independent rows and columns.
    """

    parts: FiberParts
    fixed: FixedVariables | None = None
    possible: np.ndarray | None = None
    tables: tuple[TwoWayTable, ...] = ()

    @property
    def are_certain(self) -> bool:
        """Whether points of the fiber are left out because their probability is zero."""
        return self.fixed is not None or self.possible is not None

    @property
    def key(self) -> Hashable:
        """All that they depend on beside the matrix."""
        fixed = (None, None) if self.fixed is None else (self.fixed.variables, self.fixed.values)
        first = tuple(int(table.variables[0]) for table in self.tables)
        return (*map(content, fixed), content(self.possible), first)


def facts_of(
    matrix: Matrix,
    whole: FiberParts,
    known: Known | None,
    is_bounded: bool,
    merge: bool,
    take_apart: Callable[[Matrix], FiberParts],
) -> Facts:
    """What is of use: only the variables of the trellis, and unbounded ones in no row, leave.

    Args:
        matrix: ``(m, n)`` int64, or groups with whole weights.
        whole: the matrix taken apart.
        known: what parameters say, if anything.
        is_bounded: whether the base law has largest values.
        merge: whether equal columns are one: one of rate 0 beside others then costs nothing.
        take_apart: makes the parts of a matrix.
    """
    if known is None:
        return Facts(whole)
    leaves = np.zeros(len(known.fixed), dtype=bool)
    leaves[whole.variables] = known.fixed[whole.variables] >= 0
    if merge and leaves.any():
        is_open = ~leaves[whole.variables]
        leaves[whole.variables[np.isin(whole.kind, whole.kind[is_open])]] = False
    if not is_bounded:
        leaves[whole.free] = known.fixed[whole.free] >= 0
    possible = None
    if known.possible is not None:
        possible = np.ones_like(known.possible)
        possible[whole.variables] = known.possible[whole.variables]
        possible = None if possible.all() else possible
    fixed, parts = None, whole
    if leaves.any():
        variables = np.flatnonzero(leaves)
        fixed = _fixed(matrix, variables, known.fixed[variables])
        parts = take_apart(_without_columns(matrix, variables))
    tables = tuple(table for table in parts.tables if known.is_product(table)) if merge else ()
    return Facts(parts, fixed, possible, tables)


def _fixed(matrix: Matrix, variables: np.ndarray, values: np.ndarray) -> FixedVariables:
    columns = np.zeros((len(variables), matrix.shape[0]), dtype=np.int64)
    if isinstance(matrix, GroupSum):
        columns[np.arange(len(variables)), matrix.index[variables]] = integer_weights(matrix)[
            variables
        ]
    else:
        columns[:] = matrix[:, variables].T
    distinct, column = np.unique(columns, axis=0, return_inverse=True)
    return FixedVariables(variables, values, values @ columns, distinct, column.reshape(-1))


def _without_columns(matrix: Matrix, variables: np.ndarray) -> Matrix:
    """The matrix with zeros in some columns."""
    if isinstance(matrix, GroupSum):
        weights = integer_weights(matrix)
        weights[variables] = 0
        return GroupSum(matrix.index, matrix.num_groups, weights)
    matrix = matrix.copy()
    matrix[:, variables] = 0
    return matrix
