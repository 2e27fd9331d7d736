"""Exact answers in rational arithmetic: a float is a fraction, so no tolerance enters here."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

__all__ = [
    "coefficients",
    "determined",
    "dot",
    "half_log_pdet",
    "independent_rows",
    "is_consistent",
    "rank",
]

Matrix = list[list[Fraction]]


def _fractions(matrix: np.ndarray) -> Matrix:
    return [[Fraction(float(entry)) for entry in row] for row in np.atleast_2d(matrix)]


def _reduce(matrix: Matrix) -> list[int]:
    """Bring to reduced row echelon form, in place; the pivot columns."""
    pivots: list[int] = []
    for column in range(len(matrix[0]) if matrix else 0):
        top = len(pivots)
        found = next((i for i in range(top, len(matrix)) if matrix[i][column]), None)
        if found is None:
            continue
        matrix[top], matrix[found] = matrix[found], matrix[top]
        matrix[top] = [entry / matrix[top][column] for entry in matrix[top]]
        for i, row in enumerate(matrix):
            if i != top and row[column]:
                matrix[i] = [a - row[column] * b for a, b in zip(row, matrix[top], strict=True)]
        pivots.append(column)
    return pivots


def _determinant(matrix: Matrix) -> Fraction:
    matrix, determinant = [list(row) for row in matrix], Fraction(1)
    for i in range(len(matrix)):
        found = next((j for j in range(i, len(matrix)) if matrix[j][i]), None)
        if found is None:
            return Fraction(0)
        if found != i:
            matrix[i], matrix[found], determinant = matrix[found], matrix[i], -determinant
        determinant *= matrix[i][i]
        for j in range(i + 1, len(matrix)):
            factor = matrix[j][i] / matrix[i][i]
            matrix[j] = [a - factor * b for a, b in zip(matrix[j], matrix[i], strict=True)]
    return determinant


def _gram(rows: Matrix) -> Matrix:
    return [
        [sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in rows] for x in rows
    ]


def rank(matrix: np.ndarray) -> int:
    return len(_reduce(_fractions(matrix)))


def independent_rows(matrix: np.ndarray) -> list[int]:
    """The first rows that span the others."""
    return _reduce(_fractions(np.transpose(matrix)))


def coefficients(kept: np.ndarray, rows: np.ndarray) -> Matrix:
    """C with ``rows = C kept``, for independent rows ``kept`` that span ``rows``."""
    system = _fractions(np.concatenate([kept, rows]).T)
    pivots = _reduce(system)
    assert pivots == list(range(len(kept)))
    return [[system[i][len(kept) + j] for i in range(len(kept))] for j in range(len(rows))]


def half_log_pdet(matrix: np.ndarray) -> float:
    """1/2 log of the pseudo-determinant of ``matrix matrix'``.

    With ``matrix = C F`` for full-rank factors it is ``det(C'C) det(FF')``.
    """
    kept = matrix[independent_rows(matrix)]
    factor = coefficients(kept, matrix)
    columns = [list(column) for column in zip(*factor, strict=True)]
    volume = _determinant(_gram(columns)) * _determinant(_gram(_fractions(kept)))
    return 0.5 * (math.log(volume.numerator) - math.log(volume.denominator))


def is_consistent(matrix: np.ndarray, k: np.ndarray) -> bool:
    return rank(np.column_stack([matrix, k])) == rank(matrix)


def determined(matrix: np.ndarray) -> list[int]:
    """Variables whose unit vector is in the row space."""
    unit, size = np.eye(matrix.shape[-1]), rank(matrix)
    return [i for i in range(len(unit)) if rank(np.vstack([matrix, unit[i]])) == size]


def dot(left: Sequence[float], right: Sequence[float]) -> Fraction:
    pairs = zip(left, right, strict=True)
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in pairs), Fraction(0))
