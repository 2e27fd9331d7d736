"""Values off the support: what log_prob, validation, support, residual and project say."""

import numpy as np
import pytest

from tests import oracles
from tests.adapters import assert_close_in, each_backend, each_case, each_law, shared_law
from tests.cases import CASES, COMPILED, named, select

BATCHED = select(
    "covariance-dense-batch_loc",
    "diagonal-ones-batch_k",
    "covariance-batched",
    "low_rank-dense-outer",
)
UNBATCHED = select("covariance-row", "diagonal-groups", "low_rank-dense", "student_tril-redundant")


def _one_off(case, rng, size=1e-2):
    """Points of which only the first element of the batch is off the subspace."""
    x = case.points(rng, count=1)[0]
    first = (0,) * len(case.batch_shape)
    problem = case.problems[first]
    x[first] += size * case.unit * problem.row_space.sum(axis=-1)
    return x, first


@each_backend
@each_case(BATCHED + UNBATCHED)
def test_log_prob_is_minus_infinity_elementwise(backend, case, rng):
    x, first = _one_off(case, rng)
    law = backend.law(case, validate_args=False)
    off = np.zeros(case.batch_shape, bool)
    off[first] = True
    np.testing.assert_array_equal(backend.log_prob(law, x) == -np.inf, off)
    np.testing.assert_array_equal(backend.on_support(law, x), ~off)
    assert np.all(np.isfinite(backend.log_prob(law, x)[~off]))


@each_backend
@each_case(BATCHED + UNBATCHED)
def test_validation_raises_and_says_what_to_do(backend, case, rng):
    x, _ = _one_off(case, rng)
    law = backend.law(case, validate_args=True)
    with pytest.raises(ValueError) as raised:
        law.log_prob(backend.array(x))
    for word in ("residual", "tolerance", "project"):
        assert word in str(raised.value).lower()


@each_law(CASES, COMPILED)
def test_validation_accepts_the_support(backend, case, rng):
    law = backend.law(case, validate_args=True)
    x = case.points(rng, count=1)[0]
    assert np.all(np.isfinite(backend.log_prob(law, x)))
    assert np.all(backend.on_support(law, x))


@each_backend
def test_support_tolerance_decides(backend, rng):
    case = named("covariance-row")
    x, _ = _one_off(case, rng, size=1e-3)
    loose = backend.law(case, support_tolerance=1e-1, validate_args=True)
    strict = backend.law(case, support_tolerance=1e-9, validate_args=False)
    assert np.isfinite(backend.log_prob(loose, x))
    x, _ = _one_off(case, rng, size=1e-7)
    assert backend.log_prob(strict, x) == -np.inf


@each_law(CASES, COMPILED)
def test_residual_in_the_users_rows(backend, case, rng):
    law = shared_law(backend, case)
    x = case.params["loc"] + np.zeros((*case.batch_shape, case.n))
    rows = case.rows_k.shape[-1]
    expected = case.expected(oracles.residual, x, event_shape=(rows,))
    size = case.expected(lambda p, v: np.abs(p.A) @ np.abs(v) + np.abs(p.k), x, event_shape=(rows,))
    size[size == 0] = 1.0
    if case.one_row:
        expected, size = expected[..., 0], size[..., 0]
    assert_close_in(size, backend.loss(law, "residual", x), expected, 1e-14)


@each_law(CASES, COMPILED)
def test_project_gives_the_nearest_point(backend, case, rng):
    law = shared_law(backend, case)
    x = case.unit * rng.normal(size=(*case.batch_shape, case.n))
    expected = case.expected(oracles.project, x, event_shape=(case.n,))
    assert_close_in(case.unit, backend.loss(law, "project", x), expected, 1e-10)


@each_backend
def test_project_repairs_measured_data(backend, rng):
    case = named("covariance-dense")
    law = backend.law(case, validate_args=True)
    x = case.points(rng, count=1)[0] + 1e-3 * rng.normal(size=case.n)
    repaired = law.project(backend.array(x))
    expected = oracles.log_prob(case.problems[()], x)
    assert float(law.log_prob(repaired)) == pytest.approx(expected, rel=1e-10)
