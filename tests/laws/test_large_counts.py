"""Poisson laws of large counts: digits that plain terms x log x would cancel."""

from importlib import import_module

import numpy as np
import pytest
from scipy import stats

from constrained_core import ConstraintError
from tests.adapters import BACKENDS, assert_close, each_backend, each_law, each_quick_backend
from tests.cases import Groups
from tests.discrete_cases import CASES, POISSON, DiscreteCase, select

RELATIVE = 1e-5
"""Ten times better than what is promised in single precision."""

COUNTS = [0, 1, 2, 15, 16, 17, 100, 12_345, 10**6, 10**7]
MEANS = [1e-10, 0.3, 1.0, 15.7, 16.0, 99.0, 12_300.0, 1e6, 1.001e7]
DEPARTMENTS = np.array(
    [[512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391],
     [138, 279, 131, 244], [53, 138, 94, 299], [22, 351, 24, 317]]
)  # fmt: skip
"""Two by two tables: applicants to Berkeley in 1973, by sex and admission (Bickel et al. 1975)."""
TABLE = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])


def module(backend, name):
    return import_module(f"{backend.package}.{name}")


@each_backend
@pytest.mark.parametrize("dtype, relative", [("float64", 1e-13), ("float32", 2e-6)])
def test_probabilities(backend, dtype, relative):
    """Against 40 digits, relative to the value and to what rounding the mean does to it."""
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 40
    mean, count = (part.ravel() for part in np.meshgrid(np.array(MEANS, dtype), COUNTS))
    log_poisson = module(backend, "kernels.arrays.poisson_pmf").log_poisson
    found = backend.numpy(log_poisson(backend.array(count, dtype), backend.array(mean, dtype)))
    pairs = [(int(x), mp.mpf(float(m))) for x, m in zip(count, mean, strict=True)]
    exact = np.array([float(x * mp.log(m) - m - mp.loggamma(x + 1)) for x, m in pairs])
    scale = np.abs(exact) + np.abs(count - mean.astype(float)) + 1
    assert (np.abs(found - exact) <= relative * scale).all()


@each_backend
def test_probabilities_of_no_rate(backend):
    log_poisson = module(backend, "kernels.arrays.poisson_pmf").log_poisson
    found = log_poisson(backend.array([0, 1, 15, 16, 10**6]), backend.array(np.zeros(5)))
    assert backend.numpy(found).tolist() == [0, *[-np.inf] * 4]


@each_backend
@pytest.mark.parametrize("total", [10**3, 10**4, 10**5, 10**6])
def test_sums_in_single_precision(backend, total):
    rng = np.random.default_rng(0)
    rate = np.float32(rng.gamma(2.0, 1.0, 10) * total / 20)
    x = rng.multinomial(total, rate / rate.sum(dtype=float))
    law = backend.law(
        DiscreteCase("", POISSON, {"rate": rate}, np.ones(10, int), np.array(total)), "float32"
    )
    exact = stats.multinomial(total, rate.astype(float) / rate.sum(dtype=float)).logpmf(x)
    found = backend.log_prob(law, x, "float32")
    assert found.dtype == np.float32 and abs(found / exact - 1) < 3 * RELATIVE
    event = stats.poisson(rate.sum(dtype=float)).logpmf(total)
    assert abs(backend.value(law, "constraint_log_prob") / event - 1) < 3 * RELATIVE


@each_backend
def test_groups_and_free_variables_in_single_precision(backend):
    rng = np.random.default_rng(1)
    groups = Groups(np.array([0, 0, 0, 1, 1, 2]), 3)
    rate = np.float32([3e4, 5e3, 20.0, 1e5, 2e5, 7.0])
    x = rng.poisson(rate)
    params, k = {"rate": rate}, np.array([x[:3].sum(), x[3:5].sum(), x[5]])
    law = backend.law(DiscreteCase("", POISSON, params, groups, k), "float32")
    high = backend.law(DiscreteCase("", POISSON, params, groups, k))
    assert_relative(backend, law, high, x)
    rows = np.array([[1, 1, 1, 0, 0, 0]])
    law = backend.law(DiscreteCase("", POISSON, params, rows, k[:1]), "float32")
    high = backend.law(DiscreteCase("", POISSON, params, rows, k[:1]))
    assert_relative(backend, law, high, x)


@each_quick_backend
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_tables_in_single_precision(backend, scale):
    """Six tables with given margins, near their rates and far from them."""
    x = DEPARTMENTS.ravel()
    A = np.kron(np.eye(6, dtype=int), TABLE)
    case = DiscreteCase("", POISSON, {"rate": np.float32(scale * (x + 0.5))}, A, A @ x)
    assert_relative(backend, backend.law(case, "float32"), backend.law(case), x)


AVERAGES = [("float64", 1e-11), ("float32", 2e-5)]


@each_backend
@pytest.mark.parametrize("dtype, relative", AVERAGES)
@pytest.mark.parametrize("total", [5, 1000, 20_000])
def test_averages_given_a_sum(backend, total, dtype, relative):
    """Entropies against 30 digits and divergences in closed form: terms of theirs are a thousand
    times as large, and so were rounding errors of probabilities times these."""
    first, second = (np.array(p, dtype) for p in ([1, 2.5, 3, 3.5], [1.01, 2.49, 3, 3.5]))
    p, q = (rate.astype(float) / rate.astype(float).sum() for rate in (first, second))
    ones, k = np.ones(4, int), np.array(total)
    laws = [
        backend.law(DiscreteCase("", POISSON, {"rate": rate}, ones, k), dtype)
        for rate in (first, second, np.array(total, dtype) * first)
    ]
    for law in laws[::2]:
        assert abs(backend.value(law, "entropy") / multinomial_entropy(total, p) - 1) < relative
        assert abs(np.exp(backend.value(law, "marginal_log_prob")).sum(-1) - 1).max() < relative
    exact = total * (p * np.log(p / q)).sum()
    # A rounding of the weights changes it by so much, or one of the logarithms of few.
    change = abs(p * np.log(p)).sum() if total <= 16 else abs(p - q).sum()
    allowed = relative * exact + 4 * np.finfo(dtype).eps * total * change
    for law in laws[::2]:
        assert abs(backend.numpy(backend.kl(law, laws[1])) - exact) < allowed


def multinomial_entropy(total: int, p: np.ndarray) -> float:
    """By the binomial law of each count, within 14 standard deviations."""
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 30
    found = -mp.loggamma(total + 1) - total * mp.fsum(mp.mpf(s) * mp.log(mp.mpf(s)) for s in p)
    for share in map(mp.mpf, p):
        reach = 14 * mp.sqrt(total * share) + 14
        value, last = max(0, int(total * share - reach)), min(total, int(total * share + reach))
        choices = mp.loggamma(total + 1) - mp.loggamma(value + 1) - mp.loggamma(total - value + 1)
        chance = mp.exp(choices + value * mp.log(share) + (total - value) * mp.log(1 - share))
        log_factorial, odds = mp.loggamma(value + 1), share / (1 - share)
        for count in range(value, last + 1):
            found += chance * log_factorial
            chance *= odds * (total - count) / (count + 1)
            log_factorial += mp.log(count + 1)
    return float(found)


@each_backend
@pytest.mark.parametrize("dtype, relative", AVERAGES)
@pytest.mark.parametrize("is_product", [True, False])
def test_averages_of_a_table(backend, is_product, dtype, relative):
    """Against all points; of a table with independent rows and columns, and one without."""
    x = DEPARTMENTS[0]
    rows, columns = np.array([1.0, 2.0]), np.array([4.0, 3.0])
    rate = np.outer(rows, columns).ravel() if is_product else x + 0.5
    other = rate * np.array([1.01, 1.0, 1.0, 1.0])
    params = ({"rate": r.astype(dtype).astype(float)} for r in (rate, other))
    cases = [DiscreteCase("", POISSON, each, TABLE, TABLE @ x) for each in params]
    first, second = (backend.law(case, dtype) for case in cases)
    p, q = (case.problems[()] for case in cases)
    assert abs(backend.value(first, "entropy") / p.entropy - 1) < relative
    found = backend.numpy(backend.kl(first, second))
    oracle = 4 * np.finfo(float).eps * x.sum()
    allowed = relative * p.divergence(q) + np.finfo(dtype).eps * x.sum() / 10 + oracle
    assert abs(found - p.divergence(q)) < allowed


@each_backend
@pytest.mark.parametrize("total", [300, 1000, 2000])
def test_independent_tables_in_single_precision(backend, total):
    """Factorials of the total lose more digits than those of the cells."""
    row, column = total * 2 // 5, total * 11 // 20
    x = row * column // total + np.arange(-2, 3)
    values = np.stack([x, row - x, column - x, total - row - column + x], 1)
    params, k = {"rate": np.float32([2, 3, 4, 6])}, TABLE @ values[0]
    law = backend.law(DiscreteCase("", POISSON, params, TABLE, k), "float32")
    exact = stats.hypergeom(total, row, column).logpmf(x)
    found = backend.log_prob(law, values, "float32")
    assert (abs(found / exact - 1) < 3 * RELATIVE).all()


def assert_relative(backend, law, high, x):
    """The law in single precision against the same in double."""
    found, exact = backend.log_prob(law, x, "float32"), backend.log_prob(high, x)
    assert abs(found / exact - 1) < RELATIVE
    pair = [backend.value(each, "constraint_log_prob") for each in (law, high)]
    assert abs(pair[0] / pair[1] - 1) < RELATIVE
    np.testing.assert_allclose(
        backend.value(law, "mean"), backend.value(high, "mean"), rtol=1e-4, atol=1e-3
    )


CLOSED = tuple(case for case in CASES if case.law == POISSON)


@each_law(CLOSED, select("poisson-ones"))
def test_both_ways_agree(backend, case, monkeypatch):
    """In double precision, where either is right: values, moments, tables and gradients."""
    plain, mass = answers(backend, case), module(backend, "kernels.fiber.poisson_mass")
    chosen = module(backend, "distributions.poisson")
    for name in ("mass_for", "mass_of_averages"):
        monkeypatch.setattr(chosen, name, lambda *_: mass.NormalizedMass())
    normalized = answers(backend, case)
    for name, expected in plain.items():
        np.testing.assert_allclose(normalized[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


def answers(backend, case):
    law = backend.law(case)
    x = backend.draws(law, 0, (2,))
    found = {name: backend.value(law, name) for name in ("constraint_log_prob", "mean", "variance")}
    found["log_prob"] = backend.log_prob(law, x)
    if (law.residual(backend.array(x)) == 0).all() and case.name != "poisson-mixed":
        found |= {name: backend.value(law, name) for name in ("entropy", "marginal_log_prob")}
        other = backend.law(case, rate=backend.array(2 * case.params["rate"] + 1))
        found["divergence"] = backend.numpy(backend.kl(law, other))

    def score(params):
        made = backend.law(case, **params)
        return made.constraint_log_prob().sum() + made.log_prob(backend.counts(x)).sum()

    found["slope"] = backend.gradients(score, case.params)["rate"]
    return found


def test_backends_agree():
    if len(BACKENDS) < 2:
        pytest.skip("one backend")
    x = DEPARTMENTS[0] * 100
    case = DiscreteCase("", POISSON, {"rate": 90.0 * (DEPARTMENTS[0] + 1)}, np.ones(4, int),
                        np.array(x.sum() * 20))  # fmt: skip
    values = [backend.log_prob(backend.law(case), x * 20) for backend in BACKENDS]
    assert_close(*values, 1e-12)


@each_backend
def test_counts_that_a_dtype_does_not_hold(backend):
    """Single precision holds whole numbers up to 2**24; draws of more would miss the sum."""

    def law(total, dtype, **options):
        case = DiscreteCase("", POISSON, {"rate": np.ones(3)}, np.ones(3, int), np.array(total))
        return backend.law(case, dtype, **options)

    law(2**24, "float32")
    law(2**24, "float32", k_max=2**30)  # planned for more
    with pytest.raises(ConstraintError, match="double precision"):
        law(2**24 + 2, "float32", k_max=2**30)
    with pytest.raises(ConstraintError, match=r"at most 2\*\*24.*double precision"):
        law(2**24 + 2, "float32")
    draw = backend.numpy(backend.sample(law(2**24 + 2, "float64"), 0))
    assert draw.sum() == 2**24 + 2


@each_backend
@pytest.mark.parametrize("k", [2**53 + 1, 2**54, 2**63 - 1, 2**63, 2**70, np.uint64(2**64 - 1)])
def test_sides_that_no_float_holds(backend, k):
    """2^63 - 1, which some data have where nothing is known, drew zeros; others raw errors."""
    with pytest.raises(ConstraintError, match=r"k: (expected|a discrete law)"):
        backend.library.ConstrainedPoisson(backend.array(np.ones(3)), np.ones(3, int), k)
