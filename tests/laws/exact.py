"""Exact answers for Gaussians under A x = k: a float is a fraction, and only logs and roots round.

Scales many decades apart leave no digit to an oracle in floating point.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

Matrix = list[list[Fraction]]
Vector = list[Fraction]


def fractions(values: np.ndarray) -> Matrix:
    return [[Fraction(float(entry)) for entry in row] for row in np.atleast_2d(values)]


def times(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return [[dot(row, column) for column in columns] for row in left]


def dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    pairs = zip(left, right, strict=True)
    return sum((a * b for a, b in pairs if a and b), Fraction(0))


def transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def log(value: Fraction) -> float:
    """Of a fraction whose parts may exceed the range of floats."""
    return math.log(value.numerator) - math.log(value.denominator)


def solve(matrix: Matrix, right: Matrix) -> tuple[Matrix, Fraction]:
    """The solution of ``matrix X = right`` and the determinant."""
    size, determinant = len(matrix), Fraction(1)
    rows = [[*row, *other] for row, other in zip(matrix, right, strict=True)]
    for column in range(size):
        found = next(i for i in range(column, size) if rows[i][column])
        if found != column:
            rows[column], rows[found], determinant = rows[found], rows[column], -determinant
        pivot = rows[column][column]
        determinant *= pivot
        rows[column] = [entry / pivot for entry in rows[column]]
        for i, row in enumerate(rows):
            if i != column and row[column]:
                factor = row[column]
                rows[i] = [a - factor * b for a, b in zip(row, rows[column], strict=True)]
    return [row[size:] for row in rows], determinant


def exact_covariance(params: Mapping[str, np.ndarray]) -> Matrix:
    """Of the base law, from its parameters."""
    if "covariance_matrix" in params:
        return fractions(params["covariance_matrix"])
    if "scale_tril" in params:
        root = fractions(params["scale_tril"])
        return times(root, transposed(root))
    if "scale" in params:
        return _diagonal([value**2 for value in fractions(params["scale"])[0]])
    factor = fractions(params["cov_factor"])
    diagonal = _diagonal(fractions(params["cov_diag"])[0])
    product = times(factor, transposed(factor))
    return [
        [a + b for a, b in zip(*rows, strict=True)] for rows in zip(product, diagonal, strict=True)
    ]


def _diagonal(values: Vector) -> Matrix:
    return [[v * (i == j) for j in range(len(values))] for i, v in enumerate(values)]


@dataclass(frozen=True, eq=False)
class Exact:
    """N(loc, covariance) given A x = k, with rows of A that are independent."""

    loc: Vector
    covariance: Matrix
    A: Matrix
    k: Vector

    @classmethod
    def of(cls, params: Mapping[str, np.ndarray], A: np.ndarray, k: np.ndarray) -> "Exact":
        (loc,), (k,) = fractions(params["loc"]), fractions(k)
        return cls(loc, exact_covariance(params), fractions(A), k)

    @cached_property
    def gap(self) -> Vector:
        """k - A loc."""
        return [k - dot(row, self.loc) for row, k in zip(self.A, self.k, strict=True)]

    @cached_property
    def crossed(self) -> Matrix:
        """A Sigma."""
        return times(self.A, self.covariance)

    @cached_property
    def _solved(self) -> tuple[Matrix, Fraction]:
        gram = times(self.crossed, transposed(self.A))
        gaps = [[gap] for gap in self.gap]
        return solve(gram, [a + b for a, b in zip(self.crossed, gaps, strict=True)])

    @cached_property
    def gain(self) -> Matrix:
        """(A Sigma A')^-1 A Sigma."""
        return [row[:-1] for row in self._solved[0]]

    @cached_property
    def mean(self) -> Vector:
        shifts = transposed(self.gain)
        return [loc + dot(shift, self.gap) for loc, shift in zip(self.loc, shifts, strict=True)]

    @cached_property
    def left_covariance(self) -> Matrix:
        """Of the law: Sigma - Sigma A' (A Sigma A')^-1 A Sigma."""
        taken = times(transposed(self.crossed), self.gain)
        return [
            [a - b for a, b in zip(*rows, strict=True)]
            for rows in zip(self.covariance, taken, strict=True)
        ]

    @property
    def variance(self) -> np.ndarray:
        return np.array([float(row[i]) for i, row in enumerate(self.left_covariance)])

    def log_prob(self, x: np.ndarray) -> float:
        """At a point with A x = k, exactly."""
        (point,) = fractions(x)
        assert all(dot(row, point) == k for row, k in zip(self.A, self.k, strict=True))
        away = [a - b for a, b in zip(point, self.loc, strict=True)]
        solved = solve(self.covariance, [[a] for a in away])[0]
        distance = dot([row[0] for row in solved], away) - self.surprise
        dimension = len(self.loc) - len(self.A)
        return -0.5 * (float(distance) + self._log_det + dimension * math.log(2 * math.pi))

    @property
    def _log_det(self) -> float:
        """Of the covariance on the subspace."""
        base = solve(self.covariance, [[] for _ in self.loc])[1]
        rows = solve(times(self.A, transposed(self.A)), [[] for _ in self.A])[1]
        return log(base) + log(rows) - log(self._solved[1])

    @property
    def surprise(self) -> Fraction:
        """gap' (A Sigma A')^-1 gap."""
        return dot([row[-1] for row in self._solved[0]], self.gap)

    @property
    def entropy(self) -> float:
        dimension = len(self.loc) - len(self.A)
        return 0.5 * (self._log_det + dimension * (1 + math.log(2 * math.pi)))

    @property
    def constraint_log_prob(self) -> float:
        """Of A x at k."""
        log_det = log(self._solved[1]) + len(self.A) * math.log(2 * math.pi)
        return -0.5 * (float(self.surprise) + log_det)
