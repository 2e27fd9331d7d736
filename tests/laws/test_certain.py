"""Probabilities of exactly 0 and 1, and rates of 0: 0 log 0 is 0, and only what is forbidden is
infinite."""

import numpy as np
import pytest

from tests.adapters import assert_close, each_backend, each_quick_backend
from tests.discrete_cases import BERNOULLI, CATEGORICAL, FAMILY, POISSON, DiscreteCase
from tests.discrete_oracles import DiscreteProblem

TIGHT = 1e-11
ONES, TRELLIS = np.ones((1, 6), int), np.array([[1, -2, 2, 3, 1, -2]])
MIXED = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 2, 0]])
"""A group, a trellis and a free variable."""

PROBS = np.array([0.3, 0.8, 1.0, 0.5, 0.6, 0.0])
OTHER = np.array([0.5, 0.4, 0.9, 0.2, 0.7, 0.3])
TABLE = np.array([[0.2, 0.5, 0.3], [0, 1, 0], [0.4, 0, 0.6], [0.1, 0.8, 0.1]])
FULL = np.array([[0.1, 0.1, 0.8], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
RATE, ANY = np.array([0.0, 2.0, 1.0, 0.5]), np.array([1.0, 0.5, 3.0, 0.7])
ROUTES, MERGED = np.array([[1, 1, 0, 0], [0, 1, 1, 2]]), np.array([[1, 1, 0, 0], [1, 1, 1, 1]])

CASES = {
    "bernoulli group": (BERNOULLI, PROBS, OTHER, ONES, [3]),
    "bernoulli trellis": (BERNOULLI, PROBS, OTHER, TRELLIS, [2]),
    "bernoulli mixed": (BERNOULLI, PROBS, OTHER, MIXED, [2, 2]),
    "bernoulli point": (BERNOULLI, np.array([1.0, 0, 1, 0.5, 0, 0]), OTHER, ONES, [3]),
    "categorical": (CATEGORICAL, TABLE, FULL, ROUTES, [2, 3]),
    "categorical, few values": (CATEGORICAL, TABLE, FULL, np.ones((1, 4), int), [1]),
    "poisson sum": (POISSON, RATE, ANY, np.ones((1, 4), int), [3]),
    "poisson trellis": (POISSON, RATE, ANY, ROUTES, [2, 4]),
}


def pair(name):
    """The case of both parameters, and their problems."""
    law, *parameters, A, k = CASES[name]
    key = "rate" if law == POISSON else "probs"
    cases = [DiscreteCase(name, law, {key: value}, A, np.array(k)) for value in parameters]
    return cases, [DiscreteProblem(FAMILY[law], value, A, np.array(k)) for value in parameters]


@each_quick_backend
@pytest.mark.parametrize("name", CASES)
def test_entropy_divergence_and_covariance(backend, name):
    cases, (p, q) = pair(name)
    law, other = (backend.law(case) for case in cases)
    assert_close(backend.value(law, "entropy"), p.entropy, TIGHT)
    assert_close(backend.value(law, "covariance"), p.covariance, TIGHT)
    assert_close(backend.numpy(backend.kl(law, other)), p.divergence(q), TIGHT)
    assert p.divergence(q) < np.inf
    backwards = backend.numpy(backend.kl(other, law))
    with np.errstate(divide="ignore"):
        assert backwards == pytest.approx(q.divergence(p), rel=TIGHT)
    assert backwards == np.inf or name == "categorical, few values"


@each_quick_backend
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mass_below_the_least_number_is_forbidden(backend, dtype):
    """KL is infinite where a law forbids what another has, however little."""
    for A in (ONES, TRELLIS):
        logits = np.array([-900.0, 0, 0, 0, 0, 900])
        k = np.array(A @ [1, 1, 0, 0, 0, 1])
        case = DiscreteCase("", BERNOULLI, {"logits": logits}, A, k)
        never = logits.copy()
        never[0] = -np.inf
        p, q = (
            backend.law(case, dtype),
            backend.law(case, dtype, logits=backend.array(never, dtype)),
        )
        assert backend.numpy(backend.kl(p, q)) == np.inf
        assert np.isfinite(backend.numpy(backend.kl(q, p)))
    for A in (np.ones((1, 2), int), np.array([[1, 1, 0], [0, 1, 1]])):
        rate = np.where(np.arange(A.shape[1]) == 1, 1e-30, 1.0)
        case = DiscreteCase("", POISSON, {"rate": rate}, A, np.full(len(A), 20))
        p = backend.law(case, dtype)
        q = backend.law(case, dtype, rate=backend.array(np.where(rate < 1, 0.0, 1.0), dtype))
        assert backend.numpy(backend.kl(p, q)) == np.inf
        assert np.isfinite(backend.numpy(backend.kl(q, p)))


@each_quick_backend
@pytest.mark.parametrize("name", ["bernoulli mixed", "categorical", "poisson trellis"])
def test_derivatives_are_finite(backend, name):
    (case, _), _ = pair(name)
    ((key, value),) = case.params.items()

    def total(at):
        law = backend.law(case, **at)
        figures = law.entropy() + (law.mean**2).sum() + (law.covariance**2).sum()
        return figures + law.constraint_log_prob()

    assert np.isfinite(backend.gradients(total, {key: value})[key]).all()


@each_backend
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("A", [np.ones(8, int), np.array([2, 1, 1, 1, 1, 1, 1, 1])])
def test_means_are_probabilities(backend, dtype, A):
    """Of many laws at once, with log odds far beyond what a float tells from certainty."""
    logits = 100 * np.random.default_rng(5).normal(size=(40, 8))
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, A, np.array(4))
    law = backend.law(case, dtype)
    mean, variance = backend.value(law, "mean"), backend.value(law, "variance")
    assert (mean > 0).all() and (mean < 1).all() and (variance >= 0).all()
    np.testing.assert_allclose(mean @ A, 4, rtol=10 * np.finfo(dtype).eps)


@each_backend
def test_infinite_logits_of_categories(backend):
    """One is certain; several share."""
    inf = np.inf
    logits = np.array([[0.0, inf, -inf], [0.5, 0.1, -0.3], [inf, 0.0, inf]])
    probs = np.array([[0, 1, 0], np.exp(logits[1]) / np.exp(logits[1]).sum(), [0.5, 0, 0.5]])
    case = DiscreteCase("", CATEGORICAL, {"logits": logits}, np.ones((1, 3), int), np.array([3]))
    law, problem = backend.law(case), DiscreteProblem("categorical", probs, case.A, case.k)
    assert_close(backend.value(law, "mean"), problem.mean, TIGHT)
    assert_close(backend.value(law, "constraint_log_prob"), problem.log_partition, TIGHT)
    with pytest.raises(ValueError, match="possible"):
        backend.law(case, logits=backend.array(np.full((3, 3), -inf)), validate_args=True)


@each_quick_backend
def test_no_point_has_no_moments(backend):
    """Of parameters that leave no point: NaN, and only there."""
    rates = np.array([[1.0, 2, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    one_row = np.array([[1, 1, 0, 0]])
    for A, k, is_law in ((one_row, [2], [0, 2]), (ROUTES, [1, 2], [2]), (MERGED, [1, 3], [2])):
        case = DiscreteCase("", POISSON, {"rate": rates}, A, np.array(k))
        law = backend.law(case, validate_args=False)
        found = backend.value(law, "constraint_log_prob")
        np.testing.assert_array_equal(found > -np.inf, np.isin(np.arange(3), is_law))
        for name in ("mean", "variance", "covariance"):
            found = backend.value(law, name).reshape(3, -1)
            np.testing.assert_array_equal(np.isfinite(found).all(-1), np.isin(np.arange(3), is_law))


@each_quick_backend
def test_no_point_spoils_no_derivative(backend):
    """The moments of one element of a batch are NaN; derivatives of others are what they are."""
    rate = np.array([1.0, 2, 0.5, 0.7])
    for A, k in ((np.array([[1, 1, 0, 0]]), [2]), (MERGED, [1, 3])):
        case = DiscreteCase("", POISSON, {"rate": rate}, A, np.array(k))
        on = backend.array([[1.0], [0.0]])

        def total(at, case=case, on=on):
            law = backend.law(case, rate=at["rate"][None] * on, validate_args=False)
            return law.mean[0].sum() + 3 * law.variance[0, 0] + law.covariance[0, 0, 1]

        def alone(at, case=case):
            law = backend.law(case, rate=at["rate"])
            return law.mean.sum() + 3 * law.variance[0] + law.covariance[0, 1]

        found, expected = (backend.gradients(f, {"rate": rate})["rate"] for f in (total, alone))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@each_backend
def test_derivative_where_the_largest_value_is_certain(backend):
    """As a law leaves certainty, its mean moves by what it moves to, not by half of it."""
    certain, other = np.array([0.0, 0, 1]), np.array([0.2, 0.5, 0.3])
    probs = np.stack([other, other, certain])
    case = DiscreteCase("", CATEGORICAL, {"probs": probs}, np.array([[1, 1, 0]]), np.array([2]))

    def mean(at):
        return backend.law(case, validate_args=False, **at).mean[2]

    slope = backend.gradients(mean, {"probs": probs})["probs"][2] @ (other - certain)
    assert slope == pytest.approx(other @ np.arange(3) - 2, rel=TIGHT)
