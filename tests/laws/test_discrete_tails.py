"""What is very unlikely keeps its digits, and is never taken for impossible."""

import numpy as np
import pytest

from tests.adapters import each_backend, each_quick_backend
from tests.discrete_cases import BERNOULLI, CATEGORICAL, POISSON, DiscreteCase
from tests.discrete_oracles import DiscreteProblem

RELATIVE = {"float64": 1e-10, "float32": 1e-4}
"""Promised; conditions of these cases are below 10^4."""

SUM, ROUTES = np.ones((1, 3), int), np.array([[1, 1, 0], [0, 1, 1]])
MERGED = np.array([[1, 1, 1, 0], [0, 0, 1, 1]])
PAIR, WEIGHTS = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]), np.array([[2, 1, -1, 1, 1, 3]])

POISSONS = {
    "sum": (SUM, [14], [1.0, 1e-9, 1e-3]),
    "sum with one that has nearly all": (SUM, [9], [1.0, 1e-30, 1e-33]),
    "trellis": (ROUTES, [12, 12], [1.0, 1e-35, 1.0]),
    "merged": (MERGED, [6, 5], [1.0, 1e-30, 1e-18, 1e-3]),
}
LOGITS = {
    "one group": (np.ones((1, 6), int), [3]),
    "two groups": (PAIR, [1, 2]),
    "trellis": (WEIGHTS, [3]),
}


def check(law, backend, problem, dtype):
    """Tables, and means of which both logarithms are finite wherever both values are possible."""
    found = backend.value(law, "marginal_log_prob")
    expected = problem.log_marginals(found.shape[-1])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found == -np.inf, expected == -np.inf)
    possible = expected > -np.inf
    tolerance = RELATIVE[dtype]
    np.testing.assert_allclose(found[possible], expected[possible], tolerance, tolerance)
    np.testing.assert_allclose(backend.value(law, "mean"), problem.mean, tolerance, tolerance)
    return expected


@each_backend
@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize("name", POISSONS)
def test_poisson(backend, name, dtype):
    A, k, rate = POISSONS[name]
    rate = np.array(rate, dtype).astype(float)
    case = DiscreteCase("", POISSON, {"rate": rate}, A, np.array(k))
    problem = DiscreteProblem("poisson", rate, A, case.rows_k)
    expected = check(backend.law(case, dtype), backend, problem, dtype)
    assert expected[expected > -np.inf].min() < -60  # or nothing was tried
    law = backend.law(case, dtype)
    log_prob = backend.log_prob(law, problem.points[-1], dtype)
    assert log_prob == pytest.approx(problem.log_weights[-1] - problem.log_partition, rel=1e-4)


@each_backend
@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize("size", [100.0, 3000.0])
@pytest.mark.parametrize("name", LOGITS)
def test_bernoulli(backend, name, size, dtype):
    A, k = LOGITS[name]
    logits = (size * np.array([1.0, -0.9, 0.3, -1.0, 0.7, -0.2])).astype(dtype).astype(float)
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, A, np.array(k))
    law, problem = backend.law(case, dtype), DiscreteProblem("logits", logits, A, case.rows_k)
    expected = check(law, backend, problem, dtype)
    assert expected[expected > -np.inf].min() < -size / 2
    mean = backend.value(law, "mean")
    with np.errstate(divide="ignore"):
        both = np.log(1 - mean), np.log(mean)
    for value, logarithm in enumerate(both):
        np.testing.assert_array_equal(logarithm > -np.inf, expected[:, value] > -np.inf)


@each_backend
@pytest.mark.parametrize("dtype", RELATIVE)
def test_categorical(backend, dtype):
    A, k, logits = ROUTES, [3, 2], 400 * np.array([[0.0, -1, 1], [1, 0.5, -1], [-1, 0.3, 1]])
    logits = logits.astype(dtype).astype(float)
    law = backend.law(DiscreteCase("", CATEGORICAL, {"logits": logits}, A, np.array(k)), dtype)
    points = DiscreteProblem("categorical", np.ones((3, 3)), A, np.array(k)).points
    problem = DiscreteProblem("categorical", np.ones((3, 3)), A, np.array(k))
    problem.__dict__["log_weights"] = logits[np.arange(3), points].sum(-1)
    assert check(law, backend, problem, dtype).max() <= 0


@each_backend
@pytest.mark.parametrize("count", [20, 3000])
def test_one_that_hardly_varies(backend, count):
    """Variances of shares near one: what is left is added up, not taken away."""
    rate = np.array([1.0, 1e-18, 3e-18])
    law = backend.law(DiscreteCase("", POISSON, {"rate": rate}, np.ones(3), np.array(count)))
    variance = count * np.array([4e-18, 1e-18, 3e-18])
    np.testing.assert_allclose(backend.value(law, "variance"), variance, rtol=1e-12)


@each_quick_backend
@pytest.mark.parametrize("name", ["sum", "trellis", "merged"])
def test_large_counts_in_the_tail(backend, name):
    """Where plain terms would lose digits, in single precision."""
    A, k, rate = POISSONS[name]
    k, rate = 150 * np.array(k), np.array(rate, "float32").astype(float)
    case = DiscreteCase("", POISSON, {"rate": rate}, A, k)
    found, high = (
        backend.value(backend.law(case, dtype), "marginal_log_prob") for dtype in RELATIVE
    )
    np.testing.assert_allclose(found, high, rtol=1e-4, atol=1e-4)
