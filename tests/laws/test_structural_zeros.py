"""Rates of 0 and probabilities of exactly 0 and 1 leave the plan: the rest is right, and small."""

import numpy as np
import pytest

from constrained_core.errors import (
    ConstraintError,
    IntractableConstraintError,
    ParameterError,
)
from tests.adapters import BACKENDS, assert_close, each_backend, each_law, shared_law
from tests.cases import Groups
from tests.discrete_cases import BERNOULLI, CATEGORICAL, MARGINS, POISSON, DiscreteCase
from tests.discrete_oracles import DiscreteProblem
from tests.finite_differences import slope_at

TIGHT = 1e-11
RNG = np.random.default_rng(20)
INF = np.inf


def table(num_rows: int, num_columns: int) -> np.ndarray:
    """Row and column sums."""
    rows = np.kron(np.eye(num_rows, dtype=int), np.ones(num_columns, int))
    return np.vstack([rows, np.kron(np.ones(num_rows, int), np.eye(num_columns, dtype=int))])


def rates(shape: tuple[int, ...], *zeros: int) -> dict[str, np.ndarray]:
    found = RNG.gamma(2.0, 0.8, shape)
    found[..., list(zeros)] = 0
    return {"rate": found}


def probs(n: int, never: list[int], always: list[int]) -> dict[str, np.ndarray]:
    found = RNG.uniform(0.1, 0.9, n)
    found[never], found[always] = 0, 1
    return {"probs": found}


SOME = rates((2, 5))["rate"]
SOME[:, 3], SOME[0, 1] = 0, 0  # of both, and of one
LOGITS = np.array([0.3, -INF, 1.1, INF, -0.4])
LEVELS = np.array([[0.2, 0, 0.8], [0, 1, 0], [0.4, 0.6, 0], [0, 0.5, 0.5], [0.3, 0.3, 0.4]])
TWO_LEVELS = np.stack([LEVELS, np.roll(LEVELS, 1, axis=0)])
ROUTES = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 1], [0, 0, 1, 1, 1]])
RANKS = np.array([[1, 1, 0, 2, 1], [0, 1, 1, 1, 1]])
WEIGHTED = Groups(np.array([0, 0, 1, 1, 1]), 2, np.array([1.0, 2, 1, 3, 2]))

CASES = {
    "diagonal": (POISSON, rates((9,), 0, 4, 8), table(3, 3), [3, 4, 3, 4, 3, 3]),
    "apart": (POISSON, rates((9,), 2, 5, 6, 7), table(3, 3), [4, 3, 2, 5, 2, 2]),
    "a row": (POISSON, rates((6,), 0, 1, 2), MARGINS, [0, 5, 2, 1, 2]),
    "merged": (POISSON, rates((5,), 0, 4), np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]), [5, 4]),
    "free": (POISSON, rates((5,), 1, 4), np.array([[1, 1, 2, 0, 0], [0, 1, 1, 1, 0]]), [4, 3]),
    "batch": (POISSON, {"rate": SOME}, RANKS, [[5, 4]]),
    "batch of k": (POISSON, rates((5,), 1), ROUTES, [[3, 2, 2], [1, 2, 3]]),
    "weighted groups": (POISSON, rates((5,), 1, 3), WEIGHTED, [3, 4]),
    "subsets": (BERNOULLI, probs(5, [1], [2]), RANKS, [2, 2]),
    "subsets by logits": (BERNOULLI, {"logits": LOGITS}, RANKS, [3, 2]),
    "all known": (BERNOULLI, probs(3, [0], [1, 2]), np.array([[1, 2, 1], [0, 1, 2]]), [3, 3]),
    "levels": (CATEGORICAL, {"probs": LEVELS}, RANKS, [6, 4]),
    "levels of two": (CATEGORICAL, {"probs": TWO_LEVELS}, RANKS, [6, 4]),
}
FIXED = {
    "diagonal": [0, 4, 8], "apart": [2, 5, 6, 7], "a row": [0, 1, 2], "merged": [4],
    "free": [1, 4], "batch": [3], "batch of k": [1], "weighted groups": [1, 3],
    "subsets": [1, 2], "subsets by logits": [1, 3], "all known": [0, 1, 2], "levels": [1],
    "levels of two": [],
}  # fmt: skip
"""Variables that leave the plan. A rate of 0 beside one with an equal column need not."""
ALL = tuple(
    DiscreteCase(name, law, params, A, np.array(k)) for name, (law, params, A, k) in CASES.items()
)
COMPILED = tuple(case for case in ALL if case.name in ("diagonal", "subsets", "levels of two"))


def named(name: str) -> DiscreteCase:
    return next(case for case in ALL if case.name == name)


def plan_of(law):
    return getattr(law, "_plan", None) or law._constraint.plan


@each_law(ALL, COMPILED)
def test_what_leaves_the_plan(backend, case):
    fixed = plan_of(shared_law(backend, case)).fixed
    found = [] if fixed is None else fixed.variables.tolist()
    assert found == FIXED[case.name]
    assert shared_law(backend, case).rank == np.linalg.matrix_rank(case.dense_A)


@each_law(ALL, COMPILED)
def test_quantities(backend, case):
    law = shared_law(backend, case)
    for name in ("mean", "variance"):
        expected = case.expected(lambda p, name=name: getattr(p, name), event_shape=(case.n,))
        assert_close(backend.value(law, name), expected, TIGHT)
    for name, oracle in (("constraint_log_prob", "log_partition"), ("entropy", "entropy")):
        expected = case.expected(lambda p, oracle=oracle: getattr(p, oracle))
        assert_close(backend.value(law, name), expected, TIGHT)
    table = backend.value(law, "marginal_log_prob")
    size = table.shape[-1]
    with np.errstate(divide="ignore"):
        expected = case.expected(lambda p: np.log(p.marginals(size)), event_shape=(case.n, size))
    np.testing.assert_allclose(table, expected, rtol=1e-10, atol=1e-10)
    square = (case.n, case.n)
    expected = case.expected(lambda p: p.covariance, event_shape=square)
    assert_close(backend.value(law, "covariance"), expected, TIGHT)


@each_law(ALL, COMPILED)
def test_points_and_draws(backend, case):
    law = backend.law(case, validate_args=False)
    draws = backend.draws(law, 1, (300,))
    for index, problem in case.problems.items():
        x = np.broadcast_to(
            problem.points.reshape(-1, *[1] * len(index), case.n),
            (len(problem.points), *case.batch_shape, case.n),
        )
        with np.errstate(divide="ignore"):
            expected = np.log(problem.pmf)
        found = backend.numpy(law.log_prob(backend.counts(x)))[(slice(None), *index)]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
        drawn = draws[(slice(None), *index)]
        np.testing.assert_array_equal(drawn @ problem.A.T, np.tile(problem.k, (300, 1)))
        deviation = np.sqrt(problem.variance / 300)
        gap = np.abs(drawn.mean(0) - problem.mean)
        assert (gap <= 5 * deviation + 1e-12).all()  # one in a million each
    assert np.isfinite(backend.numpy(law.log_prob(backend.counts(draws)))).all()
    if case.rows_k.reshape(-1, case.rows_k.shape[-1]).shape[0] == 1:
        points = backend.numpy(law.enumerate_support(expand=False)).reshape(-1, case.n)
        possible = sum(p.pmf for p in case.problems.values()) > 0
        (first, *_) = case.problems.values()
        assert {*map(tuple, first.points[possible])} <= {*map(tuple, points.astype(int))}
        assert len(points) <= len(first.points)


@each_backend
def test_a_rate_of_zero_bounds_the_others(backend):
    """x_1 could grow with x_0 for ever, were it not 0: what is left is a sum, and a trellis."""
    for A, rate in (([[1, -1, 1]], [0.7, 0, 1.3]), ([[1, -1, 2, 1]], [0.7, 0, 1.3, 0.4])):
        A, rate, k = np.array(A), np.array(rate), np.array([4])
        law = backend.law(DiscreteCase("", POISSON, {"rate": rate}, A, k))
        others = rate > 0
        expected = np.zeros(len(rate))
        problem = DiscreteProblem("poisson", rate[others], A[:, others], k)
        expected[others] = problem.mean
        assert_close(backend.value(law, "mean"), expected, TIGHT)
        found = backend.value(law, "constraint_log_prob")
        assert_close(found, problem.log_partition, TIGHT)


@each_backend
def test_divergence_of_laws_with_different_zeros(backend):
    A, k = table(3, 3), np.array([3, 4, 3, 4, 3, 3])
    first, second = (rates((9,), *zeros)["rate"] for zeros in ((0, 4, 8), (0, 4)))
    laws = [backend.law(DiscreteCase("", POISSON, {"rate": r}, A, k)) for r in (first, second)]
    p, q = (DiscreteProblem("poisson", rate, A, k) for rate in (first, second))
    assert_close(backend.numpy(backend.kl(*laws)), p.divergence(q), TIGHT)
    assert backend.numpy(backend.kl(*laws[::-1])) == INF


@each_backend
def test_other_zeros_are_another_plan(backend):
    A, k = table(3, 3), np.array([3, 4, 3, 4, 3, 3])
    for zeros in ((0,), (4,), (), (0, 4), (0,)):
        rate = rates((9,), *zeros)
        law = backend.law(DiscreteCase("", POISSON, rate, A, k))
        expected = DiscreteProblem("poisson", rate["rate"], A, k).mean
        assert_close(backend.value(law, "mean"), expected, TIGHT)


# The budget


@each_backend
def test_zeros_make_a_law_tractable(backend):
    """The whole table is past the budget, which the error names with the size and the remedy."""
    A, k = table(4, 4), np.array([6, 7, 5, 6, 6, 6, 6, 6])
    rate = rates((4, 4))["rate"]
    case = DiscreteCase("", POISSON, {"rate": rate.ravel()}, A, k)
    with pytest.raises(IntractableConstraintError) as raised:
        backend.law(case, max_transitions=3000)
    for part in ("at least", "transitions", "budget is 3000", "max_transitions", "FiberSampler"):
        assert part in str(raised.value)
    np.fill_diagonal(rate, 0)
    rate[0, 1] = rate[2, 3] = 0
    case = DiscreteCase("", POISSON, {"rate": rate.ravel()}, A, k)
    law = backend.law(case, max_transitions=3000)
    assert_close(backend.value(law, "mean") @ A.T, k.astype(float), TIGHT)
    assert (backend.value(law, "mean")[rate.ravel() == 0] == 0).all()
    for wrong in (0, -1, 2.5, "many"):
        with pytest.raises(ConstraintError, match="max_transitions: expected a positive"):
            backend.law(case, max_transitions=wrong)


@each_backend
def test_a_larger_budget_is_taken(backend):
    case = DiscreteCase("", POISSON, rates((9,)), table(3, 3), np.array([9, 9, 9, 9, 9, 9]))
    with pytest.raises(IntractableConstraintError):
        backend.law(case, max_transitions=100)
    backend.law(case, max_transitions=10**6)


@each_backend
def test_zeros_that_leave_no_point_of_a_large_fiber(backend):
    """A rejected step of a sampler; of a small fiber the law says -inf."""
    rate = rates((16,), 0, 1, 2, 3)
    case = DiscreteCase("", POISSON, rate, table(4, 4), np.array([1, 8, 8, 8, 7, 6, 6, 6]))
    assert backend.value(backend.law(case), "constraint_log_prob") == -INF
    with pytest.raises(ParameterError, match="positive probability"):
        backend.law(case, max_transitions=1000)


# Derivatives, one-sided where a parameter is 0 or 1

CERTAIN = {"probs": np.array([0.7, 0, 0.3, 1, 0.4])}
OVERLAPPING, PARTITION = (
    np.array([[1, 1, 0, 2, 1], [0, 1, 1, 1, 2]]),
    np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]),
)
DERIVED = tuple(
    DiscreteCase(name, law, params, A, np.array(k))
    for name, law, params, A, k in (
        ("poisson", POISSON, {"rate": np.array([0.7, 0, 1.3, 0, 0.4])}, OVERLAPPING, [3, 4]),
        ("bernoulli one row", BERNOULLI, CERTAIN, np.ones((1, 5), int), [2]),
        ("bernoulli nearly all", BERNOULLI, CERTAIN, np.ones((1, 5), int), [4]),
        ("bernoulli groups", BERNOULLI, CERTAIN, PARTITION, [1, 1]),
        ("bernoulli", BERNOULLI, CERTAIN, OVERLAPPING, [3, 3]),
        ("categorical", CATEGORICAL, {"probs": LEVELS[[0, 3, 2, 4, 2]]}, OVERLAPPING, [4, 5]),
    )
)


@each_law(DERIVED, DERIVED[:3])
def test_derivatives_in_parameters_that_are_zero(backend, case):
    """None of them is 0 for want of a plan: they are those of the law next to it."""
    (problem,), ((key, value),) = case.problems.values(), case.params.items()
    place = int(np.argmax(problem.pmf))
    x = backend.counts(problem.points[place])
    weights = np.cos(np.arange(25.0)).reshape(5, 5)

    def ours(at):
        law = backend.law(case, **at)
        moments = (law.mean**2).sum() + 3 * law.mean.sum() + 2 * law.variance.sum()
        moments = moments + (law.covariance * backend.array(weights)).sum()
        return moments + 5 * law.constraint_log_prob() + 7 * law.log_prob(x)

    def oracle(value: np.ndarray) -> float:
        p = DiscreteProblem(case.family, value, problem.A, problem.k)
        moments = (p.mean**2).sum() + 3 * p.mean.sum() + 2 * p.variance.sum()
        deviations = p.points - p.mean
        moments += (weights * (deviations.T * p.pmf @ deviations)).sum()
        return moments + 5 * p.log_partition + 7 * np.log(p.pmf[place])

    found = backend.gradients(ours, {key: value})[key]
    np.testing.assert_allclose(found, slope_at(oracle, value), rtol=1e-6, atol=1e-6)


@each_backend
def test_derivatives_of_a_batch_in_which_zeros_differ(backend):
    case = named("batch")
    found = backend.gradients(
        lambda at: backend.law(case, **at).constraint_log_prob().sum(), case.params
    )["rate"]
    for i, problem in case.problems.items():
        expected = slope_at(
            lambda rate, p=problem: DiscreteProblem("poisson", rate, p.A, p.k).log_partition,
            problem.params,
        )
        np.testing.assert_allclose(found[i], expected, rtol=1e-6, atol=1e-7)


def test_backends_agree():
    if len(BACKENDS) < 2:
        pytest.skip("one backend")
    for name in ("merged", "batch", "subsets by logits"):
        laws = [shared_law(backend, named(name)) for backend in BACKENDS]
        means = [backend.value(law, "mean") for backend, law in zip(BACKENDS, laws, strict=True)]
        assert_close(*means, 1e-12)


@each_backend
def test_derivatives_of_a_batch_of_subsets_of_which_some_are_certain(backend):
    probs, A, k = np.array([[0.0, 0.6, 0.5], [0.3, 0.6, 1.0], [0.3, 0.6, 0.5]]), np.ones(3, int), 2

    def ours(at):
        law = backend.library.ConstrainedBernoulli(at["probs"], A=A, k=backend.counts(np.array(k)))
        means = (law.mean * backend.array(np.tile(weights, (3, 1)))).sum()
        return law.constraint_log_prob().sum() + 2 * means

    def oracle(one: np.ndarray) -> float:
        p = DiscreteProblem("bernoulli", one, A[None], np.array([k]))
        return p.log_partition + 2 * (p.mean * weights).sum()

    weights = np.array([1.0, -2.0, 0.5])
    found = backend.gradients(ours, {"probs": probs})["probs"]
    for slopes, one in zip(found, probs, strict=True):
        np.testing.assert_allclose(slopes, slope_at(oracle, one), rtol=1e-6, atol=1e-7)


@each_backend
def test_moments_of_a_batch_of_which_some_rates_are_zero(backend):
    """In x0 + x1 + 2 x2 = 2 the mean of x2 is r / (s^2 / 2 + r), of s = r0 + r1: at r = 0 its
    slope is 2 / s^2, as is that of the variance, and that of E[x0 x2] - E[x0] E[x2] the mean of
    x0 times this, with a minus."""
    A, k, rate = np.array([[1, 1, 2]]), np.array([2]), np.array([[0.3, 0.7, 0.0], [0.5, 0.3, 0.7]])
    for name, place, expected in (
        ("mean", (0, 2), 2.0),
        ("mean", (0, 0), -2 * 0.6),
        ("variance", (0, 2), 2.0),
        ("covariance", (0, 0, 2), -2 * 0.6),
    ):

        def figure(given, name=name, place=place):
            law = backend.library.ConstrainedPoisson(given["rate"], A, backend.counts(k))
            return getattr(law, name)[place]

        slope = backend.gradients(figure, {"rate": rate})["rate"]
        np.testing.assert_allclose(slope[0, 2], expected, rtol=1e-12)


@each_backend
@pytest.mark.parametrize("least", [0.0, 1e-250])
def test_slopes_of_log_marginals(backend, least):
    """Of log P(x1 = 1 | x0 + x1 + x2 + x3 = 2), in a probability that is zero, or nearly so."""
    odds = np.array([0.6, 0.5, 0.2]) / (1 - np.array([0.6, 0.5, 0.2]))
    a, b, c = odds
    # With odds e of x0: a (b + c + e) over ab + ac + bc + e (a + b + c); their slope at 0.
    expected = 1 / (b + c) - (a + b + c) / (a * b + a * c + b * c)

    def figure(given):
        law = backend.library.ConstrainedBernoulli(
            given["probs"], A=np.ones(4, int), k=backend.counts(np.array(2))
        )
        return law.marginal_log_prob()[1, 1]

    slope = backend.gradients(figure, {"probs": np.array([least, 0.6, 0.5, 0.2])})["probs"]
    np.testing.assert_allclose(slope[0], expected, rtol=1e-10)
