"""The three gradient estimators of a draw."""

import numpy as np
import pytest

from tests import oracles
from tests.adapters import each_backend, each_law
from tests.cases import named, select
from tests.chance import assert_likely, of_means
from tests.laws import paths
from tests.laws.test_support import roundings

ESTIMATOR_CASES = select(
    "covariance-dense", "diagonal-weighted_groups", "low_rank-ones", "student_tril-row"
)
SEEDS, DRAWS = 24, 500


def _inputs(case):
    return {**case.params, "k": case.k}


def _law(backend, case, arrays, estimator):
    return backend.law(case, **arrays, gradient_estimator=estimator)


@each_law(ESTIMATOR_CASES, select("diagonal-weighted_groups"))
def test_pathwise_gradient_is_unbiased(backend, case, rng):
    """The mean gradient of x'Mx over draws is the derivative of E[x'Mx] in closed form."""
    matrix = rng.normal(size=(case.n, case.n))
    x = case.points(rng, count=1)[0]

    def gradients(seed):
        def average(arrays):
            draws = backend.sample(_law(backend, case, arrays, "pathwise"), seed, (DRAWS,))
            return ((draws @ backend.array(matrix)) * draws).sum(-1).mean()

        return backend.gradients(average, _inputs(case))

    found = [gradients(seed) for seed in range(SEEDS)]
    p_values = []
    for direction in paths.directions(case, x, rng):
        drawn = {name: tangent for name, tangent in direction.items() if name in found[0]}
        if not drawn or "A" in direction:
            continue

        def oracle(t, direction=drawn):
            (problem,) = paths.moved(case, x, direction, t)[0].problems.values()
            return oracles.quadratic_expectation(problem, matrix)

        slopes = [paths.along(one, drawn) for one in found]
        p_values.append(of_means(slopes, oracles.directional_derivative(oracle)))
    assert_likely(p_values)


@each_law(ESTIMATOR_CASES, select("diagonal-weighted_groups"))
def test_marginal_expectation_has_the_gradient_of_the_mean(backend, case, rng):
    weights = backend.array(rng.normal(size=case.n))

    def of_draw(arrays):
        law = _law(backend, case, arrays, "marginal_expectation")
        return (backend.sample(law, 1) * weights).sum()

    def of_mean(arrays):
        return (_law(backend, case, arrays, "pathwise").mean * weights).sum()

    at = _inputs(case)
    found, expected = backend.gradients(of_draw, at), backend.gradients(of_mean, at)
    for name in at:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12)


@each_law(ESTIMATOR_CASES, select("diagonal-weighted_groups"))
def test_score_function_blocks_the_draw(backend, case):
    law = backend.law(case, gradient_estimator="score_function")
    assert not law.has_rsample

    def total(arrays):
        return (backend.sample(_law(backend, case, arrays, "score_function"), 1) ** 2).sum()

    for gradient in backend.gradients(total, _inputs(case)).values():
        np.testing.assert_array_equal(gradient, 0)


@each_law(ESTIMATOR_CASES, select("diagonal-weighted_groups"))
def test_every_estimator_draws_on_the_support(backend, case):
    for estimator in ("pathwise", "marginal_expectation", "score_function"):
        law = backend.law(case, gradient_estimator=estimator)
        draws = backend.draws(law, 5, (20,))
        assert np.max(roundings(case, draws, "float64")) <= 4
        assert np.ptp(draws, axis=0).max() > 0.1 * case.unit


@each_backend
def test_reparametrised_estimators_say_so(backend):
    case = named("covariance-dense")
    assert backend.law(case).has_rsample
    assert backend.law(case, gradient_estimator="marginal_expectation").has_rsample


@each_backend
def test_unknown_estimator(backend):
    with pytest.raises(ValueError, match="gradient_estimator"):
        backend.law(named("covariance-dense"), gradient_estimator="straight_through")
