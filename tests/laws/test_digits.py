"""Digits that scales many decades apart, and large parameters, leave: all that the inputs allow.

Rounding of the inputs alone moves a figure by its condition; the tolerances are a few times that.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from tests.adapters import BACKENDS, Backend, each_backend, each_quick_backend
from tests.cases import LOW_RANK, MVN, NORMAL, Case, Groups
from tests.laws.exact import Exact
from tests.laws.test_support import PROMISED_ROUNDINGS, roundings

N = 6
NOISE = 2.0**-20
"""Relative, of inputs: small beside what it moves, large beside rounding."""


def slow_in_jax(backend: Backend, *unless: bool) -> list:
    return [pytest.mark.slow] * (backend.name == "jax" and not any(unless))


def noisy(params: dict, rng: np.random.Generator) -> dict:
    """Parameters with errors in each entry, that a symmetric matrix has twice."""

    def moved(name: str, value: np.ndarray) -> np.ndarray:
        signs = rng.choice([-1.0, 1.0], value.shape)
        if name == "covariance_matrix":
            signs = np.tril(signs) + np.tril(signs, -1).T
        return value * (1 + NOISE * signs)

    return {name: moved(name, value) for name, value in params.items()}


def allowed(case: Case, figure, dtype: str) -> np.ndarray | float:
    """What rounding of each parameter can do to a figure of the exact law: eps times condition.

    Random signs find a condition up to a factor that n bounds; sums have n terms.
    """
    rng = np.random.default_rng(0)
    exact = figure(Exact.of(case.params, case.dense_A, case.rows_k))
    moved = [
        figure(Exact.of(noisy(dict(case.params), rng), case.dense_A, case.rows_k)) - exact
        for _ in range(4)
    ]
    condition = np.max(np.abs(moved), axis=0) / NOISE
    eps = float(np.finfo(dtype).eps)
    return 2 * case.n * eps * (condition + np.abs(exact))


# A variable that dominates its row -------------------------------------------------------------


def dominated(small: float, rng: np.random.Generator) -> np.ndarray:
    """Scales of which one in three is large."""
    return rng.uniform(0.5, 2.0, N) * np.where(np.arange(N) % 3 == 1, 1.0, small)


def unit_tril(rng: np.random.Generator, n: int = N) -> np.ndarray:
    return np.tril(0.5 * rng.normal(size=(n, n)), -1) + np.eye(n)


SPREAD = {
    "scale": (NORMAL, lambda rng, s: {"scale": s}),
    "scale_tril": (MVN, lambda rng, s: {"scale_tril": unit_tril(rng, s.size) * s[:, None]}),
    "covariance": (
        MVN,
        lambda rng, s: {
            "covariance_matrix": np.cov(rng.normal(size=(s.size, 30))) * np.outer(s, s)
        },
    ),
    "low rank": (
        LOW_RANK,
        lambda rng, s: {"cov_factor": rng.normal(size=(s.size, 2)) * s[:, None], "cov_diag": s**2},
    ),
}
ROWS = {
    "one row": np.array([1.0, 1, -1, 1, 2, 1]),
    "rows": np.array([[1.0, 2, 0, 1, 0, 1], [0, 1, 1, 0, -1, 1]]),
    "groups": Groups(np.array([0, 0, 0, 1, 1, 1]), 2),
}
each_row = pytest.mark.parametrize("rows", ROWS)
each_spread = pytest.mark.parametrize("spread", SPREAD)


def dominated_case(spread: str, rows: str, small: float, seed: int = 3) -> Case:
    rng = np.random.default_rng(seed)
    law, parameters = SPREAD[spread]
    params = parameters(rng, dominated(small, rng)) | {"loc": np.zeros(N)}
    A = ROWS[rows]
    dense = A.dense() if isinstance(A, Groups) else np.atleast_2d(A)
    k = np.zeros(len(dense))
    return Case(f"{spread} {rows}", law, params, A, k[0] if rows == "one row" else k)


def covariance_of(exact: Exact) -> np.ndarray:
    return np.array([[float(entry) for entry in row] for row in exact.left_covariance])


@pytest.mark.parametrize(
    ("backend", "small"),
    [
        pytest.param(backend, small, marks=slow_in_jax(backend, small == 1e-8))
        for backend in BACKENDS
        for small in (1e-4, 1e-8)
    ],
)
@each_spread
@each_row
def test_variance_of_a_dominating_variable(backend, spread, rows, small):
    case = dominated_case(spread, rows, small)
    law = backend.law(case)
    expected = Exact.of(case.params, case.dense_A, case.rows_k).variance
    off = np.abs(backend.value(law, "variance") - expected)
    assert (off <= allowed(case, lambda exact: exact.variance, "float64")).all()
    expected = covariance_of(Exact.of(case.params, case.dense_A, case.rows_k))
    deviations = np.sqrt(np.diagonal(expected))
    # An entry of a covariance has the digits of the two variances.
    tolerance = np.sqrt(np.diagonal(allowed(case, covariance_of, "float64")) / deviations**2)
    off = np.abs(backend.value(law, "covariance") - expected) / np.outer(deviations, deviations)
    assert (off <= np.outer(tolerance, tolerance)).all()


@each_backend
@each_spread
@each_row
def test_losses_of_a_dominating_variable(backend, spread, rows):
    """At targets some standard deviations away: the mean is 0, so that these have all digits."""
    case = dominated_case(spread, rows, 1e-8)
    variance = Exact.of(case.params, case.dense_A, case.rows_k).variance
    deviation = np.sqrt(variance)
    z = np.array([0.0, 0.7, -1.3, 2.1, -0.4, 1.0])
    law, target = backend.law(case), z * deviation
    inside = z * (2 * stats.norm.cdf(z) - 1)
    expected = {
        "expected_l1": deviation * (inside + 2 * stats.norm.pdf(z)),
        "expected_l2": variance * (1 + z**2),
        "crps": deviation * (inside + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi)),
    }
    relative = allowed(case, lambda exact: exact.variance, "float64") / variance
    for loss, value in expected.items():
        # Terms of a difference in the CRPS are at most four times what is left.
        np.testing.assert_array_less(
            np.abs(backend.loss(law, loss, target) / value - 1), 5 * relative
        )


@each_backend
@each_row
def test_a_batch_of_dominating_variables(backend, rows):
    """Each element of a batch has its own dominating variable, and one has none."""
    scales = np.ones((3, N))
    scales[0, [1, 3]], scales[1, [0, 5]] = 1e8, 1e-8
    case = replace(dominated_case("scale", rows, 1.0), params={"loc": np.zeros(N), "scale": scales})
    found = backend.value(backend.law(case), "variance")
    for index, scale in enumerate(scales):
        one = case.with_params(scale=scale)
        expected = Exact.of(one.params, one.dense_A, one.rows_k).variance
        tolerance = allowed(one, lambda exact: exact.variance, "float64")
        assert (np.abs(found[index] - expected) <= tolerance).all()


# Residuals at all scales -----------------------------------------------------------------------


SHAPES = [(1, 5), (2, 5), (4, 5), (4, 12)]
QUICK = [("scale", (4, 5)), ("low rank", (4, 5))]
"""JAX compiles for seconds: the others are slow there."""


@dataclass(frozen=True)
class Wide:
    """Laws whose scales are spread over decades, under rows of whole or real numbers."""

    spread: str
    shape: tuple[int, int]
    decades: float

    def case(self, seed: int) -> Case:
        rng = np.random.default_rng(seed)
        rows, n = self.shape
        whole = np.rint(3 * rng.normal(size=self.shape)) + 7 * np.eye(rows, n)
        A = rng.normal(size=self.shape) if seed % 2 else whole
        scales = 10.0 ** rng.uniform(-self.decades, self.decades, (4, n))
        law, parameters = SPREAD[self.spread]
        made = [parameters(rng, scale) for scale in scales]
        params = {name: np.stack([one[name] for one in made]) for name in made[0]}
        params["loc"] = scales * rng.normal(size=scales.shape)
        return Case("wide", law, params, A, A @ rng.integers(-8, 9, n))


def reparametrised(backend: Backend, law, dtype: str):
    def noise(shape: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(1).normal(size=shape)

    return backend.from_base(law, noise, dtype)


def each_wide():
    return pytest.mark.parametrize(
        ("backend", "spread", "shape"),
        [
            pytest.param(
                backend,
                spread,
                shape,
                id=f"{backend}-{spread}-{shape}",
                marks=slow_in_jax(backend, (spread, shape) in QUICK),
            )
            for backend in BACKENDS
            for spread in SPREAD
            for shape in SHAPES
        ],
    )


@each_wide()
@pytest.mark.parametrize(("dtype", "decades"), [("float32", 4.0), ("float64", 6.0)])
def test_residuals_at_every_scale(backend, spread, shape, dtype, decades):
    for seed in range(6):
        case = Wide(spread, shape, decades).case(seed).rounded(dtype)
        law = backend.law(case, dtype, validate_args=False)
        found = backend.sample(law, seed, (5,)), reparametrised(backend, law, dtype), law.mean
        for value in found:
            x = backend.numpy(value)
            assert x.dtype == np.dtype(dtype)
            assert np.max(roundings(case, x, dtype)) <= PROMISED_ROUNDINGS
            assert np.isfinite(backend.numpy(law.log_prob(value))).all()


PINNED_SCALES = {
    "scale": (NORMAL, lambda tril: {"scale": tril[..., -1, :] ** 2 + 0.5}),
    "scale_tril": (MVN, lambda tril: {"scale_tril": tril}),
    "low rank": (
        LOW_RANK,
        lambda tril: {"cov_factor": tril[..., :1], "cov_diag": tril[..., -1, :] ** 2 + 0.5},
    ),
}


@pytest.mark.parametrize(
    ("backend", "name", "dtype"),
    [
        pytest.param(
            backend,
            name,
            dtype,
            id=f"{backend}-{name}-{dtype}",
            marks=slow_in_jax(backend, (name, dtype) == ("scale", "float64")),
        )
        for backend in BACKENDS
        for name in PINNED_SCALES
        for dtype in ("float32", "float64")
    ],
)
def test_a_batch_of_rows_pins_exact_zeros(backend, name, dtype):
    """As many rows as variables and k = 0: a point at 0, and a variable that one row holds there
    beside others, are on their own supports."""
    rng = np.random.default_rng(8)
    full = rng.normal(size=(4, 3, 3))
    one = np.zeros((4, 2, 3))
    one[:, 0, 1], one[:, 1] = rng.normal(size=4), rng.normal(size=(4, 3))
    law_name, parameters = PINNED_SCALES[name]
    params = parameters(np.stack([unit_tril(rng, 3) for _ in range(4)]))
    params["loc"] = rng.normal(size=(4, 3))
    for A, k in ((full, np.zeros(3)), (one, np.array([0.0, 1.5]))):
        case = Case("pinned", law_name, params, A, k).rounded(dtype)
        law = backend.law(case, dtype, validate_args=True)
        x = backend.sample(law, 0, (5,))
        log_prob, point = backend.numpy(law.log_prob(x)), backend.numpy(x)
        assert np.isfinite(log_prob).all()
        assert np.max(roundings(case, point, dtype)) <= PROMISED_ROUNDINGS
        assert not point[..., 1].any()
        if A is full:
            assert not point.any() and not log_prob.any()


# Densities -------------------------------------------------------------------------------------


def check_density(backend: Backend, case: Case, x: np.ndarray, dtype: str) -> None:
    """At a point whose A x is exact."""
    law = backend.law(case, dtype, validate_args=False)
    found = float(backend.log_prob(law, x, dtype))
    expected = Exact.of(case.params, case.dense_A, case.rows_k).log_prob(x)
    # A log determinant is a sum of logarithms of scales, which may cancel.
    logs = np.abs(np.log(np.diagonal(case.base_covariance))).sum()
    rounding = 2 * case.n * float(np.finfo(dtype).eps) * logs
    tolerance = allowed(case, lambda exact: exact.log_prob(x), dtype) + rounding
    assert abs(found - expected) <= tolerance, (found, expected, tolerance)


@each_backend
@pytest.mark.parametrize(
    ("spread", "rows", "n"),
    [("scale", 2, 6), ("scale", 7, 8), ("scale_tril", 7, 8), ("low rank", 2, 6)],
)
def test_density_under_scales_far_apart(backend, spread, rows, n):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scales = 10.0 ** rng.uniform(-5, 5, n)
        law, parameters = SPREAD[spread]
        A = rng.integers(-3, 4, (rows, n)) + 5.0 * np.eye(rows, n)
        x = np.rint(scales * rng.normal(size=n) * 2.0**28) / 2.0**28  # so that A x is exact
        params = parameters(rng, scales) | {"loc": np.zeros(n)}
        check_density(backend, Case("far apart", law, params, A, A @ x), x, "float64")


LOADINGS = np.array([[1.0, 0.5], [0.25, 1.0], [-0.5, 0.75]])


@each_quick_backend
@pytest.mark.parametrize(("size", "dtype"), [(1e3, "float32"), (1e4, "float64"), (1e6, "float64")])
def test_large_factors(backend, size, dtype):
    """Of a diagonal of 1."""
    x = np.array([1.0, -1.0, 0.0])
    for A in (np.ones((1, 3)), np.array([[1.0, 1, 1], [0, 1, 2]])):
        k = A @ x
        params = {"loc": np.zeros(3), "cov_factor": size * LOADINGS, "cov_diag": np.ones(3)}
        case = Case("large factors", LOW_RANK, params, A, k).rounded(dtype)
        check_density(backend, case, x, dtype)
        law = backend.law(case, dtype)
        draws = backend.draws(law, 0, (2000,))
        assert np.max(roundings(case, draws, dtype)) <= PROMISED_ROUNDINGS
        exact = Exact.of(case.params, case.dense_A, case.rows_k)
        tolerance = allowed(case, lambda exact: exact.variance, dtype)
        assert (np.abs(backend.value(law, "variance") - exact.variance) <= tolerance).all()
        # Squares of 2000 draws have a relative deviation of 0.032: nine times that.
        second = np.mean((draws - backend.value(law, "mean")).astype(float) ** 2, axis=0)
        np.testing.assert_allclose(second, exact.variance, rtol=0.285)
