"""Discrete laws given A x = k against enumeration of their fibers."""

import numpy as np
import pytest

from tests.adapters import assert_close, each_backend, each_case, each_law, shared_law
from tests.chance import assert_likely, of_correlations, of_counts, rare_together
from tests.discrete_cases import BOUND_K, CASES, FINITE, UNBOUNDED, DiscreteCase, named, select

TIGHT = 1e-11
DRAWS = 8000
COMPILED = select("poisson-margins", "poisson-outer", "bernoulli-mixed", "categorical-batch_k")
"""All kinds of parts and batches; tests/parity compares values and gradients with PyTorch."""


def log_prob(backend, law, x):
    return backend.numpy(law.log_prob(backend.counts(x)))


@each_law(CASES, COMPILED)
def test_probabilities_of_all_points(backend, case):
    law = shared_law(backend, case)
    assert tuple(law.batch_shape) == case.batch_shape
    assert tuple(law.event_shape) == (case.n,)
    for index, problem in case.problems.items():
        points = problem.points.reshape((-1,) + (1,) * len(index) + (case.n,))
        x = np.broadcast_to(points, (len(points), *case.batch_shape, case.n))
        found = log_prob(backend, unchecked(backend, case), x)[(slice(None), *index)]
        np.testing.assert_allclose(found, np.log(problem.pmf), rtol=1e-10, atol=1e-10)
        if case not in UNBOUNDED:
            assert abs(np.exp(found).sum() - 1) < 1e-12


def unchecked(backend, case):
    """A point of one element of the batch may be off the support of another."""
    return backend.law(case, validate_args=False)


@each_law(CASES, COMPILED)
def test_log_probability_of_the_constraint(backend, case):
    found = backend.value(shared_law(backend, case), "constraint_log_prob")
    assert_close(found, case.expected(lambda problem: problem.log_partition), TIGHT)


@each_law(CASES, COMPILED)
def test_moments(backend, case):
    law = shared_law(backend, case)
    for name in ("mean", "variance"):
        expected = case.expected(
            lambda problem, name=name: getattr(problem, name), event_shape=(case.n,)
        )
        assert_close(backend.value(law, name), expected, TIGHT)


@each_law(CASES, COMPILED)
def test_covariance(backend, case):
    law = shared_law(backend, case)
    found = backend.value(law, "covariance")
    expected = case.expected(lambda problem: problem.covariance, event_shape=(case.n, case.n))
    assert_close(found, expected, TIGHT)
    np.testing.assert_array_equal(found, np.swapaxes(found, -1, -2))
    variance = np.diagonal(found, axis1=-2, axis2=-1)
    np.testing.assert_allclose(variance, backend.value(law, "variance"), rtol=4e-16)


@each_law(FINITE, COMPILED)
def test_entropy(backend, case):
    found = backend.value(shared_law(backend, case), "entropy")
    assert_close(found, case.expected(lambda problem: problem.entropy), TIGHT)


@each_law(FINITE, COMPILED)
def test_marginals(backend, case):
    found = np.exp(backend.value(shared_law(backend, case), "marginal_log_prob"))
    shape = found.shape[-2:]
    expected = case.expected(lambda problem: problem.marginals(shape[-1]), event_shape=shape)
    assert_close(found, expected, TIGHT)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)


@each_law(BOUND_K, COMPILED)
def test_enumerated_support(backend, case):
    law = shared_law(backend, case)
    points = next(iter(case.problems.values())).points
    bare = backend.numpy(law.enumerate_support(expand=False))
    full = backend.numpy(law.enumerate_support())
    assert bare.shape == (len(points), *(1 for _ in case.batch_shape), case.n)
    assert full.shape == (len(points), *case.batch_shape, case.n)
    np.testing.assert_array_equal(bare.reshape(points.shape), points)
    np.testing.assert_array_equal(full, np.broadcast_to(bare, full.shape))


@each_law(CASES, COMPILED)
def test_frequencies_of_draws(backend, case):
    """Counts of the points of the fiber, rare ones taken together."""
    draws = backend.draws(shared_law(backend, case), seed=3, shape=(DRAWS,))
    assert draws.shape == (DRAWS, *case.batch_shape, case.n)
    p_values = []
    for index, problem in case.problems.items():
        drawn = draws[(slice(None), *index)]
        np.testing.assert_array_equal(drawn @ problem.A.T, np.tile(problem.k, (DRAWS, 1)))
        both, label = np.unique(
            np.concatenate([problem.points, drawn]), axis=0, return_inverse=True
        )
        assert len(both) == len(problem.points)
        label = label.reshape(-1)
        counts = np.bincount(label[len(problem.points) :], minlength=len(both))
        counts = counts[label[: len(problem.points)]]
        p_values.append(of_counts(*rare_together(counts, problem.pmf, least=5)))
    assert_likely(p_values)


@each_backend
@each_case(select("poisson-batch_k", "bernoulli-outer", "categorical-batch_k", "bernoulli-none"))
def test_draws_of_a_batch_are_independent(backend, case):
    draws = backend.draws(shared_law(backend, case), seed=5, shape=(2000,))
    flat = draws.reshape(2000, -1, case.n)
    weights = np.random.default_rng(0).normal(size=case.n)
    score = flat @ weights
    assert_likely(of_correlations(score[:, score.std(0) > 1e-9]))


@each_backend
@pytest.mark.parametrize("name", ["poisson-mixed", "bernoulli-mixed", "categorical-mixed"])
def test_free_variables_differ_within_a_batch_of_k(backend, name):
    case = named(name)
    law = backend.law(case, k=backend.array(np.tile(case.k, (2, 1))))
    draws = backend.draws(law, 2, (200,))
    (free,) = np.flatnonzero(~case.dense_A.any(axis=0))
    assert np.any(draws[:, 0, free] != draws[:, 1, free])


# Gradients


def slopes(oracle, case: DiscreteCase, tangent: np.ndarray, step: float = 1e-5) -> float:
    """Central difference of the summed oracle along a direction of the parameter."""
    ((name, value),) = case.params.items()

    def at(t):
        moved = DiscreteCase(case.name, case.law, {name: value + t * tangent}, case.A, case.k)
        return sum(oracle(problem) for problem in moved.problems.values())

    return (at(step) - at(-step)) / (2 * step)


QUANTITIES = {
    "constraint_log_prob": (lambda law: law.constraint_log_prob().sum(), lambda p: p.log_partition),
    "mean": (
        lambda law: (law.mean**2).sum() + (law.mean[..., 0] * 3).sum(),
        lambda p: (p.mean**2).sum() + 3 * p.mean[0],
    ),
    "variance": (lambda law: law.variance.sum(), lambda p: p.variance.sum()),
}


@each_law(CASES, COMPILED)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_gradients(backend, case, quantity, rng):
    ours, oracle = QUANTITIES[quantity]
    ((name, value),) = case.params.items()
    found = backend.gradients(lambda at: ours(backend.law(case, **at)), {name: value})[name]
    tangent = 0.3 * rng.normal(size=value.shape)
    if case.law == "ConstrainedCategorical" and name == "probs":
        tangent = tangent * value  # stays positive
    expected = slopes(oracle, case, tangent)
    assert np.sum(found * tangent) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@each_law(FINITE, COMPILED)
def test_gradient_of_log_prob(backend, case, rng):
    ((name, value),) = case.params.items()
    x = np.stack([problem.points[-1] for problem in case.problems.values()])
    x = x.reshape(*case.batch_shape, case.n)

    def score(at):
        return backend.law(case, **at).log_prob(backend.counts(x)).sum()

    found = backend.gradients(score, {name: value})[name]
    tangent = 0.3 * rng.normal(size=value.shape) * np.minimum(np.abs(value), 1)
    expected = slopes(lambda p: np.log(p.pmf[-1]), case, tangent)
    assert np.sum(found * tangent) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@each_backend
@each_case(select("poisson-margins", "poisson-ones", "bernoulli-ones", "bernoulli-mixed"))
def test_marginal_expectation_has_the_gradient_of_the_mean(backend, case, rng):
    ((name, value),) = case.params.items()
    weights = backend.array(rng.normal(size=case.n))

    def of_draw(at):
        law = backend.law(case, **at, gradient_estimator="marginal_expectation")
        return (backend.sample(law, 1) * weights).sum()

    found = backend.gradients(of_draw, {name: value})[name]
    at = lambda at: (backend.law(case, **at).mean * weights).sum()  # noqa: E731
    expected = backend.gradients(at, {name: value})[name]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    law = backend.law(case, gradient_estimator="marginal_expectation")
    assert law.has_rsample
    np.testing.assert_array_equal(backend.draws(law, 1), np.round(backend.draws(law, 1)))


@each_backend
def test_score_function_is_the_default(backend):
    case = named("bernoulli-ones")
    law = backend.law(case)
    assert not law.has_rsample
    assert law.gradient_estimator == "score_function"
    for wrong in ("pathwise", "straight_through"):
        with pytest.raises(ValueError, match="gradient_estimator"):
            backend.law(case, gradient_estimator=wrong)


# Divergence, support, constrain


@each_law(FINITE, COMPILED)
def test_divergence(backend, case):
    ((name, value),) = case.params.items()
    other = DiscreteCase(case.name, case.law, {name: value[..., ::-1].copy()}, case.A, case.k)
    found = backend.numpy(backend.kl(backend.law(case), backend.law(other)))
    expected = np.empty(case.batch_shape)
    for index, p in case.problems.items():
        q = other.problems[index]
        expected[index] = p.divergence(q)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@each_backend
def test_divergence_of_different_fibers(backend):
    case = named("bernoulli-ones")
    with pytest.raises(ValueError, match="same fiber"):
        backend.kl(backend.law(case), backend.law(case, k=backend.array(3.0)))
    with pytest.raises(ValueError, match="same fiber"):
        backend.kl(backend.law(case), backend.law(case, A=np.eye(5)[:1], k=backend.array([1.0])))
    doubled = backend.law(case, A=2 * np.ones((1, 5)), k=backend.array([4.0]))
    np.testing.assert_allclose(backend.numpy(backend.kl(backend.law(case), doubled)), 0, atol=1e-12)


@each_law(CASES, COMPILED)
def test_support(backend, case):
    law = shared_law(backend, case)
    assert law.support.is_discrete
    x = backend.draws(law, 0, (3,))
    assert np.all(on_support(backend, law, x))
    off = x.copy()
    off[..., 0] += 1
    if case.dense_A[:, 0].any():
        assert not np.any(on_support(backend, law, off))
        assert np.all(log_prob(backend, unchecked(backend, case), off) == -np.inf)
    negative = x.copy()
    negative[..., 0] = -1
    assert not np.any(on_support(backend, law, negative))


def on_support(backend, law, x):
    value = backend.counts(x)
    check = getattr(law.support, "check", law.support)
    return backend.numpy(check(value))


@each_backend
@each_case(select("poisson-margins", "bernoulli-ones", "bernoulli-logits", "categorical-logits"))
def test_constrain(backend, case):
    law = shared_law(backend, case)
    A = backend.constraint(case.A)
    found = backend.library.constrain(law.base_dist, A, backend.array(case.k))
    assert type(found).__name__ == case.law
    x = backend.draws(law, 0, (4,))
    assert_close(log_prob(backend, found, x), log_prob(backend, law, x), TIGHT)


@each_backend
@each_case(select("poisson-margins", "poisson-batch_k", "bernoulli-signed", "categorical-batch_k"))
def test_a_plan_for_all_k_up_to_a_bound(backend, case):
    k_max = np.maximum(case.rows_k.reshape(-1, case.rows_k.shape[-1]).max(axis=0), 1)
    law, bounded = shared_law(backend, case), backend.law(case, k_max=k_max)
    x = backend.draws(law, 0, (4,))
    assert_close(log_prob(backend, bounded, x), log_prob(backend, law, x), TIGHT)
    assert_close(backend.value(bounded, "mean"), backend.value(law, "mean"), TIGHT)


@each_backend
def test_residual_rank_and_parameters(backend):
    case = named("poisson-margins")
    law = shared_law(backend, case)
    assert law.rank == 4
    x = backend.draws(law, 0)
    residual = backend.numpy(law.residual(backend.counts(x + np.eye(6, dtype=x.dtype)[0])))
    np.testing.assert_array_equal(residual, [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(backend.numpy(law.rate), case.params["rate"])
    np.testing.assert_array_equal(backend.numpy(law.k), case.k)
