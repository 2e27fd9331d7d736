"""A Student-t law for each group: a product of conditional laws, each as SciPy has it."""

import numpy as np
import pytest
from scipy import stats

from constrained_core import ConstraintError
from tests import oracles
from tests.adapters import BACKENDS, assert_close, each_backend
from tests.chance import assert_likely, of_means
from tests.student_groups import groups_of

TIGHT = 1e-11
INDEX = np.array([0, 0, 3, 0, 1, 1, 2, 3, 1])  # group 2 is one point, 3 is in no row, 4 is empty
WEIGHTS = np.array([1.0, 2, 0, -1, 0.5, 1, 3, 0, -4])
K = np.array([0.7, -0.3, 1.2, 0, 0])
N, M = len(INDEX), len(K)
LOC = np.array([0.4, -1.1, 0.2, 0.9, -0.3, 0.0, 1.3, -0.6, 0.5])
SCALE = np.array([0.6, 1.7, 1.0, 0.8, 1.9, 0.5, 1.2, 1.4, 0.7])
DF = 3.5


def groups(df=DF, loc=LOC, scale=SCALE, k=K):
    return groups_of(INDEX, WEIGHTS, k, df, loc, scale)


def build(backend, dtype="float64", df=DF, loc=LOC, scale=SCALE, k=K, **options):
    arrays = {"loc": loc, "scale": scale, "k": k, "df": df}
    arrays = {
        name: backend.array(value, dtype) if isinstance(value, np.ndarray | float) else value
        for name, value in arrays.items()
    }
    A = backend.library.GroupSum(INDEX, M, weights=WEIGHTS)
    law = backend.library.ConstrainedMultivariateStudentT
    return law(A=A, per_group=True, **arrays, **options)


def points(count=7):
    """On the law, far out too."""
    x = LOC + 5 * np.random.default_rng(11).standard_t(1.5, size=(count, N))
    for group in groups():
        inside, row = group.inside, WEIGHTS[group.inside]
        if row.any():
            gap = K[INDEX[inside[0]]] - x[:, inside] @ row
            x[:, inside] += gap[:, None] * row / (row @ row)
    return x


@each_backend
def test_density_and_evidence(backend):
    law, x = build(backend), points()
    assert_close(backend.log_prob(law, x), sum(g.log_prob(x) for g in groups()), TIGHT)
    expected = np.array(sum(group.evidence for group in groups()))
    assert_close(backend.value(law, "constraint_log_prob"), expected, TIGHT)
    assert (backend.log_prob(build(backend, validate_args=False), x + 1) == -np.inf).all()


@each_backend
def test_a_determined_variable_varies_not_where_others_have_no_variance(backend):
    law = build(backend, df=0.5)
    variance, covariance = backend.value(law, "variance"), backend.value(law, "covariance")
    assert variance[6] == 0 and np.isinf(variance[:2]).all()
    assert (covariance[6] == 0).all() and (covariance[:, 6] == 0).all()


@each_backend
def test_moments(backend):
    law = build(backend)
    mean, covariance = np.zeros(N), np.zeros((N, N))
    for group in groups():
        mean[group.inside] = group.mean
        covariance[np.ix_(group.inside, group.inside)] = group.covariance
    assert_close(backend.value(law, "mean"), mean, TIGHT)
    assert_close(backend.value(law, "covariance"), covariance, TIGHT)
    assert_close(backend.value(law, "variance"), np.diag(covariance), TIGHT)
    entropy = np.array(sum(group.entropy for group in groups()))
    assert_close(backend.value(law, "entropy"), entropy, 1e-9)


@each_backend
def test_moments_that_do_not_exist(backend):
    """One degree of freedom more in a row than in none."""
    low, lower = (backend.value(build(backend, df=df), "mean") for df in (0.7, 1.5))
    in_row = np.isin(INDEX, [0, 1, 2])
    np.testing.assert_array_equal(np.isnan(low), ~in_row)
    assert np.isfinite(lower).all()
    variance = backend.value(build(backend, df=1.5), "variance")
    np.testing.assert_array_equal(np.isinf(variance), ~in_row)


@each_backend
def test_draws(backend):
    """In each group the law of the radius is F, and radii of two groups are independent."""
    x = backend.draws(build(backend), seed=3, shape=(20_000,))
    ranks = []
    for group in groups():
        inside = x[:, group.inside]
        if group.law is None:
            assert_close(inside, np.full_like(inside, K[2] / WEIGHTS[6]), TIGHT)
            continue
        white = np.linalg.cholesky(np.linalg.inv(group.law.shape))
        radius = np.square(((inside - group.mean) @ group.basis) @ white).mean(-1)
        ranks.append(stats.f(len(white), group.df).cdf(radius))
    normal = stats.norm.ppf(np.stack(ranks))
    products = np.stack([normal[0] * normal[1], normal[1] * normal[2]], -1)
    fits = [stats.kstest(rank, "uniform").pvalue for rank in ranks]
    assert_likely(fits, of_means(products, 0.0))
    rows = np.stack([np.bincount(INDEX, WEIGHTS * row, minlength=M) for row in x[:50]])
    np.testing.assert_allclose(rows, np.broadcast_to(K, rows.shape), atol=1e-12)


@each_backend
@pytest.mark.parametrize("name", ["df", "loc", "scale", "k"])
def test_gradients(backend, name, rng):
    at = {"df": np.array(DF), "loc": LOC, "scale": SCALE, "k": K}[name]
    x, direction = points(1)[0], rng.normal(size=np.shape(at))
    if name == "k":  # along which x moves too
        direction = np.array([0.4, -0.7, 0.0, 0, 0])
    shift = WEIGHTS * (direction / np.array([6, 17.25, 9, 1, 1]))[INDEX] if name == "k" else 0.0

    def total(arrays):
        law = build(backend, **{name: arrays[name]})
        return law.log_prob(arrays["x"]) + law.entropy() + law.constraint_log_prob()

    found = backend.gradients(total, {name: at, "x": x})
    slope = np.sum(found[name] * direction) + np.sum(found["x"] * shift)

    def oracle(t):
        laws = groups(**{name: at + t * direction})
        score = sum(group.log_prob((x + t * shift)[None])[0] for group in laws)
        return score + sum(group.entropy + group.evidence for group in laws)

    assert slope == pytest.approx(oracles.directional_derivative(oracle), rel=1e-6, abs=1e-6)


@each_backend
def test_batches_and_single_precision(backend):
    k = np.stack([K, 2 * K])
    law = build(backend, k=k)
    assert tuple(law.batch_shape) == (2,)
    alone = [build(backend, k=row) for row in k]
    for name in ("mean", "variance", "entropy"):
        expected = np.stack([backend.value(one, name) for one in alone])
        assert_close(backend.value(law, name), expected, TIGHT)
    x = backend.draws(law, seed=1, shape=(4,))
    found = backend.log_prob(law, x)
    expected = np.stack([backend.log_prob(a, x[:, i]) for i, a in enumerate(alone)], -1)
    assert_close(found, expected, TIGHT)
    expanded = backend.numpy(law.expand((4, 2)).log_prob(backend.array(x)))
    assert_close(expanded, found, TIGHT)
    single = build(backend, "float32")
    x = points().astype(np.float32)
    found = backend.log_prob(single, x, "float32")
    assert found.dtype == np.float32
    expected = sum(group.log_prob(x.astype(float)) for group in groups())
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@each_backend
def test_one_group_is_the_law_without_it(backend):
    one = backend.library.GroupSum(np.zeros(N, int), 1)
    arguments = {"loc": backend.array(LOC), "scale": backend.array(SCALE), "A": one}
    arguments |= {"df": backend.array(DF), "k": backend.array(np.array([0.3]))}
    make = backend.library.ConstrainedMultivariateStudentT
    law, same = make(**arguments, per_group=True), make(**arguments)
    x = backend.draws(same, seed=0, shape=(3,))
    assert_close(backend.log_prob(law, x), backend.log_prob(same, x), TIGHT)
    for name in ("mean", "variance", "covariance", "entropy", "constraint_log_prob"):
        assert_close(backend.value(law, name), backend.value(same, name), TIGHT)


@each_backend
def test_what_it_needs(backend):
    make = backend.library.ConstrainedMultivariateStudentT
    loc, scale = backend.array(LOC), backend.array(SCALE)
    groups = backend.library.GroupSum(INDEX, M)
    tril = backend.array(np.eye(N))
    with pytest.raises(ConstraintError, match=r"per_group.*GroupSum.*scale_tril"):
        make(3.0, loc, tril, groups, backend.array(K), per_group=True)
    with pytest.raises(ConstraintError, match=r"per_group.*GroupSum"):
        make(3.0, loc, A=np.ones(N), k=1.0, scale=scale, per_group=True)
    with pytest.raises(NotImplementedError, match="base_dist"):
        _ = build(backend).base_dist


@pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")
def test_backends_agree():
    x = points()
    torch, jax = (backend.log_prob(build(backend), x) for backend in BACKENDS)
    assert_close(torch, jax, 1e-12)
