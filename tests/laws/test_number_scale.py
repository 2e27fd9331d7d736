"""One number for all scales: the same law as its vector, though only the constraint is factored."""

import numpy as np
import pytest

from tests.adapters import assert_close, each_backend, each_quick_backend
from tests.cases import Groups

N = 6
RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(2, N))
CONSTRAINTS = {
    "dense": (ROWS, RNG.normal(size=2)),
    "most rows": (RNG.normal(size=(4, N)), RNG.normal(size=4)),
    "batch of k": (ROWS, RNG.normal(size=(3, 2))),
    "redundant": (np.vstack([ROWS, ROWS.sum(0)]), np.array([1.0, 2.0, 3.0])),
    "badly scaled": (ROWS * np.array([[1e-5], [1e5]]), np.array([1e-5, 2e5])),
    "batch of A": (RNG.normal(size=(3, 2, N)), RNG.normal(size=2)),
    "ones": (np.ones(N), np.array(2.0)),
    "row": (RNG.normal(size=N), RNG.normal(size=3)),
    "groups": (Groups(np.array([0, 0, 1, 1, 1, 0]), 2, None), np.array([1.0, -1.0])),
    "full": (RNG.normal(size=(N, N)), RNG.normal(size=N)),
    "none": (np.zeros((0, N)), np.zeros(0)),
}
LOC = RNG.normal(size=N)
SCALE = 0.7

each_constraint = pytest.mark.parametrize("name", CONSTRAINTS)


def build(backend, name, loc, scale):
    A, k = CONSTRAINTS[name]
    law = backend.library.ConstrainedNormal(loc, scale, backend.constraint(A), backend.array(k))
    assert law.scale.shape[-1] == N
    return law


def pair(backend, name):
    scales = SCALE, np.full(N, SCALE)
    return [build(backend, name, *map(backend.array, (LOC, scale))) for scale in scales]


@each_backend
@each_constraint
def test_values(backend, name):
    number, vector = pair(backend, name)
    for fact in ("mean", "variance", "covariance", "entropy", "constraint_log_prob"):
        expected = backend.value(vector, fact)
        found = backend.value(number, fact)
        assert found.shape == expected.shape
        assert_close(found, expected, 1e-12 * (1 + np.abs(expected).max(initial=0.0)))
    x = backend.draws(vector, 0, (5,))
    assert_close(backend.log_prob(number, x), backend.log_prob(vector, x), 1e-11)
    assert_close(backend.draws(number, 0, (5,)), x, 1e-12 * (1 + np.abs(x).max()))
    assert_close(backend.numpy(backend.kl(number, vector)), np.zeros(number.batch_shape), 1e-11)


@each_quick_backend
@each_constraint
def test_gradients(backend, name):
    """Of the density of the base law at the subspace, of the density on it, and of a draw."""
    _, vector = pair(backend, name)
    x = backend.array(backend.draws(vector, 1))

    def total(arguments):
        law = build(backend, name, **arguments)
        draw = backend.sample(law, 2)
        return (law.log_prob(x) + law.constraint_log_prob() + (draw**3).sum(-1)).sum()

    at = {"loc": LOC, "scale": np.array(SCALE)}
    found = backend.gradients(total, at)
    expected = backend.gradients(total, at | {"scale": np.full(N, SCALE)})
    size = 1 + np.abs(expected["scale"]).sum()
    assert_close(found["loc"], expected["loc"], 1e-10 * size)
    assert_close(found["scale"], expected["scale"].sum(), 1e-10 * size)
