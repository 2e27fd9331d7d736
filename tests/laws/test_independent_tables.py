"""Rates that are products, given all row and column sums of a table: SciPy's ``random_table``."""

import numpy as np
import pytest
from scipy import stats

from constrained_core.errors import InfeasibleConstraintError, IntractableConstraintError
from tests.adapters import assert_close, each_backend, each_quick_backend
from tests.discrete_cases import POISSON, PRODUCT, SHUFFLED, DiscreteCase
from tests.discrete_oracles import DiscreteProblem
from tests.finite_differences import slope_at
from tests.laws.test_structural_zeros import plan_of, table

TIGHT = 1e-11
ROWS, COLUMNS = np.array([150, 40, 110, 100]), np.array([80, 130, 90, 100])
FACTORS = np.array([0.3, 2.0, 1.1, 0.7])[:, None] * np.array([1.5, 0.2, 4.0, 1.0])


def case_of(rate=FACTORS, rows=ROWS, columns=COLUMNS, A=None):
    shape = len(rows), len(columns)
    rate = np.broadcast_to(rate, (*rate.shape[:-2], *shape))
    A = table(*shape) if A is None else A
    k = np.concatenate([rows, columns])
    return DiscreteCase("", POISSON, {"rate": rate.reshape(*rate.shape[:-2], -1)}, A, k)


@each_quick_backend
def test_a_table_of_four_by_four(backend):
    """Total 400, no budget: probabilities, moments, marginals to the far tail, and draws."""
    law = backend.law(case_of(), max_transitions=1)
    assert plan_of(law).trellis is None and len(plan_of(law).tables) == 1
    scipy = stats.random_table(ROWS, COLUMNS)
    draws = backend.draws(law, 0, (400,)).reshape(-1, 4, 4)
    np.testing.assert_array_equal(draws.sum(-1), np.tile(ROWS, (400, 1)))
    np.testing.assert_array_equal(draws.sum(-2), np.tile(COLUMNS, (400, 1)))
    x = np.concatenate([draws[:20], scipy.rvs(20, random_state=1)])
    found = backend.numpy(law.log_prob(backend.counts(x.reshape(-1, 16))))
    np.testing.assert_allclose(found, scipy.logpmf(x), rtol=1e-10)
    cells = stats.hypergeom(400, ROWS[:, None], COLUMNS)
    assert_close(backend.value(law, "mean"), cells.mean().ravel(), 1e-12)
    assert_close(backend.value(law, "variance"), cells.var().ravel(), 1e-12)
    value = np.arange(plan_of(law).upper.max() + 1)
    expected = stats.hypergeom(400, ROWS[:, None, None], COLUMNS[:, None]).logpmf(value)
    table_of = backend.value(law, "marginal_log_prob").reshape(4, 4, -1)
    np.testing.assert_allclose(table_of, expected, rtol=1e-9, atol=1e-9)
    for i, j in np.ndindex(4, 4):  # one in a million each
        counts = np.bincount(draws[:, i, j].astype(int), minlength=len(value))
        assert binned_p(counts, 400 * np.exp(expected[i, j])) > 1e-6


def binned_p(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square, neighbours taken together until ten are expected."""
    group = (np.cumsum(expected) // 10).astype(int)
    counts, expected = (np.bincount(group, part) for part in (counts, expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    last = max(len(counts) - 2, 0)  # the last one may be small
    starts = np.arange(last + 1)
    counts, expected = (np.add.reduceat(part, starts) for part in (counts, expected))
    freedom = max(len(counts) - 1, 1)
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), freedom))


@each_quick_backend
def test_the_evidence(backend):
    """Against the dynamic programme, which knows nothing of products: one rate is off by 1e-9."""
    rows, columns = np.array([3, 4, 2]), np.array([2, 5, 2])
    rate = np.array([0.5, 1.0, 3.0])[:, None] * np.array([1.0, 2.0, 0.3])
    off = rate.copy()
    off[0, 0] *= 1 + 1e-9
    laws = [backend.law(case_of(each, rows, columns)) for each in (rate, off)]
    assert [plan_of(law).trellis is None for law in laws] == [True, False]
    for name in ("constraint_log_prob", "entropy", "mean", "variance", "covariance"):
        assert_close(*(backend.value(law, name) for law in laws), 1e-7)
    assert backend.numpy(backend.kl(*laws)) == pytest.approx(0, abs=1e-12)
    problem = DiscreteProblem("poisson", rate.ravel(), table(3, 3), np.append(rows, columns))
    assert_close(backend.value(laws[0], "constraint_log_prob"), problem.log_partition, TIGHT)
    assert_close(backend.value(laws[0], "covariance"), problem.covariance, TIGHT)
    points = backend.numpy(laws[0].enumerate_support())
    np.testing.assert_array_equal(points, problem.points)


@each_quick_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_floats_are_products(backend, dtype):
    """Rounded ones, of any size; also exponentials of sums."""
    rng = np.random.default_rng(3)
    for scale in (1e-3, 1.0, 1e4):
        rows, columns = (rng.gamma(1.0, size=4).astype(dtype) for _ in range(2))
        rate = np.asarray(rows[:, None] * columns * np.asarray(scale, dtype))
        effects = rng.normal(size=(4, 1)).astype(dtype) + rng.normal(size=4).astype(dtype)
        for each in (rate, np.exp(effects)):
            assert each.dtype == dtype
            law = backend.law(case_of(each), dtype)
            assert plan_of(law).trellis is None
            x = backend.draws(law, 0, (3,))
            expected = stats.random_table(ROWS, COLUMNS).logpmf(x.reshape(-1, 4, 4))
            found = backend.numpy(law.log_prob(backend.counts(x)))
            tolerance = 1e-10 if dtype == "float64" else 1e-4
            np.testing.assert_allclose(found, expected, rtol=tolerance)


@each_backend
def test_what_is_no_product_is_not_taken_for_one(backend):
    rate = FACTORS.copy()
    rate[2, 1] *= 1 + 1e-6
    case, rest = case_of(FACTORS), [1, 2, 3, 5, 6, 7]  # of two margins, only the sums follow
    partial = DiscreteCase("", POISSON, case.params, case.A[rest], case.k[rest])
    for each in (case_of(rate), partial):
        with pytest.raises(IntractableConstraintError):
            backend.law(each, max_transitions=1000)
    batch = np.stack([FACTORS, rate])
    with pytest.raises(IntractableConstraintError):
        backend.law(case_of(batch), max_transitions=1000)
    assert backend.law(case_of(np.stack([FACTORS, 3 * FACTORS])), max_transitions=1)


@each_backend
def test_a_margin_that_follows_must_not_be_negative(backend):
    """Of the shuffled case: more in one row and two columns than there are in all."""
    case = DiscreteCase("", POISSON, {"rate": PRODUCT}, SHUFFLED, np.array([6, 5, 7, 5, 8]))
    with pytest.raises(InfeasibleConstraintError):
        backend.law(case)


@each_quick_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_totals(backend, dtype):
    """A million: draws by windows of the law, and single precision."""
    rows = np.array([400_000, 350_000, 250_000])
    columns = np.array([500_000, 300_000, 200_000])
    law = backend.law(case_of(np.ones((3, 3)), rows, columns), dtype)
    x = backend.draws(law, 0, (200,)).reshape(-1, 3, 3)
    np.testing.assert_array_equal(x.sum(-1), np.tile(rows, (200, 1)))
    np.testing.assert_array_equal(x.sum(-2), np.tile(columns, (200, 1)))
    cells = stats.hypergeom(1_000_000, rows[:, None], columns)
    gap = (x.mean(0) - cells.mean()) / (cells.std() / np.sqrt(200))
    assert np.abs(gap).max() < 5
    ratio = x.var(0, ddof=1) / cells.var() * 199  # chi-square of 199 degrees of freedom
    assert (stats.chi2.ppf(1e-7, 199) < ratio).all()
    assert (ratio < stats.chi2.isf(1e-7, 199)).all()
    expected = stats.random_table(rows, columns).logpmf(x.astype(int))
    found = backend.numpy(law.log_prob(backend.counts(x.reshape(-1, 9))))
    tolerance = 1e-9 if dtype == "float64" else 2e-4  # deviances of a few units, of counts of 1e5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=100 * tolerance)


@each_quick_backend
@pytest.mark.parametrize("rows, columns", [([0, 0], [0, 0]), ([1, 0], [0, 1]), ([2, 0], [1, 1]),
                                           ([1, 1], [1, 1]), ([5, 0], [0, 5])])  # fmt: skip
def test_tables_with_hardly_a_point(backend, rows, columns):
    A, k = table(2, 2), np.array([*rows, *columns])
    rate = np.array([2.0, 1.0, 4.0, 2.0])
    law = backend.law(DiscreteCase("", POISSON, {"rate": rate}, A, k))
    problem = DiscreteProblem("poisson", rate, A, k)
    assert plan_of(law).tables
    for name in ("mean", "variance", "covariance", "entropy"):
        assert_close(backend.value(law, name), getattr(problem, name), TIGHT)
    assert_close(backend.value(law, "constraint_log_prob"), problem.log_partition, TIGHT)
    found = backend.numpy(law.log_prob(backend.counts(problem.points)))
    np.testing.assert_allclose(found, np.log(problem.pmf), atol=TIGHT)
    draws = backend.draws(law, 0, (10,))
    np.testing.assert_array_equal(draws @ A.T, np.tile(k, (10, 1)))


@each_quick_backend
def test_derivatives_of_covariances(backend):
    """Out of the products as well: third cumulants, in closed form."""
    weights = np.random.default_rng(1).normal(size=(6, 6))
    A, k = table(2, 3), np.array([3, 4, 2, 3, 2])
    rate = np.outer([1.0, 2.0], [0.5, 1.0, 0.2]).ravel()
    w = backend.array(weights)

    def ours(at):
        law = backend.law(DiscreteCase("", POISSON, {}, A, k), **at)
        return (law.covariance * w).sum()

    found = backend.gradients(ours, {"rate": rate})["rate"]
    expected = slope_at(
        lambda rate: (DiscreteProblem("poisson", rate, A, k).covariance * weights).sum(), rate
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
