"""Precision matrices that are positive definite on the null space of A only: intrinsic fields."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import linalg

from constrained_core import ParameterError
from tests.adapters import BACKENDS, assert_close, each_backend, each_quick_backend
from tests.cases import incidence

SCALES = [1e-8, 1e-3, 1.0, 0.7316, 41.3, 1e8]


def path(n: int) -> list[tuple[int, int]]:
    return list(pairwise(range(n)))


def ring(n: int) -> list[tuple[int, int]]:
    return [*path(n), (n - 1, 0)]


def grid(rows: int, columns: int) -> list[tuple[int, int]]:
    at = np.arange(rows * columns).reshape(rows, columns)
    pairs = [(at[:, :-1], at[:, 1:]), (at[:-1], at[1:])]
    edges = [zip(a.ravel().tolist(), b.ravel().tolist(), strict=True) for a, b in pairs]
    return [edge for side in edges for edge in side]


def laplacian(edges: list[tuple[int, int]]) -> np.ndarray:
    nodes = incidence(edges)
    return nodes @ nodes.T


def islands() -> np.ndarray:
    return linalg.block_diag(laplacian(path(4)), laplacian(ring(5)))


def walk(n: int) -> np.ndarray:
    """Of second differences: constants and slopes are free."""
    differences = np.diff(np.eye(n), 2, axis=0)
    return differences.T @ differences


def sums(*sizes: int) -> np.ndarray:
    return linalg.block_diag(*(np.ones((1, size)) for size in sizes))


def across(field: tuple[np.ndarray, np.ndarray], inner, coupling: float) -> tuple:
    """The same on the null space of A, with another form on its rows, and between both."""
    precision, A = field
    rows, free = linalg.orth(A.T), linalg.null_space(A)
    mixed = coupling * rows @ np.random.default_rng(6).normal(size=(rows.shape[1], 9))
    within = free @ free.T @ precision @ free @ free.T
    mixed = mixed @ free @ free.T
    return within + rows @ np.asarray(inner) @ rows.T + mixed + mixed.T, A


FIELDS = {
    "path": (laplacian(path(9)), sums(9)),
    "ring": (laplacian(ring(9)), sums(9)),
    "grid": (laplacian(grid(3, 3)), sums(9)),
    "two islands, a row each": (islands(), sums(4, 5)),
    "second differences": (walk(9), np.stack([np.ones(9), np.arange(9.0)])),
    "a weighted row": (laplacian(grid(3, 3)), np.arange(1.0, 10)[None]),
    "more rows than it takes": (laplacian(path(9)), np.eye(3, 9) + sums(9)),
}
FIELDS["negative across the rows"] = across(FIELDS["grid"], [[-3.0]], 0.0)
FIELDS["coupled across the rows"] = across(
    FIELDS["second differences"], [[1.0, 0.5], [0.5, -2]], 2.0
)
QUICK = ["grid", "more rows than it takes"]
"""JAX compiles for seconds: the others are slow there."""

each_field = pytest.mark.parametrize(
    ("backend", "field"),
    [
        pytest.param(
            backend,
            field,
            id=f"{backend}-{field}",
            marks=[pytest.mark.slow] * (backend.name == "jax" and field not in QUICK),
        )
        for backend in BACKENDS
        for field in FIELDS
    ],
)


class Field:
    """The law in an orthonormal basis of the null space."""

    def __init__(self, precision: np.ndarray, A: np.ndarray, k: np.ndarray, loc: np.ndarray):
        self.precision, self.A, self.k = precision, A, k
        self.basis = linalg.null_space(A)
        self.reduced = self.basis.T @ precision @ self.basis
        self.covariance = self.basis @ np.linalg.inv(self.reduced) @ self.basis.T
        self.origin = np.linalg.pinv(A) @ k
        self.mean = self.origin + self.covariance @ precision @ (loc - self.origin)

    @property
    def condition(self) -> float:
        return float(np.linalg.cond(self.reduced))

    @property
    def entropy(self) -> float:
        size = len(self.reduced)
        log_det = np.linalg.slogdet(self.reduced)[1]
        return 0.5 * (size * (1 + np.log(2 * np.pi)) - log_det)

    def log_prob(self, x: np.ndarray) -> float:
        away = x - self.mean
        half = len(self.reduced) / 2
        return half - self.entropy - 0.5 * float(away @ self.precision @ away)


def case(field: str, scale: float) -> tuple[Field, np.ndarray]:
    """And a loc, of a size that fits the scale."""
    precision, A = FIELDS[field]
    rng = np.random.default_rng(3)
    loc, k = rng.normal(size=(9,)), rng.normal(size=len(A))
    size = scale**-0.5
    return Field(scale * precision, A, size * k, size * loc), size * loc


def build(backend, field: Field, loc: np.ndarray, dtype: str = "float64", **changed):
    given = {"precision_matrix": field.precision, "k": field.k} | changed
    native = {name: backend.array(value, dtype) for name, value in given.items()}
    make = backend.library.ConstrainedMultivariateNormal
    return make(backend.array(loc, dtype), A=backend.array(field.A, dtype), **native)


def tolerance(field: Field, dtype: str = "float64") -> float:
    """Eps times condition, for sums of n terms; the rows of A are at wide angles."""
    rows = float(np.linalg.cond(field.A))
    return 10 * 9 * float(np.finfo(dtype).eps) * field.condition * rows


def points(field: Field, count: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    root = np.linalg.cholesky(np.linalg.inv(field.reduced))
    return field.mean + rng.normal(size=(count, len(root))) @ root.T @ field.basis.T


def check_facts(backend, law, field: Field, dtype: str) -> None:
    unit = float(np.sqrt(np.max(np.diagonal(field.covariance))))
    close = tolerance(field, dtype)
    assert_close(
        backend.value(law, "variance") / unit**2, np.diagonal(field.covariance) / unit**2, close
    )
    assert_close(backend.value(law, "covariance") / unit**2, field.covariance / unit**2, close)
    assert_close(backend.value(law, "mean") / unit, field.mean / unit, close)
    assert_close(backend.value(law, "entropy"), np.array(field.entropy), close)
    x = points(field, 3)
    expected = np.array([field.log_prob(one) for one in x])
    # A distance has n squares, of points rounded to the dtype.
    assert_close(backend.log_prob(law, x, dtype), expected, 9 * close)


@each_field
def test_intrinsic_fields(backend, field):
    for scale in SCALES:
        exact, loc = case(field, scale)
        check_facts(backend, build(backend, exact, loc), exact, "float64")


@each_quick_backend
@pytest.mark.parametrize("field", ["grid", "two islands, a row each"])
def test_intrinsic_fields_in_single_precision(backend, field):
    for scale in SCALES:
        exact, loc = case(field, scale)
        check_facts(backend, build(backend, exact, loc, "float32"), exact, "float32")


@each_field
def test_what_rows_of_A_add_is_the_same_law(backend, field):
    exact, loc = case(field, 0.7316)
    law = build(backend, exact, loc)
    x = points(exact, 3)
    for weight in (1e-3, 1.0, 50.0):
        precision = exact.precision + weight * exact.A.T @ exact.A
        other = build(backend, exact, loc, precision_matrix=precision)
        # Rounding of Q + c A'A is relative to its largest entries.
        lost = np.abs(precision).max() / np.abs(exact.precision).max()
        close = tolerance(exact) * lost
        for fact in ("mean", "covariance", "entropy"):
            assert_close(backend.value(other, fact), backend.value(law, fact), close)
        assert_close(backend.log_prob(other, x), backend.log_prob(law, x), 9 * close)
        divergence = float(backend.numpy(backend.kl(law, other)))
        assert abs(divergence) <= 9 * close


@each_field
def test_map_from_noise(backend, field):
    """x = mean + J e with J J' the covariance, of draws and of reparametrised sites."""
    exact, loc = case(field, 0.7316)
    law = build(backend, exact, loc)
    columns = []
    for i in range(9):

        def unit(shape, i=i):
            return np.eye(9)[i, : shape[-1]]

        columns.append(backend.numpy(backend.from_base(law, unit)) - exact.mean)
    jacobian = np.stack(columns, -1)
    assert_close(jacobian @ jacobian.T, exact.covariance, tolerance(exact))
    draws = backend.draws(law, 0, (4000,))
    assert np.abs(draws @ exact.A.T - exact.k).max() < 1e-12
    # Squares of 4000 draws have a relative deviation of 0.0224: seven times that.
    second = np.mean((draws - exact.mean) ** 2, axis=0)
    free = np.diagonal(exact.covariance) > 1e-12
    np.testing.assert_allclose(second[free], np.diagonal(exact.covariance)[free], rtol=0.157)


@each_field
def test_gradients(backend, field):
    """Of the density, in a factor of the precision and in loc."""
    exact, loc = case(field, 1.0)
    (x,) = points(exact, 1)
    point, base = backend.array(x), backend.array(exact.precision)
    rows, k = backend.array(exact.A), backend.array(exact.k)
    make = backend.library.ConstrainedMultivariateNormal

    def density(given):
        precision = given["tau"] * base
        return make(given["loc"], A=rows, k=k, precision_matrix=precision).log_prob(point)

    for tau in (1e-6, 2.3, 1e5):
        found = backend.gradients(density, {"tau": np.array(tau), "loc": loc})
        away = x - exact.mean  # which tau leaves as it is
        size = len(exact.reduced)
        slope = 0.5 * size / tau - 0.5 * float(away @ exact.precision @ away)
        close = 9 * tolerance(exact)
        assert_close(found["tau"] * tau, np.array(slope * tau), close * (1 + abs(slope * tau)))
        shift = exact.precision @ exact.covariance @ exact.precision @ away
        assert_close(found["loc"] / tau, shift, close * (1 + np.abs(shift).max()))


def rotated(values: np.ndarray) -> np.ndarray:
    """With these eigenvalues, the first for the constant vector."""
    basis, _ = np.linalg.qr(
        np.column_stack([np.ones(9), np.random.default_rng(5).normal(size=(9, 8))])
    )
    return basis @ np.diag(values) @ basis.T


REFUSED = {
    "two islands, one row": (islands(), sums(9)),
    "slopes are free": (walk(9), sums(9)),
    "negative on the null space": (rotated(np.array([1.0, -0.1, 1, 1, 1, 1, 1, 1, 1])), sums(9)),
    "zero": (np.zeros((9, 9)), sums(9)),
}
ACCEPTED = {
    "negative across it": rotated(np.array([-0.3, 1, 1, 2, 3, 1, 1, 0.5, 1])),
    "a path": laplacian(path(9)),
}
each_refused = pytest.mark.parametrize("name", REFUSED)


def perturbed(matrix: np.ndarray, seed: int) -> np.ndarray:
    """By a rounding error in each entry, symmetric."""
    noise = np.random.default_rng(seed).uniform(-1, 1, matrix.shape)
    eps = np.finfo(float).eps * np.abs(matrix).max()
    return matrix + eps * (np.tril(noise) + np.tril(noise, -1).T)


@each_backend
@each_refused
def test_refused_whatever_the_rounding(backend, name):
    precision, A = REFUSED[name]
    make = backend.library.ConstrainedMultivariateNormal
    rng = np.random.default_rng(0)
    for seed in range(12):
        scale = 10.0 ** rng.uniform(-8, 8)
        given = perturbed(scale * precision, seed) if seed else precision
        with pytest.raises(ParameterError, match="positive definite on the null space of A"):
            make(
                backend.array(np.zeros(9)),
                A=A,
                k=np.zeros(len(A)),
                precision_matrix=backend.array(given),
            )


@each_backend
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_whatever_the_rounding(backend, name):
    rng = np.random.default_rng(1)
    for seed in range(12):
        scale = 10.0 ** rng.uniform(-8, 8)
        given = perturbed(scale * ACCEPTED[name], seed)
        exact = Field(given, sums(9), np.zeros(1), np.zeros(9))
        law = build(backend, exact, np.zeros(9))
        found = backend.value(law, "variance") * scale
        assert_close(found, np.diagonal(exact.covariance) * scale, tolerance(exact))


@each_backend
def test_values_that_cannot_be_looked_at(backend):
    """Mapped and compiled: the numbers of the accepted, NaN for the refused."""
    A, k, loc = sums(9), np.zeros(1), backend.array(np.zeros(9))
    x = np.random.default_rng(2).normal(size=9)
    x = backend.array(x - x.mean())
    make = backend.library.ConstrainedMultivariateNormal

    def density(precision):
        law = make(loc, A=A, k=k, precision_matrix=precision, validate_args=False)
        return law.log_prob(x)

    mapped = backend.torch.func.vmap(density) if backend.name == "torch" else None
    if mapped is None:
        mapped = backend.jax.jit(backend.jax.vmap(density))
    scales = 10.0 ** np.linspace(-8, 8, 9)
    for precision in ACCEPTED.values():
        found = backend.numpy(mapped(backend.array(scales[:, None, None] * precision)))
        fields = [Field(scale * precision, A, k, np.zeros(9)) for scale in scales]
        expected = np.array([field.log_prob(backend.numpy(x)) for field in fields])
        np.testing.assert_allclose(found, expected, rtol=9 * max(map(tolerance, fields)))
    for name in ("two islands, one row", "slopes are free", "negative on the null space"):
        precision, _ = REFUSED[name]
        found = backend.numpy(mapped(backend.array(scales[:, None, None] * precision)))
        assert np.isnan(found).all()


@each_backend
def test_what_the_base_law_has_not(backend):
    """The law given A x = k has a density, the one without it has none: the error says so."""
    exact, loc = case("grid", 1.0)
    law = build(backend, exact, loc)
    with pytest.raises(ParameterError, match="adding c A'A to Q"):
        law.constraint_log_prob()
    proper = exact.precision + exact.A.T @ exact.A
    assert np.isfinite(
        backend.value(build(backend, exact, loc, precision_matrix=proper), "constraint_log_prob")
    )


@each_quick_backend
@pytest.mark.parametrize(
    "precision", [np.diag([1.0, -2.0]), np.array([[1.0, 3], [3, 1]]), np.array([[1e-3, 1], [1, 1]])]
)
def test_whatever_is_said_across_the_rows(backend, precision):
    """x_2 = 1 is given; what is left is x_1 ~ N(-q_12 / q_11, 1 / q_11)."""
    law = backend.library.ConstrainedMultivariateNormal(
        backend.array(np.zeros(2)),
        A=np.array([[0.0, 1.0]]),
        k=np.ones(1),
        precision_matrix=backend.array(precision),
    )
    mean, variance = -precision[0, 1] / precision[0, 0], 1 / precision[0, 0]
    rounding = 10 * float(np.finfo(float).eps)
    np.testing.assert_allclose(backend.value(law, "mean"), [mean, 1.0], rtol=rounding)
    np.testing.assert_allclose(backend.value(law, "variance"), [variance, 0.0], rtol=rounding)
