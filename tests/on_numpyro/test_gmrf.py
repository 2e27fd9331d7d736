"""``ConstrainedGMRF``: the law of a sparse precision is that of its dense form."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.experimental.sparse import BCOO, BCSR
from numpyro.distributions import kl_divergence
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density
from scipy import sparse, stats

from numpyro_constrained import (
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstraintError,
    ParameterError,
    SparseMatrix,
    auto_reparam,
    constrain,
)
from tests.intrinsic_fields import INTRINSIC_FIELDS, SINGULAR
from tests.on_numpyro.models import KEY, assert_close

GENERATOR = np.random.default_rng(20240229)
N = 6
LOC, POINT = GENERATOR.normal(size=(2, N))
STEPS = sparse.csr_array(np.diff(np.eye(N), axis=0))
INTRINSIC = sparse.csr_array(STEPS.T @ STEPS)
ROOT = sparse.csr_array(sparse.vstack([STEPS, 0.7 * sparse.eye_array(N)]))
PROPER = sparse.csr_array(ROOT.T @ ROOT)
A = np.array([[1.0, 1, 1, 1, 1, 1], [0, 1, -1, 0, 0, 0], [1, 2, 0, 1, 1, 1]])
K = A @ POINT
SUM = sparse.csr_array(np.ones((1, N)))
CENTRED = POINT - POINT.mean()

KINDS = {"scipy": sparse.csr_array, "BCOO": BCOO.fromdense, "BCSR": BCSR.fromdense}


def figures(law, other):
    return {
        "log_prob": law.log_prob(POINT),
        "mean": law.mean,
        "variance": law.variance,
        "covariance": law.covariance,
        "entropy": law.entropy(),
        "constraint_log_prob": law.constraint_log_prob(),
        "kl": kl_divergence(law, other),
        "crps": law.crps(LOC),
        "project": law.project(LOC),
        "residual": law.residual(LOC),
        "base": law.base_dist.log_prob(POINT),
    }


@pytest.mark.parametrize("matrix", ["redundant", "no rows"])
def test_same_figures_as_dense(matrix):
    rows = A if matrix == "redundant" else A[:0]
    k = rows @ POINT
    dense = [
        ConstrainedMultivariateNormal(LOC, A=rows, k=k, precision_matrix=s * PROPER.toarray())
        for s in (1, 2)
    ]
    expected = figures(*dense)
    other = ConstrainedGMRF(LOC, 2 * PROPER, rows, k)
    found = figures(ConstrainedGMRF(LOC, PROPER, sparse.csr_array(rows), k), other)
    for name, value in expected.items():
        assert_close(found[name], value, 1e-10)


def test_batches_of_matrices_of_less_than_full_rank():
    """As a dense law where all have one rank; refused where ranks differ."""
    repeated = A[[0, 0, 1]]
    same = np.stack([repeated, 2 * repeated])
    k = same @ POINT
    field, dense = (
        ConstrainedGMRF(LOC, PROPER, same, k),
        ConstrainedMultivariateNormal(LOC, A=same, k=k, precision_matrix=PROPER.toarray()),
    )
    assert_close(field.covariance, dense.covariance, 1e-10)
    assert_close(field.log_prob(POINT), dense.log_prob(POINT), 1e-10)
    assert_close(field.mean, dense.mean, 1e-10)
    zeros = np.stack([np.zeros((1, N)), np.ones((1, N))])
    with pytest.raises(ConstraintError, match=r"one rank.*got ranks \[0, 1\]"):
        ConstrainedGMRF(LOC, PROPER, zeros, np.zeros(1))


def test_divergence_from_a_low_rank_law():
    """As between dense laws of the same covariances, in a batch of them."""
    factor, scale = np.cos(np.arange(2.0 * N)).reshape(N, 2), np.array([[0.5], [1.0]]) * np.ones(N)
    low_rank = ConstrainedLowRankMultivariateNormal(LOC, factor, scale**2, A, K)
    covariance = factor @ factor.T + np.array([np.diag(one**2) for one in scale])
    p = ConstrainedMultivariateNormal(LOC, covariance, A, K)
    field = ConstrainedGMRF(0.0, PROPER, A, K)
    q = ConstrainedMultivariateNormal(0.0, A=A, k=K, precision_matrix=PROPER.toarray())
    assert_close(kl_divergence(low_rank, field), kl_divergence(p, q), 1e-10)
    assert_close(kl_divergence(field, low_rank), kl_divergence(q, p), 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind):
    precision = KINDS[kind](PROPER.toarray())
    expected = ConstrainedMultivariateNormal(LOC, A=A, k=K, precision_matrix=PROPER.toarray())
    for rows in (A, sparse.csr_array(A)):
        law = ConstrainedGMRF(LOC, precision, rows, K)
        assert_close(law.log_prob(POINT), expected.log_prob(POINT), 1e-12)
        assert law.rank == 2


def test_one_row_and_a_point():
    law = ConstrainedGMRF(0.0, INTRINSIC, np.ones(N), 0.0)
    assert_close(
        law.log_prob(CENTRED), ConstrainedGMRF(0.0, INTRINSIC, SUM, [0.0]).log_prob(CENTRED)
    )
    point = ConstrainedGMRF(LOC, PROPER, sparse.eye_array(N), POINT)
    assert_close(point.mean, POINT, 1e-14)
    assert point.log_prob(POINT) == 0 and not point.variance.any()
    single = ConstrainedGMRF(np.zeros(1), sparse.csr_array([[0.0]]), np.ones((1, 1)), [2.0])
    assert_close(single.mean, np.array([2.0]), 1e-15)


def test_an_intrinsic_field():
    """Against SciPy's density of its singular covariance, and the algebra of pseudo-inverses."""
    law = ConstrainedGMRF(0.0, INTRINSIC, SUM, [0.0], precision_root=STEPS)
    covariance = np.linalg.pinv(INTRINSIC.toarray())
    expected = stats.multivariate_normal(np.zeros(N), covariance, allow_singular=True)
    assert_close(law.log_prob(CENTRED), expected.logpdf(CENTRED), 1e-10)
    assert_close(law.covariance, covariance, 1e-10)
    assert_close(law.variance, np.diag(covariance), 1e-10)
    assert_close(law.entropy(), expected.entropy(), 1e-10)
    wider = ConstrainedGMRF(0.0, 0.5 * INTRINSIC, SUM, [0.0])
    assert_close(kl_divergence(law, wider), 0.5 * (N - 1) * (0.5 - 1 - np.log(0.5)), 1e-10)
    assert not hasattr(law, "base_dist")
    for error in (law.constraint_log_prob, lambda: law.base_dist):
        with pytest.raises(ParameterError, match="without the constraint"):
            error()


@pytest.mark.parametrize("root", [STEPS, None], ids=["root", "factor"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_draws(root, dtype):
    precision = SparseMatrix.of(INTRINSIC.astype(dtype))
    root = root if root is None else SparseMatrix.of(root.astype(dtype))
    law = ConstrainedGMRF(np.zeros(N, dtype), precision, SUM, [0.0], precision_root=root)
    draws = law.sample(KEY, (20_000,))
    assert draws.dtype == dtype
    size = np.abs(np.asarray(draws, np.float64)).sum(-1)
    assert (np.abs(np.asarray(draws, np.float64).sum(-1)) <= 4 * np.finfo(dtype).eps * size).all()
    # A quadratic form of all directions: chi-square with n - 1 degrees of freedom each.
    total = float(law._conditional.distance(draws).sum())
    degrees = 20_000 * (N - 1)
    assert abs(total - degrees) < 5 * np.sqrt(2 * degrees)
    covariance = np.linalg.pinv(INTRINSIC.toarray())
    assert np.abs(np.cov(draws.T) - covariance).max() < 6 * np.sqrt(2 / 20_000) * covariance.max()


PATTERN, ROOT_PATTERN = SparseMatrix.of(PROPER), SparseMatrix.of(ROOT)


def summary(loc, values, k, is_sparse):
    if is_sparse:
        law = ConstrainedGMRF(loc, PATTERN.with_values(values), A, k)
    else:
        dense = jnp.zeros((N, N)).at[PATTERN.row, PATTERN.column].set(values)
        covariance = jnp.linalg.inv((dense + dense.T) / 2)
        law = ConstrainedMultivariateNormal(loc, covariance, A, k)
    figure = law.entropy() + (law.variance * POINT).sum() + (law.mean * LOC).sum()
    return law.log_prob(POINT) + figure + law.constraint_log_prob()


def test_gradients():
    # A value that is held while k moves leaves the subspace: laws agree there that know a
    # covariance.
    arguments = tuple(map(jnp.asarray, (LOC, PATTERN.values, K)))
    gradient = jax.jit(jax.grad(summary, (0, 1, 2)), static_argnums=3)
    expected = gradient(*arguments, False)
    assert_close(gradient(*arguments, True), expected, 1e-9)
    direction = (jnp.ones(N), jnp.asarray(PATTERN.values), jnp.zeros(3))
    _, along = jax.jit(partial(jax.jvp, lambda *args: summary(*args, True)))(arguments, direction)
    assert_close(along, sum((a * b).sum() for a, b in zip(expected, direction, strict=True)), 1e-9)


def test_gradients_of_draws():
    """Pathwise: through the values of D and of Q = D'D; against finite differences."""

    def total(tau, alpha):
        root = ROOT_PATTERN.values * np.where(ROOT_PATTERN.row < N - 1, 1.0, 0.0)
        rest = ROOT_PATTERN.values - root
        precision = sparse.csr_array(STEPS.T @ STEPS).toarray()[PATTERN.row, PATTERN.column]
        diagonal = 0.49 * (PATTERN.row == PATTERN.column)
        law = ConstrainedGMRF(
            LOC,
            PATTERN.with_values(tau * precision + alpha * diagonal),
            A,
            K,
            precision_root=ROOT_PATTERN.with_values(jnp.sqrt(tau) * root + jnp.sqrt(alpha) * rest),
        )
        return jnp.sin(law.sample(KEY)).sum()

    found = jax.jit(jax.grad(total, (0, 1)))(1.3, 0.8)
    for i, step in enumerate(1e-5 * np.eye(2)):
        numeric = total(1.3 + step[0], 0.8 + step[1]) - total(1.3 - step[0], 0.8 - step[1])
        assert_close(found[i], numeric / 2e-5, 1e-6)
    values = jnp.asarray(PATTERN.values)
    with pytest.raises(ConstraintError, match="precision_root"):
        jax.grad(lambda v: ConstrainedGMRF(LOC, PATTERN.with_values(v), A, K).sample(KEY).sum())(
            values
        )


def test_batches_and_vmap():
    taus = np.array([1.0, 2.0])
    stacked = PATTERN.with_values(PATTERN.values * taus[:, None])
    law = ConstrainedGMRF(LOC, stacked, A, K)
    one = [ConstrainedGMRF(LOC, tau * PROPER, A, K) for tau in taus]
    assert law.batch_shape == (2,) and law.sample(KEY, (3,)).shape == (3, 2, N)
    for name in ("mean", "variance", "covariance"):
        assert_close(getattr(law, name), np.stack([getattr(each, name) for each in one]), 1e-12)

    def log_prob(tau):
        return ConstrainedGMRF(LOC, PATTERN.with_values(tau * PATTERN.values), A, K).log_prob(POINT)

    expected = np.stack([each.log_prob(POINT) for each in one])
    assert_close(jax.vmap(log_prob)(taus), expected, 1e-12)
    assert np.isnan(jax.jit(jax.vmap(log_prob))(np.array([-1.0, 1.0]))).tolist() == [True, False]


def test_pytree_members():
    law = ConstrainedGMRF(LOC, PROPER, sparse.csr_array(A), K, precision_root=ROOT)

    def evaluate(law):
        return law.log_prob(POINT), law.variance, law.sample(KEY)

    for again in (pickle.loads(pickle.dumps(law)), law.expand(())):
        assert_close(evaluate(again), evaluate(law), 1e-15)
    assert_close(jax.jit(evaluate)(law), evaluate(law), 1e-12)
    assert law.expand((3,)).log_prob(POINT).shape == (3,)
    assert "precision_matrix: (6, 6)" in repr(law)
    shapes = ConstrainedGMRF.infer_shapes((N,), (2, N, N), (3, N), (4, 1, 3))
    assert shapes == ((4, 2), (N,))
    assert_close(law.precision_root.to_dense(), ROOT.toarray(), 1e-15)


def test_noise_and_back():
    law = ConstrainedGMRF(LOC, PROPER, A, K, precision_root=ROOT)._conditional
    x = law.from_base(jnp.asarray(GENERATOR.normal(size=law.base_size)))
    assert_close(law.from_base(law.to_base(x)), x, 1e-10)
    with pytest.raises(ParameterError, match="precision_root"):
        ConstrainedGMRF(LOC, PROPER, A, K)._conditional.to_base(x)


def test_errors():
    islands = sparse.block_diag([INTRINSIC, INTRINSIC])
    with pytest.raises(ParameterError, match="1 direction"):
        ConstrainedGMRF(0.0, islands, np.ones(2 * N), 0.0)
    with pytest.raises(ConstraintError, match="sparse"):
        ConstrainedGMRF(LOC, PROPER.toarray(), A, K)
    with pytest.raises(ParameterError, match="precision_root"):
        ConstrainedGMRF(LOC, PROPER, A, K, precision_root=STEPS)
    with pytest.raises(ConstraintError, match="symmetric"):
        ConstrainedGMRF(LOC, sparse.triu(PROPER), A, K)
    lopsided = PROPER.toarray()
    lopsided[0, 1] = 3
    with pytest.raises(ParameterError, match="symmetric"):
        ConstrainedGMRF(LOC, sparse.csr_array(lopsided), A, K)
    with pytest.raises(ConstraintError, match="columns"):
        ConstrainedGMRF(0.0, islands, A, K)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_car(is_sparse):
    adjacency = np.diag(np.ones(N - 1), 1)
    adjacency = adjacency + adjacency.T
    given = sparse.csr_matrix(adjacency) if is_sparse else adjacency
    base = dist.CAR(LOC, 0.6, 2.0, given, is_sparse=is_sparse)
    law = constrain(base, A, K)
    assert isinstance(law, ConstrainedGMRF)
    dense = ConstrainedMultivariateNormal(
        LOC, A=A, k=K, precision_matrix=2 * (np.diag(adjacency.sum(0)) - 0.6 * adjacency)
    )
    assert_close(law.log_prob(POINT), dense.log_prob(POINT), 1e-12)
    root = law.precision_root.to_dense()
    assert_close(root.T @ root, law.precision_matrix.to_dense(), 1e-12)
    gradient = jax.grad(
        lambda a: constrain(dist.CAR(LOC, a, 2.0, given, is_sparse=is_sparse), A, K).entropy()
    )
    step = 1e-5
    numeric = [
        constrain(dist.CAR(LOC, 0.6 + s, 2.0, given, is_sparse=is_sparse), A, K).entropy()
        for s in (step, -step)
    ]
    assert_close(gradient(0.6), (numeric[0] - numeric[1]) / (2 * step), 1e-7)


@pytest.mark.rank_promotion("allow")  # NumPyro promotes
def test_car_with_loops_and_batches():
    adjacency = np.array([[1.0, 2, 0], [2, 0, 1.0], [0, 1.0, 0]])
    tau, alpha = np.array([1.0, 2.0]), np.array([0.3, -0.4])
    for weights in (adjacency, adjacency - np.diag([1.0, 0, 0])):
        base = dist.CAR(np.zeros(3), alpha, tau, weights)
        law = constrain(base, np.ones(3), 1.0)
        dense = ConstrainedMultivariateNormal(
            np.zeros(3), A=np.ones(3), k=1.0, precision_matrix=base.precision_matrix
        )
        assert_close(law.mean, dense.mean, 1e-12)
        assert_close(law.variance, dense.variance, 1e-12)
        assert (law.precision_root is None) == bool(weights[0, 0])
    single = dist.CAR(np.zeros(3, np.float32), 0.3, 2.0, adjacency)
    assert constrain(single, np.ones(3), 1.0).mean.dtype == np.float32


COUNTS = np.array([3, 1, 4, 1, 5, 9])
INTRINSIC_PATTERN, STEPS_PATTERN = SparseMatrix.of(INTRINSIC), SparseMatrix.of(STEPS)


def besag(is_sparse=True):
    """Poisson counts on an intrinsic field whose precision is learned."""
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    if is_sparse:
        law = ConstrainedGMRF(
            np.zeros(N),
            INTRINSIC_PATTERN.with_values(tau * INTRINSIC_PATTERN.values),
            SUM,
            np.zeros(1),
            precision_root=STEPS_PATTERN.with_values(jnp.sqrt(tau) * STEPS_PATTERN.values),
        )
    else:
        law = ConstrainedMultivariateNormal(
            np.zeros(N),
            A=np.ones((1, N)),
            k=np.zeros(1),
            precision_matrix=tau * INTRINSIC.toarray(),
        )
    x = numpyro.sample("x", law)
    numpyro.sample("y", dist.Poisson(jnp.exp(1.0 + x)).to_event(1), obs=COUNTS)


def test_density_of_a_model():
    def density(tau, is_sparse):
        return log_density(besag, (is_sparse,), {}, {"tau": tau, "x": CENTRED})[0]

    for tau in (0.5, 2.0):
        found, expected = (
            jax.value_and_grad(density)(tau, is_sparse) for is_sparse in (True, False)
        )
        assert_close(found, expected, 1e-9)


def fit(program, num_samples):
    mcmc = MCMC(NUTS(program), num_warmup=150, num_samples=num_samples, progress_bar=False)
    mcmc.run(KEY)
    draws = mcmc.get_samples()
    assert np.abs(draws["x"].sum(-1)).max() < 1e-13
    return np.concatenate([draws["x"], np.log(draws["tau"])[:, None]], -1)


def test_nuts():
    program = numpyro.handlers.reparam(besag, config=auto_reparam)
    draws = fit(program, 150)
    assert np.isfinite(draws).all() and (draws.std(0) > 0).all()
    # The site of the largest count is above that of the smallest.
    assert draws[:, 5].mean() > draws[:, 1].mean()


@pytest.mark.slow
def test_programs_agree():
    """NUTS on the field and on its noise; SVI comes near."""
    programs = besag, numpyro.handlers.reparam(besag, config=auto_reparam)
    runs = [fit(program, 2000) for program in programs]
    errors = [run.std(0) / np.sqrt(300) for run in runs]
    assert (np.abs(runs[0].mean(0) - runs[1].mean(0)) <= 6 * np.hypot(*errors)).all()
    svi = SVI(programs[1], AutoNormal(programs[1]), numpyro.optim.Adam(0.02), Trace_ELBO())
    losses = np.asarray(svi.run(KEY, 600, progress_bar=False).losses)
    assert np.isfinite(losses).all() and losses[-50:].mean() < losses[:50].mean()


def test_a_draw_without_a_root_has_derivatives_in_a_learned_matrix():
    rows = SparseMatrix.of(sparse.csr_array(np.eye(2, N) + np.ones((2, N)) * [[1.0], [0.0]]))

    def drawn(values):
        law = ConstrainedGMRF(jnp.zeros(N), PROPER, rows.with_values(values), jnp.ones(2))
        return (law.sample(jax.random.key(0)) * jnp.arange(N)).sum()

    values, step = jnp.asarray(rows.values), 1e-6
    ends = [[drawn(values.at[i].add(by)) for by in (-step, step)] for i in range(len(values))]
    differences = [(high - low) / (2 * step) for low, high in ends]
    np.testing.assert_allclose(jax.grad(drawn)(values), differences, atol=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.3, 1e-4])
@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_of_an_intrinsic_field_without_a_root(name, tau, dtype):
    """Rounding, of tau Q in single precision above all, makes eigenvalues of zero negative."""
    field = INTRINSIC_FIELDS[name]
    values = jnp.asarray(field.precision.values, dtype) * jnp.asarray(tau, dtype)
    law = ConstrainedGMRF(
        jnp.zeros((), dtype), field.precision.with_values(values), field.A, field.k.astype(dtype)
    )
    draws = law.sample(jax.random.key(0), (400,))
    assert law.support(draws).all()
    # The sum of squares is that of chi-squares of one degree each.
    draws, dense = np.asarray(draws, float), np.zeros(field.precision.shape)
    dense[field.precision.row, field.precision.column] = values
    white = ((draws @ dense) * draws).sum(-1)
    size = draws.shape[-1] - law.rank
    assert abs(white.mean() / size - 1) < 6 * (2 / (400 * size)) ** 0.5
