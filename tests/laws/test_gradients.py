"""Gradients along paths on which the law stays defined, against central differences."""

import numpy as np
import pytest

from tests import oracles
from tests.adapters import each_backend, each_case, each_law
from tests.cases import DIFFERENTIATED, REPRESENTATIVE, Case, named, select
from tests.laws import paths

GRADIENT_CASES = REPRESENTATIVE + select(
    "covariance-row",
    "covariance-redundant",
    "diagonal-dense",
    "diagonal-incidence",
    "low_rank-groups",
    "covariance-batched",
    "student_tril-dense-outer",
    "diagonal-row",
    "low_rank-row-small",
    "diagonal-dense-large",
    "covariance-row-surprising",
    "student_scale-row-surprising",
)


def _build(backend, case: Case, arrays):
    """The law from the arrays being differentiated; A only if it is one of them."""
    replaced = {name: value for name, value in arrays.items() if name != "x"}
    return backend.law(case, **replaced)


def _score_gradients(backend, case, x, weights, with_A):
    def score(arrays):
        density = _build(backend, case, arrays).log_prob(arrays["x"])
        return (density * backend.array(weights)).sum()

    at = paths.inputs(case, x)
    return backend.gradients(score, at | {"A": case.A} if with_A else at)


@each_law(GRADIENT_CASES, DIFFERENTIATED)
def test_log_prob_gradients(backend, case, rng):
    x = case.points(rng, count=1)[0]
    weights = rng.uniform(0.5, 1.5, case.batch_shape)
    free = paths.has_free_A(case)
    fixed_A = _score_gradients(backend, case, x, weights, with_A=False)
    traced_A = _score_gradients(backend, case, x, weights, with_A=True) if free else None
    for direction in paths.directions(case, x, rng):

        def oracle(t, direction=direction):
            other, point = paths.moved(case, x, direction, t)
            return np.sum(weights * other.expected(oracles.log_prob, point))

        expected = oracles.directional_derivative(oracle)
        if "A" not in direction:
            assert paths.along(fixed_A, direction) == pytest.approx(expected, rel=1e-7, abs=1e-7)
        if traced_A is not None:
            assert paths.along(traced_A, direction) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@each_law(GRADIENT_CASES, DIFFERENTIATED)
def test_draw_gradients_at_fixed_noise(backend, case, rng):
    x = case.points(rng, count=1)[0]
    weights = rng.normal(size=(2, *x.shape)) / case.unit
    free = paths.has_free_A(case)

    def total(law):
        return (backend.sample(law, 3, (2,)) * backend.array(weights)).sum()

    at = {**case.params, "k": case.k} | ({"A": case.A} if free else {})
    gradients = backend.gradients(lambda arrays: total(_build(backend, case, arrays)), at)
    for direction in paths.directions(case, x, rng):
        drawn = {name: tangent for name, tangent in direction.items() if name != "x"}
        if not drawn or "df" in drawn:  # the gamma sampler rejects: no derivative at fixed noise
            continue

        def draw(t, direction=drawn):
            other, _ = paths.moved(case, x, direction, t)
            return float(total(backend.law(other)))

        expected = oracles.directional_derivative(draw)
        assert paths.along(gradients, drawn) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@each_backend
@pytest.mark.parametrize("quantity", ["mean", "entropy", "constraint_log_prob"])
@each_case(
    select("covariance-dense", "diagonal-weighted_groups", "low_rank-dense", "student_tril-row")
)
def test_gradients_of_summaries(backend, case, quantity, rng):
    weights = rng.normal(size=case.n if quantity == "mean" else ())

    def summary(arrays):
        found = getattr(_build(backend, case, arrays), quantity)
        return ((found() if callable(found) else found) * backend.array(weights)).sum()

    gradients = backend.gradients(summary, {**case.params, "k": case.k})
    x = case.points(rng, count=1)[0]
    for direction in paths.directions(case, x, rng):
        drawn = {name: tangent for name, tangent in direction.items() if name != "x"}
        if not drawn or "A" in drawn:
            continue

        def oracle(t, direction=drawn):
            (problem,) = paths.moved(case, x, direction, t)[0].problems.values()
            return float(np.sum(weights * getattr(oracles, quantity)(problem)))

        expected = oracles.directional_derivative(oracle)
        assert paths.along(gradients, drawn) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@each_backend
def test_log_prob_gradient_of_one_element_off_the_support(backend, rng):
    """-inf in one element leaves the gradients of the others finite and right."""
    case = named("covariance-dense-batch_loc")
    x = case.points(rng, count=1)[0]
    on_support = np.array([0.0, 1.0, 1.0])
    off = x + (1 - on_support)[:, None]

    def score(arrays):
        law = backend.law(case, loc=arrays["loc"], validate_args=False)
        return (law.log_prob(backend.array(off))[1:]).sum()

    found = backend.gradients(score, {"loc": case.params["loc"]})["loc"]
    expected = _score_gradients(backend, case, x, on_support, with_A=False)["loc"]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
