"""Rows that determine a variable, at zero above all, where relative figures have no scale."""

from dataclasses import replace

import numpy as np
import pytest

from tests.adapters import Backend, each_backend
from tests.cases import LOW_RANK, MVN, NORMAL, STUDENT, Case, Groups
from tests.laws.test_support import PROMISED_ROUNDINGS, roundings

PARAMS = {
    MVN: {"covariance_matrix": np.eye(4) + 0.5},
    NORMAL: {"scale": np.array([1.0, 0.7, 1.3, 0.9])},
    LOW_RANK: {"cov_factor": np.array([[1.0], [0.5], [-0.5], [1.0]]), "cov_diag": np.ones(4)},
    STUDENT: {"df": np.array(6.0), "scale_tril": np.tril(np.full((4, 4), 0.4)) + np.eye(4)},
}

PINS = {
    "one row": (np.array([3.0, 0, 0, 0]), 0.0),
    "one row, not zero": (np.array([3.0, 0, 0, 0]), 0.7),
    "a row beside another": (np.array([[1.0, 0, 0, 0], [1, 1, 1, 1]]), [0.0, 2.0]),
    "the same row twice": (np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]), [0.0, 0, 3]),
    "a sum of nothing but zeros": (np.array([[1.0, 0, 0, 0], [1, 1, 0, 0]]), [0.0, 0.0]),
    "dependent rows, k = 0 but for one": (
        np.array([[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]),
        [0.0, 0, 0, 3],
    ),
    "a group of one": (Groups(np.array([0, 1, 1, 1]), 2), [0.0, 2.0]),
}


def _case(law: str, pin: str) -> Case:
    A, k = PINS[pin]
    params = {"loc": np.array([0.3, -1.2, 0.8, 2.1]), **PARAMS[law]}
    return Case(f"{law} {pin}", law, params, A, np.asarray(k, float))


each_law = pytest.mark.parametrize("law", PARAMS)
each_pin = pytest.mark.parametrize("pin", PINS)


@each_backend
@each_law
@each_pin
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_law_accepts_its_own_draws(backend: Backend, law: str, pin: str, dtype: str):
    case = _case(law, pin).rounded(dtype)
    built = backend.law(case, dtype, validate_args=True)
    draws = backend.sample(built, 2, (20,))
    assert np.all(np.isfinite(backend.numpy(built.log_prob(draws))))
    assert np.isfinite(backend.numpy(built.log_prob(built.mean)))


@each_backend
@each_law
@each_pin
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_residual_promise_holds(backend: Backend, law: str, pin: str, dtype: str):
    case = _case(law, pin).rounded(dtype)
    draws = backend.draws(backend.law(case, dtype), 2, (20,))
    assert np.max(roundings(case, draws, dtype)) <= PROMISED_ROUNDINGS


@each_backend
@each_law
@each_pin
def test_a_pinned_variable_has_no_variance(backend: Backend, law: str, pin: str):
    built = backend.law(_case(law, pin))
    np.testing.assert_allclose(backend.value(built, "variance")[0], 0, atol=1e-14)
    np.testing.assert_allclose(np.ptp(backend.draws(built, 2, (20,))[:, 0]), 0, atol=1e-14)


@each_backend
@pytest.mark.parametrize("law", [NORMAL, STUDENT])
def test_a_pinned_variable_gives_no_slope_to_deviations(backend: Backend, law: str):
    """A square root has none at zero; against differences along all scales."""
    case = _case(law, "a group of one")
    if law == STUDENT:
        params = {"loc": case.params["loc"], "df": np.array(3.0), "scale": np.ones(4)}
        case = replace(case, params=params, k=np.array([0.3, 2.0]))

    def total(arrays):
        return backend.law(case, scale=arrays["scale"]).stddev.sum()

    def at(factor):
        return backend.value(backend.law(case, scale=factor * np.ones(4)), "stddev").sum()

    slope = backend.gradients(total, {"scale": np.ones(4)})["scale"]
    step = 1e-5
    np.testing.assert_allclose(slope.sum(), (at(1 + step) - at(1 - step)) / (2 * step), rtol=1e-8)
    assert slope[0] == 0 or law == STUDENT  # where what k says of one scale moves the others
