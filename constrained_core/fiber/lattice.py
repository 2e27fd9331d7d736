"""Which right-hand sides of ``A x = k`` have integer solutions, exactly."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from constrained_core.fiber.hermite import EchelonBasis, echelon_basis
from constrained_core.groups import GroupSum
from constrained_core.inputs import read_array, refuse_complex

__all__ = [
    "Lattice",
    "as_integers",
    "integer_weights",
    "joint_relations",
    "lattice_of",
    "same_solutions",
]

LARGEST = 2**53
"""Integers up to here survive a way through floats."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The right-hand sides ``{A x : x integer, of any sign}``.

    Attributes:
        kept: ``(r,)`` independent rows of A, ascending; sparse rows are preferred.
        divisor: ``(m,)`` greatest common divisor of every row, 0 for a row of zeros.
        basis: a basis of the lattice, or None for disjoint rows: the divisors say it all.
    """

    kept: np.ndarray
    divisor: np.ndarray
    basis: EchelonBasis | None

    def relations(self, rows: np.ndarray) -> np.ndarray:
        """``(c, m)`` int64 y, modulo 2^64, with ``y k = 0`` for every right-hand side: one for each
        of some rows that are not kept."""
        if self.basis is None or not len(rows):
            return np.zeros((0, len(self.divisor)), dtype=np.int64)
        found = np.stack([self.basis.relation(int(row)) for row in rows])
        return (found % 2**64).astype(np.uint64).view(np.int64)

    def check(self, k: np.ndarray) -> None:
        """Check that ``A x = k`` has an integer solution x.

        Args:
            k: ``(*batch, m)`` integers.

        Raises:
            InfeasibleConstraintError: rows that disagree, or a divisibility that fails.
        """
        rest = np.where(self.divisor > 0, k % np.maximum(self.divisor, 1), k)
        if rest.any():
            self._refuse(k, tuple(int(i) for i in np.argwhere(rest)[0]))
        if self.basis is not None and k.size:
            self.basis.check(k)

    def contains(self, k: np.ndarray) -> np.ndarray:
        """``(*batch,)`` for which of ``k (*batch, m)`` there is an integer solution x."""
        rest = np.where(self.divisor > 0, k % np.maximum(self.divisor, 1), k)
        inside = (rest == 0).all(axis=-1)
        return inside if self.basis is None else inside & self.basis.contains(k)

    def _refuse(self, k: np.ndarray, where: tuple[int, ...]) -> None:
        row, divisor = where[-1], int(self.divisor[where[-1]])
        facts = f"entries of row {row} of A are multiples of {divisor}"
        facts = facts if divisor else f"entries of row {row} of A are zero"
        raise InfeasibleConstraintError(
            f"A x = k has no integer solution: the {facts}, but k[{', '.join(map(str, where))}] "
            f"is {k[where]}; correct k."
        )


def as_integers(name: str, values: Any) -> np.ndarray:
    """Values of any dtype as int64.

    Raises:
        ConstraintError: a value that is not a whole number, or too large to be one exactly; a
            sparse matrix.
    """
    values = values if isinstance(values, np.ndarray) else read_array(name, values)
    if values.dtype.kind == "c":
        refuse_complex(name, values.dtype)
    if values.dtype.kind in "iub":
        # Not by absolute values: that of the least integer is itself.
        wrong = ~((values <= LARGEST) & (values >= (0 if values.dtype.kind != "i" else -LARGEST)))
    else:
        with np.errstate(invalid="ignore"):
            wrong = ~((np.rint(values) == values) & (np.abs(values) <= LARGEST))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = f"{name}[{', '.join(map(str, where))}]" if where else name
        raise ConstraintError(
            f"{name}: a discrete law needs whole numbers of at most 2**53, got {place} = "
            f"{values[where]}; scale a row of A and its k to integers, or round {name}."
        )
    return values.astype(np.int64)


def integer_weights(groups: GroupSum) -> np.ndarray:
    """``(n,)`` the weights of groups as int64."""
    if groups.weights is None:
        return np.ones(groups.shape[1], dtype=np.int64)
    return as_integers("weights", groups.weights)


def lattice_of(matrix: np.ndarray | GroupSum) -> Lattice:
    """The lattice of a matrix of int64, ``(m, n)``, or of groups with whole weights."""
    if isinstance(matrix, GroupSum):
        divisor = np.zeros(matrix.num_groups, dtype=np.int64)
        np.gcd.at(divisor, matrix.index, integer_weights(matrix))
        return Lattice(np.flatnonzero(divisor), divisor, None)
    order = np.argsort(np.count_nonzero(matrix, axis=1), kind="stable")
    basis = echelon_basis(matrix, order)
    return Lattice(np.sort(basis.pivots), np.gcd.reduce(matrix, axis=1, initial=0), basis)


def same_solutions(
    one: np.ndarray | GroupSum,
    other: np.ndarray | GroupSum,
    k: tuple[np.ndarray, np.ndarray] | None,
) -> bool:
    """Whether two constraints, each with an integer solution, have the same ones.

    Args:
        one, other: ``(m, n)`` matrices, which need not have the same rows.
        k: the right-hand sides ``(*batch, m)`` of both; None where they are not known: then
            only the matrices are compared.
    """
    if one.shape[-1] != other.shape[-1]:
        return False
    if isinstance(one, GroupSum) and isinstance(other, GroupSum) and one == other:
        return k is None or bool((k[0] == k[1]).all())
    rows = [_dense(matrix) for matrix in (one, other)]
    both = lattice_of(np.concatenate(rows))
    if any(len(lattice_of(matrix).kept) != len(both.kept) for matrix in rows):
        return False
    return k is None or _is_solvable(both, *k)


def joint_relations(one: np.ndarray | GroupSum, other: np.ndarray | GroupSum) -> np.ndarray:
    """``(c, m + m')`` int64 y, modulo 2^64: two constraints that have a solution each have a common
    one where ``y k = 0`` for their joined right-hand sides."""
    both = lattice_of(np.concatenate([_dense(matrix) for matrix in (one, other)]))
    return both.relations(np.setdiff1d(np.arange(len(both.divisor)), both.kept))


def _dense(matrix: np.ndarray | GroupSum) -> np.ndarray:
    return as_integers("A", matrix.to_dense() if isinstance(matrix, GroupSum) else matrix)


def _is_solvable(lattice: Lattice, *k: np.ndarray) -> bool:
    """Whether the rows of two constraints have a common solution for their joined sides."""
    batch = np.broadcast_shapes(*(part.shape[:-1] for part in k))
    joined = np.concatenate([np.broadcast_to(part, batch + part.shape[-1:]) for part in k], -1)
    try:
        lattice.check(joined)
    except InfeasibleConstraintError:
        return False
    return True
