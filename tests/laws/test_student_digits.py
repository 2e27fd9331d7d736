"""Student's t with many degrees of freedom: gamma functions that nearly cancel."""

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import digamma as double_digamma
from scipy.special import gammaln

from tests.adapters import each_backend
from tests.cases import NORMAL, STUDENT, Case
from tests.laws.exact import Exact, log

PRECISE = 60
LOG_TWO_PI = Decimal("1.837877066409345483560659472811235279722794947275566825634303")
BERNOULLI = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6)]


def log_gamma(z: Decimal) -> Decimal:
    """By Stirling's series, for z from 500 on: to 30 digits."""
    terms = [
        Decimal(top) / bottom / (2 * i * (2 * i - 1)) / z ** (2 * i - 1)
        for i, (top, bottom) in enumerate(BERNOULLI, start=1)
    ]
    return (z - Decimal("0.5")) * z.ln() - z + LOG_TWO_PI / 2 + sum(terms)


def digamma(z: Decimal) -> Decimal:
    terms = [
        Decimal(top) / bottom / (2 * i) / z ** (2 * i)
        for i, (top, bottom) in enumerate(BERNOULLI, start=1)
    ]
    return z.ln() - 1 / (2 * z) - sum(terms)


def decimal(value: Fraction | float) -> Decimal:
    fraction = Fraction(value)
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


@dataclass(frozen=True)
class Spread:
    """What an elliptical law says on a subspace: dimension, log determinant of its squared scale
    there, and squared distance of a point."""

    dimension: int
    log_det: Decimal
    distance: Decimal

    @classmethod
    def from_gaussian(cls, log_density: float, dimension: int, distance: Fraction) -> "Spread":
        rest = -2 * decimal(log_density) - dimension * LOG_TWO_PI - decimal(distance)
        return cls(dimension, rest, decimal(distance))

    def log_prob(self, df: Decimal) -> Decimal:
        d = self.dimension
        gammas = log_gamma((df + d) / 2) - log_gamma(df / 2) - d * (df / 2).ln() / 2
        tail = (df + d) * (1 + self.distance / df).ln() / 2
        return gammas - d * LOG_TWO_PI / 2 - self.log_det / 2 - tail

    def entropy(self, df: Decimal) -> Decimal:
        d = self.dimension
        gammas = log_gamma((df + d) / 2) - log_gamma(df / 2) - d * (df / 2).ln() / 2
        steps = (df + d) / 2 * (digamma((df + d) / 2) - digamma(df / 2))
        return steps - gammas + d * LOG_TWO_PI / 2 + self.log_det / 2

    def scaled(self, factor: Decimal) -> "Spread":
        """For squared scales times a factor."""
        log_det = self.log_det + self.dimension * factor.ln()
        return replace(self, log_det=log_det, distance=self.distance / factor)


POINT = np.array([0.5, -0.25, 1.0, -1.25])
STUDENT_ROWS = {
    "one row": (np.ones(4), np.array(0.0)),
    "rows": (np.array([[1.0, 1, 1, 1], [0, 1, 2, -1]]), np.array([0.0, 3.0])),
    "full": (np.eye(4) + np.eye(4, k=1), (np.eye(4) + np.eye(4, k=1)) @ POINT),
}
SCALE = np.array([1.0, 0.5, 2.0, 1.0])
LOC = np.array([0.25, 0.0, -0.5, 0.0])


def student_facts(rows: str, df: float) -> dict[str, Decimal]:
    """log_prob at the point, entropy and constraint_log_prob, of df that the law sees."""
    A, k = STUDENT_ROWS[rows]
    dense, sides = np.atleast_2d(A), np.atleast_1d(k)
    exact = Exact.of({"loc": LOC, "scale": SCALE}, dense, sides)
    rank = len(dense)
    free, nu = 4 - rank, decimal(df)
    (point,) = ([Fraction(float(entry)) for entry in POINT],)
    away = [a - b for a, b in zip(point, exact.loc, strict=True)]
    whole = sum((a**2 / Fraction(s) ** 2 for a, s in zip(away, SCALE.tolist(), strict=True)))
    solved = [row[-1] for row in exact._solved[0]]
    surprise = sum((a * b for a, b in zip(solved, exact.gap, strict=True)), Fraction(0))
    log_range = (log(exact._solved[1])) / 2
    distance = whole - surprise
    on_rows = Spread(rank, 2 * decimal(log_range), decimal(surprise))
    facts = {"constraint_log_prob": on_rows.log_prob(nu)}
    if not free:
        return facts | {"log_prob": Decimal(0), "entropy": Decimal(0)}
    inside = Spread.from_gaussian(exact.log_prob(POINT), free, distance)
    inside = inside.scaled((nu + decimal(surprise)) / (nu + rank))
    return facts | {"log_prob": inside.log_prob(nu + rank), "entropy": inside.entropy(nu + rank)}


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("df", [1e3, 1e6, 1e12])
@pytest.mark.parametrize("rows", STUDENT_ROWS)
def test_many_degrees_of_freedom(backend, rows, df, dtype):
    A, k = STUDENT_ROWS[rows]
    params = {"loc": LOC, "scale": SCALE, "df": np.array(df)}
    case = Case("student", STUDENT, params, A, k).rounded(dtype)
    law = backend.law(case, dtype)
    found = {name: float(backend.value(law, name)) for name in ("entropy", "constraint_log_prob")}
    found["log_prob"] = float(backend.log_prob(law, POINT, dtype))
    with localcontext() as context:
        context.prec = PRECISE
        expected = student_facts(rows, float(case.params["df"]))
    # Sums of about ten terms, each of the size of a logarithm, a distance or a half.
    tolerance = 10 * float(np.finfo(dtype).eps) * 10
    gaussian = backend.law(Case("", NORMAL, {"loc": LOC, "scale": SCALE}, A, k))
    limits = {
        name: float(backend.value(gaussian, name)) for name in ("entropy", "constraint_log_prob")
    }
    limits["log_prob"] = float(backend.log_prob(gaussian, POINT))
    for name, value in found.items():
        assert abs(value - float(expected[name])) <= tolerance, name
        # The densities differ by a polynomial of degree two in distances, of at most 1000, over df.
        assert abs(value - limits[name]) <= tolerance + 1e3 / df, name


@each_backend
@pytest.mark.parametrize("df", [1.5, 3.5, 30.0])
@pytest.mark.parametrize("size", [5, 20_000])
def test_slope_of_long_laws_in_the_degrees_of_freedom(backend, size, df):
    """In single precision, of the density and of the constraint: parts of n / (2 nu) cancel."""
    x = np.random.default_rng(size).standard_t(df, size).astype(np.float32)
    x -= x.mean()
    square, k, p = float(np.square(x, dtype=float).sum()), 20.0, size - 1

    def law(t, k):
        t = t.float() if hasattr(t, "float") else t.astype("float32")
        zeros, ones = (backend.array(np.full(size, value), "float32") for value in (0.0, 1.0))
        make = backend.library.ConstrainedMultivariateStudentT
        return make(t, zeros, A=np.ones(size), k=k, scale=ones)

    value, found = backend.value_and_slope(lambda t: law(t, 0.0).log_prob(backend.array(x)))(df)
    density = gammaln((df + size) / 2) - gammaln((df + 1) / 2) - p / 2 * np.log(df * np.pi)
    density -= (df + size) / 2 * np.log1p(square / df)
    # Terms of size / 2 times the logarithm of what is left of their quotient.
    assert float(value) == pytest.approx(density, rel=1e-6)
    along = double_digamma((df + size) / 2) - double_digamma((df + 1) / 2) - p / df
    along += (df + size) * square / (df * (df + square)) - np.log1p(square / df)
    assert float(found) == pytest.approx(along / 2, rel=1e-5, abs=1e-6)

    _, found = backend.value_and_slope(lambda t: law(t, k).constraint_log_prob())(df)
    surprise = k**2 / size
    along = double_digamma((df + 1) / 2) - double_digamma(df / 2) - 1 / df
    along += (df + 1) * surprise / (df * (df + surprise)) - np.log1p(surprise / df)
    assert float(found) == pytest.approx(along / 2, rel=1e-5, abs=1e-6)
