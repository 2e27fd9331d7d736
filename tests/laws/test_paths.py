"""With the noise held fixed, x moves continuously with every parameter, and as autodiff says.

A draw or a reparametrised site that jumps is invisible in its density: NUTS freezes, or splits the
posterior of what is learned.
"""

from itertools import pairwise

import numpy as np
import pytest

from tests.adapters import BACKENDS, Backend
from tests.cases import LOW_RANK, MVN, NORMAL, STUDENT, Groups

N = 5
MATRICES = {
    "ones": np.ones(N),
    "signed": np.array([1.0, -2.0, 0.0, 1.0, 0.5]),
    "dense": np.array([[1.0, 0, 2, -1, 0], [0.5, 1, 0, 3, -2]]),
    "tall": np.array(
        [[1.0, 0, 2, -1, 0], [0.5, 1, 0, 3, -2], [0, 0, 1, 1, 0.3], [1, 2, 3, 4, 5.0]]
    ),
    "redundant": np.array([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
    "groups": Groups(np.array([1, 0, 1, 0, 2]), 3),
    "weighted groups": Groups(np.array([1, 0, 1, 0, 1]), 2, np.array([-1.0, 2, 1, 0.5, 3])),
}


class Path:
    """Random smooth paths of matrices and vectors, for ``t`` in [-1, 1]."""

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend, self.rng = backend, np.random.default_rng(seed)

    def __call__(self, *shape: int, step: float = 3.0):
        start, direction = self.rng.normal(size=(2, *shape))
        start, direction = self.backend.array(start), self.backend.array(step * direction)
        return lambda t: start + t * direction

    def positive(self, *shape: int):
        path = self(*shape)
        return lambda t: 0.05 + path(t) ** 2

    def covariance(self):
        path, identity = self(N, N), self.backend.array(0.3 * np.eye(N))
        return lambda t: path(t) @ path(t).T + identity

    def tril(self):
        below = self.backend.array(np.tril(np.ones((N, N)), -1))
        path, diagonal = self(N, N), self.positive(N)
        identity = self.backend.array(np.eye(N))
        return lambda t: path(t) * below + identity * diagonal(t)[:, None]


PARAMETERS = {
    "covariance": (MVN, lambda path: {"covariance_matrix": path.covariance()}),
    "precision": (MVN, lambda path: {"precision_matrix": path.covariance()}),
    "tril": (MVN, lambda path: {"scale_tril": path.tril()}),
    "scale": (NORMAL, lambda path: {"scale": path.positive(N)}),
    "number": (NORMAL, lambda path: {"scale": path.positive()}),
    "low rank": (LOW_RANK, lambda path: {"cov_factor": path(N, 2), "cov_diag": path.positive(N)}),
    "student": (STUDENT, lambda path: {"scale": path.positive(N)}),
    "student tril": (STUDENT, lambda path: {"scale_tril": path.tril()}),
}
CASES = [
    *((name, "dense") for name in PARAMETERS),
    *(
        (name, matrix)
        for name in ("covariance", "scale")
        for matrix in MATRICES
        if matrix != "dense"
    ),
    ("low rank", "signed"),
]
COMPILED = [("tril", "dense"), ("scale", "tall"), ("low rank", "signed"), ("covariance", "3")]
"""JAX compiles for seconds: the others are slow there."""


def law_on(backend: Backend, name: str, matrix, seed: int):
    """A law all of whose parameters move with t, and k with them."""
    path = Path(backend, seed)
    law, moving = PARAMETERS[name]
    moving = moving(path) | {"loc": path(N)}
    dense = matrix.dense() if isinstance(matrix, Groups) else matrix
    x = path(N)
    A = backend.constraint(matrix) if isinstance(matrix, Groups) else matrix
    rows_of_A = backend.array(dense)
    extra = {"df": 5.0} if law == STUDENT else {}

    def make(t):
        parameters = {key: value(t) for key, value in moving.items()}
        return getattr(backend.library, law)(**parameters, A=A, k=rows_of_A @ x(t), **extra)

    return make


def law_on_moving_rows(backend: Backend, name: str, num_rows: int | None, seed: int):
    path = Path(backend, seed)
    law, moving = PARAMETERS[name]
    moving = moving(path) | {"loc": path(N)}
    matrix = path(N) if num_rows is None else path(num_rows, N)

    def make(t):
        A = matrix(t)
        parameters = {key: value(t) for key, value in moving.items()}
        return getattr(backend.library, law)(**parameters, A=A, k=A @ backend.array(np.ones(N)))

    return make


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape)


def check_path(backend: Backend, make, how: str) -> None:
    weights = backend.array(np.linspace(1.0, 2.0, N) * (-1.0) ** np.arange(N))

    def projection(t):
        law = make(t)
        x = backend.from_base(law, noise) if how == "reparametrised" else backend.sample(law, 3)
        return x @ weights

    run = backend.value_and_slope(projection)
    times = np.linspace(-1, 1, 41)
    values, slopes = np.array([run(t) for t in times]).T
    assert np.isfinite(values).all()
    steps = np.abs(np.diff(values))
    for start in np.argsort(steps)[-2:]:
        check_no_jump(run, times[start : start + 2], values[start : start + 2])
    for place in range(0, len(times), 10):
        check_slope(run, times[place], slopes[place])


def check_no_jump(run, times, values) -> None:
    """The larger half of a step shrinks with its interval."""
    (low, high), (left, right) = times, values
    for _ in range(30):
        middle = (low + high) / 2
        value, _ = run(middle)
        if abs(value - left) > abs(right - value):
            high, right = middle, value
        else:
            low, left = middle, value
    # A billionth of the interval: a slope of 1000 makes 1e-7.
    assert abs(right - left) < 1e-4, f"a jump of {abs(right - left):.3g} at t = {low:.6f}"


def check_slope(run, t: float, slope: float) -> None:
    """By Richardson's extrapolation of central differences, which tells its own error."""
    widths = (1e-3, 1e-4, 1e-5)
    found = [(run(t + h)[0] - run(t - h)[0]) / (2 * h) for h in widths]
    better = [b + (b - a) / 99 for a, b in pairwise(found)]
    error = abs(better[1] - better[0]) + 1e-9 * max(1.0, abs(slope)) / widths[-1] * 1e-1
    assert abs(better[1] - slope) <= 10 * error, (t, slope, better)


def each_path(cases):
    return pytest.mark.parametrize(
        ("backend", "name", "matrix"),
        [
            pytest.param(
                backend,
                *case,
                id="-".join([*case, backend.name]),
                marks=[pytest.mark.slow] * (backend.name == "jax" and case not in COMPILED),
            )
            for case in cases
            for backend in BACKENDS
        ],
    )


@each_path([case for case in CASES if not case[0].startswith("student")])
def test_reparametrised_sites(backend: Backend, name: str, matrix: str):
    check_path(backend, law_on(backend, name, MATRICES[matrix], seed=1), "reparametrised")


@each_path(CASES)
def test_draws(backend: Backend, name: str, matrix: str):
    check_path(backend, law_on(backend, name, MATRICES[matrix], seed=2), "draw")


MOVING = [("covariance", "3"), ("scale", "one"), ("low rank", "1"), ("scale", "3")]


@each_path(MOVING)
@pytest.mark.parametrize("how", ["reparametrised", "draw"])
def test_moving_rows(backend: Backend, how: str, name: str, matrix: str):
    num_rows = None if matrix == "one" else int(matrix)
    check_path(backend, law_on_moving_rows(backend, name, num_rows, seed=4), how)
