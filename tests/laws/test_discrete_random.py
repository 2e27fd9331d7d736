"""Random small systems against enumeration, known special cases, and extreme parameters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from constrained_core.errors import UnboundedSupportError
from tests.adapters import assert_close, each_backend, each_law, each_quick_backend
from tests.cases import Groups
from tests.chance import assert_likely, of_counts
from tests.discrete_cases import BERNOULLI, CATEGORICAL, POISSON, DiscreteCase, select
from tests.discrete_oracles import DiscreteProblem, has_direction

TIGHT = 1e-10


# Every random example has a shape of its own, which JAX compiles for seconds.


@st.composite
def systems(draw, law: str) -> DiscreteCase:
    """A x = k with entries -1..3, at most 3 rows and 6 columns, and a point on the fiber."""
    m, n = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    A = draw(hnp.arrays(int, (m, n), elements=st.integers(-1, 3)))
    if law == POISSON and draw(st.booleans()):
        A[0] = 1
    x = draw(hnp.arrays(int, n, elements=st.integers(0, 1 if law == BERNOULLI else 2)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    params = {
        POISSON: lambda: {"rate": rng.gamma(1.0, 2.0, n)},
        BERNOULLI: lambda: {"logits": 3 * rng.normal(size=n)},
        CATEGORICAL: lambda: {"logits": 2 * rng.normal(size=(n, 3))},
    }[law]()
    return DiscreteCase("random", law, params, A, A @ x)


def check(backend, case: DiscreteCase) -> None:
    (problem,) = case.problems.values()
    law = backend.law(case)
    found = backend.numpy(law.log_prob(backend.counts(problem.points)))
    np.testing.assert_allclose(found, np.log(problem.pmf), rtol=TIGHT, atol=TIGHT)
    assert_close(backend.value(law, "constraint_log_prob"), problem.log_partition, TIGHT)
    assert_close(backend.value(law, "mean"), problem.mean, TIGHT)
    assert_close(backend.value(law, "variance"), problem.variance, TIGHT)
    drawn = backend.draws(law, 0, (7,))
    assert np.all(np.isfinite(backend.numpy(law.log_prob(backend.counts(drawn)))))
    if case.law != POISSON or not np.any(~case.dense_A.any(axis=0)):
        marginals = np.exp(backend.value(law, "marginal_log_prob"))
        assert_close(marginals, problem.marginals(marginals.shape[-1]), TIGHT)
        np.testing.assert_array_equal(backend.numpy(law.enumerate_support()), problem.points)


@each_quick_backend
@given(data=st.data())
@pytest.mark.parametrize("law", [BERNOULLI, CATEGORICAL])
def test_random_bounded_systems(backend, law, data):
    check(backend, data.draw(systems(law)))


@each_quick_backend
@settings(max_examples=20)
@given(data=st.data(), single=st.booleans())
def test_random_systems_with_decided_variables(backend, data, single):
    """Probabilities of exactly 0 and 1, from all but one to all but none of the ones drawn."""
    n = data.draw(st.integers(1, 8))
    x, decided = (data.draw(hnp.arrays(bool, n)) for _ in range(2))
    probs = np.where(decided, x, data.draw(hnp.arrays(float, n, elements=st.floats(0.05, 0.95))))
    A = np.ones((1, n), int) if single else np.array([np.ones(n, int), np.arange(n) % 2])
    case = DiscreteCase("decided", BERNOULLI, {"probs": probs}, A, A @ x)
    (problem,) = case.problems.values()
    law = backend.law(case)
    assert_close(backend.value(law, "mean"), problem.mean, TIGHT)
    marginals = np.exp(backend.value(law, "marginal_log_prob"))
    assert_close(marginals, problem.marginals(marginals.shape[-1]), TIGHT)
    drawn = backend.draws(law, 0, (7,))
    np.testing.assert_array_equal(drawn @ A.T, np.broadcast_to(A @ x, (7, len(A))))
    assert np.all(np.isfinite(backend.numpy(law.log_prob(backend.counts(drawn)))))


@each_quick_backend
@given(case=systems(POISSON))
def test_random_poisson_systems(backend, case):
    if has_direction(case.dense_A):
        with pytest.raises(UnboundedSupportError):
            backend.law(case)
    else:
        check(backend, case)


# Known special cases


@each_backend
@pytest.mark.parametrize("total", [0, 1, 30, 10_000])
def test_poisson_given_its_sum_is_multinomial(backend, total, rng):
    rate = rng.gamma(1.0, 5.0, 40)
    law = backend.law(DiscreteCase("", POISSON, {"rate": rate}, np.ones(40), np.array(total)))
    expected = stats.multinomial(total, rate / rate.sum())
    x = backend.draws(law, 0, (20,))
    found = backend.numpy(law.log_prob(backend.counts(x)))
    np.testing.assert_allclose(found, expected.logpmf(x), rtol=1e-10, atol=1e-10 * (1 + total))
    assert_close(backend.value(law, "mean") / (1 + total), expected.mean() / (1 + total), 1e-12)
    variance = np.diagonal(expected.cov())
    assert_close(backend.value(law, "variance") / (1 + total), variance / (1 + total), 1e-12)
    found = backend.value(law, "constraint_log_prob")
    assert_close(found, stats.poisson.logpmf(total, rate.sum()), 1e-10)


@each_backend
def test_two_binomials_given_their_sum(backend):
    """Fisher's noncentral hypergeometric law, from Bernoulli variables that differ by odds."""
    good, bad, drawn, odds = 7, 9, 6, 2.5
    logits = np.concatenate([np.full(good, np.log(odds)), np.zeros(bad)])
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, np.ones(16), np.array(drawn))
    law = backend.law(case)
    expected = stats.nchypergeom_fisher(good + bad, good, drawn, odds)
    mean = backend.value(law, "mean")
    assert mean[:good].sum() == pytest.approx(expected.mean(), rel=1e-10)
    counts = np.bincount(backend.draws(law, 0, (4000,))[:, :good].sum(-1).astype(int), minlength=7)
    assert_likely(of_counts(counts, expected.pmf(np.arange(7))))


@each_backend
def test_margins_of_a_2_by_2_table(backend):
    """Poisson counts given all margins: the odds ratio is the only parameter left."""
    rate = np.array([1.5, 0.7, 2.0, 3.0])
    A = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
    case = DiscreteCase("", POISSON, {"rate": rate}, A, np.array([9, 8, 6, 11]))
    law = backend.law(case)
    odds = rate[0] * rate[3] / (rate[1] * rate[2])
    expected = stats.nchypergeom_fisher(17, 9, 6, odds)
    marginal = np.exp(backend.value(law, "marginal_log_prob"))[0]
    np.testing.assert_allclose(marginal, expected.pmf(np.arange(len(marginal))), atol=1e-11)


@each_backend
@pytest.mark.parametrize("n", [2, 7, 64, 300])
def test_poisson_binomial(backend, n, rng):
    """P(sum = k) for every k in one batch, against the recursion over the variables."""
    probs = rng.uniform(0, 1, n) ** 2
    pmf = np.ones(1)
    for p in probs:
        pmf = np.convolve(pmf, [1 - p, p])
    case = DiscreteCase("", BERNOULLI, {"probs": probs}, np.ones(n), np.arange(n + 1))
    found = backend.value(backend.law(case), "constraint_log_prob")
    common = pmf > 1e-290
    np.testing.assert_allclose(found[common], np.log(pmf[common]), rtol=1e-9, atol=1e-10)
    mean = backend.value(backend.law(case), "mean")
    np.testing.assert_allclose(mean.sum(-1), np.arange(n + 1), rtol=1e-10, atol=1e-10)


# Extremes


@each_quick_backend
def test_certain_and_impossible_elements(backend):
    probs = np.array([1.0, 0.0, 0.3, 0.6, 1.0, 0.0])
    for A, k in ((np.ones(6), 3), (np.array([1, 1, 2, 1, 1, 1]), 4)):
        case = DiscreteCase("", BERNOULLI, {"probs": probs}, A, np.array(k))
        law, (problem,) = backend.law(case), case.problems.values()
        assert_close(backend.value(law, "mean"), problem.mean, TIGHT)
        assert_close(backend.value(law, "constraint_log_prob"), problem.log_partition, TIGHT)
        with np.errstate(divide="ignore"):
            expected = np.log(problem.pmf)
        found = backend.numpy(law.log_prob(backend.counts(problem.points)))
        np.testing.assert_allclose(found, expected, atol=TIGHT)
        draws = backend.draws(law, 0, (50,))
        np.testing.assert_array_equal(draws[:, [0, 1, 4, 5]], np.tile([1, 0, 1, 0], (50, 1)))

        def total(at, case=case):
            law = backend.law(case, **at)
            return (law.mean**2).sum() + law.constraint_log_prob().sum()

        assert np.isfinite(backend.gradients(total, {"probs": probs})["probs"]).all()


@each_quick_backend
def test_rates_of_zero(backend):
    rate = np.array([0.0, 2.0, 1.0, 0.0])
    for A, k in ((np.ones(4), [3]), (np.array([[1, 1, 0, 0], [1, 1, 1, 2]]), [2, 5])):
        case = DiscreteCase("", POISSON, {"rate": rate}, np.atleast_2d(A), np.array(k))
        law, (problem,) = backend.law(case), case.problems.values()
        assert_close(backend.value(law, "mean"), problem.mean, TIGHT)
        assert_close(backend.value(law, "constraint_log_prob"), problem.log_partition, TIGHT)
        assert np.all(backend.draws(law, 0, (50,))[:, [0, 3]] == 0)

        def total(at, case=case):
            law = backend.law(case, **at)
            return (law.mean**2).sum() + law.constraint_log_prob().sum()

        assert np.isfinite(backend.gradients(total, {"rate": rate})["rate"]).all()


@each_quick_backend
def test_rates_of_very_different_sizes(backend):
    rate = np.array([1e-10, 1e6, 1.0, 1e-3])
    for A, k in ((np.ones((1, 4), int), [6]), (np.array([[1, 1, 0, 1], [0, 1, 1, 2]]), [3, 4])):
        case = DiscreteCase("", POISSON, {"rate": rate}, A, np.array(k))
        law, (problem,) = backend.law(case), case.problems.values()
        found = backend.numpy(law.log_prob(backend.counts(problem.points)))
        weights = special.xlogy(problem.points, rate) - special.gammaln(problem.points + 1)
        weights = weights.sum(-1)
        expected = weights - special.logsumexp(weights)
        np.testing.assert_allclose(found, expected, rtol=TIGHT, atol=TIGHT)
        pmf = np.exp(expected)
        np.testing.assert_allclose(backend.value(law, "mean"), pmf @ problem.points, rtol=1e-10)
        assert np.all(np.isfinite(backend.draws(law, 0, (100,))))


@each_backend
@pytest.mark.parametrize("size", [40.0, 700.0, 1e4])
@pytest.mark.parametrize("k", [0, 2, 3, 5, 8])
def test_large_logits(backend, size, k):
    logits = size * np.array([1, -1, 1, -1, 0.5, -0.5, 1, 0])
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, np.ones(8), np.array(k))
    law = backend.law(case)
    points = DiscreteProblem("bernoulli", np.full(8, 0.5), np.ones((1, 8)), np.array([k])).points
    weights = points @ logits
    expected = weights - special.logsumexp(weights)
    found = backend.numpy(law.log_prob(backend.counts(points)))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)
    assert_close(backend.value(law, "mean"), np.exp(expected) @ points, 1e-10)
    draws = backend.draws(law, 0, (20,))
    assert np.all(draws.sum(-1) == k)


@each_backend
@pytest.mark.parametrize("A", [np.ones(4), np.array([1, 1, 2, 1])])
def test_tiny_marginals_keep_their_digits(backend, A):
    logits = np.array([60.0, -60.0, 0.3, 1.0])
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, A, np.array(2))
    points = DiscreteProblem("bernoulli", np.full(4, 0.5), case.dense_A, case.rows_k).points
    weights = points @ logits
    found = backend.value(backend.law(case), "marginal_log_prob")
    for i, u in np.ndindex(4, 2):
        hits = weights[points[:, i] == u]
        expected = special.logsumexp(hits) - special.logsumexp(weights) if hits.size else -np.inf
        assert found[i, u] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@each_law(
    select("poisson-margins", "poisson-mixed", "bernoulli-ones", "bernoulli-signed")
    + select("bernoulli-outer", "categorical-logits", "poisson-outer"),
    select("bernoulli-outer"),
)
def test_single_precision(backend, case):
    low = backend.law(case, dtype="float32")
    high = backend.law(case)
    x = backend.draws(low, 0, (5,))
    expected_type = "float32" if backend.count_dtype == "float64" else backend.count_dtype
    assert x.dtype == expected_type or np.issubdtype(x.dtype, np.integer)
    values = backend.array(x, "float32") if expected_type == "float32" else backend.counts(x)
    found = backend.numpy(low.log_prob(values))
    assert found.dtype == np.float32
    expected = backend.numpy(high.log_prob(backend.counts(x)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        backend.value(low, "mean"), backend.value(high, "mean"), rtol=1e-4, atol=1e-5
    )


@each_backend
def test_large_subsets_in_single_precision(backend, rng):
    logits = 2 * rng.normal(size=500)
    case = DiscreteCase("", BERNOULLI, {"logits": logits}, np.ones(500), np.array(60))
    low, high = backend.law(case, dtype="float32"), backend.law(case)
    np.testing.assert_allclose(backend.value(low, "mean"), backend.value(high, "mean"), atol=1e-5)
    assert np.all(backend.draws(low, 0, (20,)).sum(-1) == 60)


@each_backend
@pytest.mark.parametrize("law, params", [
    (POISSON, {"rate": np.ones((0, 4))}), (BERNOULLI, {"probs": np.full((0, 4), 0.5)}),
    (CATEGORICAL, {"probs": np.full((0, 4, 3), 1 / 3)}),
], ids=["poisson", "bernoulli", "categorical"])  # fmt: skip
@pytest.mark.parametrize("A", [np.ones((1, 4)), np.array([[1, 1, 0, 0], [0, 1, 1, 2]])])
def test_empty_batch(backend, law, params, A):
    found = backend.law(DiscreteCase("", law, params, A, np.full(len(A), 2)))
    x = backend.draws(found, 0, (3,))
    assert x.shape == (3, 0, 4)
    assert backend.numpy(found.log_prob(backend.counts(x))).shape == (3, 0)
    assert backend.value(found, "mean").shape == (0, 4)


@each_backend
def test_no_rows_is_the_base_law(backend, rng):
    rate = rng.gamma(2.0, 2.0, 5)
    law = backend.law(DiscreteCase("", POISSON, {"rate": rate}, np.zeros((0, 5)), np.zeros(0)))
    assert law.rank == 0
    x = backend.draws(law, 0, (6,))
    found = backend.numpy(law.log_prob(backend.counts(x)))
    np.testing.assert_allclose(found, stats.poisson.logpmf(x, rate).sum(-1), rtol=1e-10)
    assert_close(backend.value(law, "mean"), rate, 1e-12)
    assert_close(backend.value(law, "constraint_log_prob"), 0.0, 1e-12)


@each_backend
def test_many_groups(backend, rng):
    """10,000 ragged groups in one call, each a multinomial."""
    index = rng.integers(0, 10_000, 30_000)
    rate = rng.gamma(2.0, 2.0, 30_000)
    x = rng.poisson(rate)
    k = np.bincount(index, x, 10_000)
    case = DiscreteCase("", POISSON, {"rate": rate}, Groups(index, 10_000), k)
    law = backend.law(case)
    total = np.bincount(index, rate, 10_000)
    expected = stats.poisson.logpmf(x, rate).sum() - stats.poisson.logpmf(k, total).sum()
    assert backend.numpy(law.log_prob(backend.counts(x))) == pytest.approx(expected, rel=1e-10)
    draw = backend.draws(law, 0)
    np.testing.assert_array_equal(np.bincount(index, draw, 10_000), k)


@each_backend
def test_groups_of_very_different_sizes(backend, rng):
    """One group of 20,000 beside 20,000 of one: no layout of groups times the largest."""
    index = np.concatenate([np.zeros(20_000, int), 1 + np.arange(20_000)])
    x = rng.integers(0, 2, 40_000)
    k = np.bincount(index, x, 20_001)
    poisson = DiscreteCase("", POISSON, {"rate": np.ones(40_000)}, Groups(index, 20_001), k)
    draw = backend.draws(backend.law(poisson), 0)
    np.testing.assert_array_equal(np.bincount(index, draw, 20_001), k)
