"""A sparse A: the laws, supports and coordinates are those of its dense form."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.experimental.sparse import BCOO, BCSR
from numpyro.distributions import biject_to, kl_divergence
from numpyro.distributions.batch_util import vmap_over
from numpyro.infer import MCMC, NUTS
from scipy import sparse

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    InfeasibleConstraintError,
    LinearEqualityTransform,
    ParameterError,
    SparseMatrix,
    auto_reparam,
    constraints,
)
from tests.on_numpyro.models import KEY, assert_close

GENERATOR = np.random.default_rng(20240229)
N = 6
LOC, POINT = GENERATOR.normal(size=(2, N))
SCALE = GENERATOR.uniform(0.5, 2.0, N)
FACTOR = GENERATOR.normal(size=(N, 2))

INDEPENDENT = np.array([[1.0, 1, 0, 0, 0, 0], [0, 1, -2, 0, 0, 0], [0, 0, 0, 0, 1, 2]])
REDUNDANT = np.array(
    [[1.0, 1, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [1, 2, 0, 1, 0, 0], [0] * 6]
)
SQUARE = np.eye(N) + np.diag(np.ones(N - 1), 1)
MATRICES = {
    "independent": INDEPENDENT,
    "redundant and empty": REDUNDANT,
    "determined": np.array([[0.0, 0, 2, 0, 0, 0], [1, 0, 1, 1, 0, 0]]),
    "square": SQUARE,
    "no rows": np.zeros((0, N)),
    "bad scales": INDEPENDENT * np.array([1e-6, 1.0, 1e6])[:, None],
}
KINDS = {
    "scipy csr": sparse.csr_array,
    "scipy coo": sparse.coo_matrix,
    "BCOO": BCOO.fromdense,
    "BCSR": BCSR.fromdense,
    "pattern": lambda A: SparseMatrix.of(sparse.csr_array(A)),
}
LAWS = {
    "normal": lambda A, k: ConstrainedNormal(LOC, SCALE, A, k),
    "uniform": lambda A, k: ConstrainedNormal(LOC, 0.7, A, k),
    "low rank": lambda A, k: ConstrainedLowRankMultivariateNormal(LOC, FACTOR, SCALE, A, k),
    "dense": lambda A, k: ConstrainedMultivariateNormal(LOC, np.diag(SCALE) + 0.1, A, k),
}


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
        "expected_l1": law.expected_l1(LOC),
        "project": law.project(LOC),
        "draw": law.sample(KEY, (3,)),
        "residual": law.residual(LOC),
    }


def assert_same(found, expected, tolerance=1e-10):
    for name, value in expected.items():
        assert_close(found[name], value, tolerance)


def worst_residual(A, k, draws):
    """In units of eps (|A| |x| + |k|), evaluated in float64."""
    x, k = np.asarray(draws, np.float64), np.asarray(k, np.float64)
    size = np.abs(x) @ np.abs(A).T + np.abs(k)
    gap = np.abs(x @ A.T - k)
    return float((gap[size > 0] / size[size > 0]).max() / np.finfo(draws.dtype).eps)


@pytest.mark.parametrize(
    ("law", "matrix"), [*(("normal", matrix) for matrix in MATRICES), ("low rank", "independent")]
)
def test_same_figures_as_dense(law, matrix):
    A = MATRICES[matrix]
    k, make = A @ POINT, LAWS[law]
    expected = figures(make(A, k), ConstrainedNormal(LOC - 1, 1.3 * SCALE, A, k))
    A = sparse.csr_array(A)
    assert_same(figures(make(A, k), ConstrainedNormal(LOC - 1, 1.3 * SCALE, A, k)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind):
    k, A = REDUNDANT @ POINT, KINDS[kind](REDUNDANT)
    for make in LAWS.values():
        law, expected = make(A, k), make(REDUNDANT, k)
        assert_close(law.log_prob(POINT), expected.log_prob(POINT), 1e-12)
        assert law.rank == expected.rank == 3


def test_student_t():
    k = INDEPENDENT @ POINT
    for options in ({"scale": SCALE}, {"scale_tril": np.diag(SCALE)}):
        law, expected = (
            ConstrainedMultivariateStudentT(5.0, LOC, A=A, k=k, **options)
            for A in (sparse.csr_array(INDEPENDENT), INDEPENDENT)
        )
        assert_close(law.log_prob(POINT), expected.log_prob(POINT), 1e-12)
        assert_close(law.variance, expected.variance, 1e-12)


def test_discrete_laws_take_the_dense_form():
    A = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
    for make in (
        lambda A: ConstrainedPoisson(np.ones(4), A, [2, 3]),
        lambda A: ConstrainedBernoulli(np.full(4, 0.3), A, [1, 1]),
    ):
        assert_close(make(sparse.csr_array(A)).mean, make(A).mean, 1e-12)


def test_one_variable():
    law = ConstrainedNormal(np.zeros(1), 1.0, sparse.csr_array([[2.0]]), [3.0])
    assert_close(law.mean, np.array([1.5]), 1e-15)
    assert law.log_prob(law.mean) == 0 and law.variance == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_obey_to_the_last_bits(dtype):
    """An incidence matrix, of which one row depends on all others, scales of six decades."""
    generator = np.random.default_rng(1)
    nodes, edges = 30, 90
    tails = np.concatenate([np.arange(nodes - 1), generator.integers(0, nodes - 1, 61)])
    heads = np.concatenate([np.arange(1, nodes), np.full(61, nodes - 1)])
    A = np.zeros((nodes, edges))
    A[tails, np.arange(edges)], A[heads, np.arange(edges)] = 1, -1
    k = (A @ np.round(8 * generator.normal(size=edges)) / 8).astype(dtype)
    scale = (10 ** generator.uniform(-3, 3, edges)).astype(dtype)
    law = ConstrainedNormal(np.zeros(edges, dtype), scale, sparse.csr_array(A), k)
    for draws in (law.sample(KEY, (20,)), jax.jit(lambda law: law.sample(KEY, (20,)))(law)):
        assert draws.dtype == dtype and worst_residual(A, k, draws) <= 4


def test_a_sum_of_many():
    """One running sum of so many would have rounding errors far above 4 eps."""
    n = 50_000
    A, loc = sparse.csr_array(np.ones((1, n))), np.full(n, 3, np.float32)
    law = ConstrainedNormal(loc, np.ones(n, np.float32), A, [5.0])
    assert worst_residual(np.ones((1, n)), np.array([5.0]), law.sample(KEY, (2,))) <= 4
    assert_close(law.entropy(), 0.5 * (n - 1) * (1 + np.log(2 * np.pi)), 1e-4)


def test_batches():
    scales, k = SCALE * np.array([[1.0], [2.0]]), INDEPENDENT @ POINT + np.zeros((3, 1, 3))
    values = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
    A = values.with_values(values.values * np.array([[1.0], [0.5]]))
    dense = INDEPENDENT * np.array([1.0, 0.5])[:, None, None]
    law, expected = (ConstrainedNormal(LOC, scales, matrix, k) for matrix in (A, dense))
    assert law.batch_shape == expected.batch_shape == (3, 2)
    assert_same(
        {"d": law.sample(KEY), "v": law.variance, "e": law.entropy(), "l": law.log_prob(law.mean)},
        {
            "d": expected.sample(KEY),
            "v": expected.variance,
            "e": expected.entropy(),
            "l": expected.log_prob(expected.mean),
        },
    )


def test_a_batch_of_dependent_rows():
    values = SparseMatrix.of(sparse.csr_array(np.vstack([INDEPENDENT, INDEPENDENT.sum(0)])))
    batch = values.with_values(values.values * np.array([[1.0], [2.0]]))
    with pytest.raises(ParameterError, match=r"independent rows .* some rows follow"):
        ConstrainedNormal(LOC, SCALE, batch, np.zeros(4))


PATTERN = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
CONSTANT = INDEPENDENT @ POINT


def summary(loc, scale, k, values, is_sparse):
    """A function of everything that a gradient flows to, and through every derivative."""
    if is_sparse:
        A = PATTERN.with_values(values)
    else:
        A = jnp.zeros(PATTERN.shape).at[PATTERN.row, PATTERN.column].set(values)
    law = ConstrainedNormal(loc, scale, A, k)
    draw = law.sample(KEY)
    return (
        jnp.sin(draw).sum()
        + law.entropy()
        + law.constraint_log_prob()
        + (law.variance * SCALE).sum()
        + law.mean[0]
    )


def test_gradients():
    arguments = tuple(map(jnp.asarray, (LOC, SCALE, CONSTANT, PATTERN.values)))
    gradient = jax.jit(jax.grad(summary, (0, 1, 2, 3)), static_argnums=4)
    expected = gradient(*arguments, False)
    assert_close(gradient(*arguments, True), expected, 1e-9)
    direction = tuple(jnp.cos(jnp.arange(a.size, dtype=a.dtype)) for a in arguments)
    _, along = jax.jit(partial(jax.jvp, lambda *args: summary(*args, True)))(arguments, direction)
    inner = sum((one * other).sum() for one, other in zip(expected, direction, strict=True))
    assert_close(along, inner, 1e-9)


def test_vmap_over_values():
    values = jnp.asarray(PATTERN.values * np.array([[1.0], [1.3]]))

    def entropy(values):
        law = ConstrainedNormal(LOC, SCALE, PATTERN.with_values(values), CONSTANT)
        return law.entropy() + jnp.sin(law.sample(KEY)).sum()

    found = jax.vmap(jax.value_and_grad(entropy))(values)
    for i in range(2):
        assert_close(
            jax.tree.map(lambda part, i=i: part[i], found), jax.value_and_grad(entropy)(values[i])
        )


def test_the_law_as_an_argument():
    """Its values are traced then; what was redundant stays so, or all is NaN."""
    k = REDUNDANT @ POINT
    law = ConstrainedNormal(LOC, SCALE, sparse.csr_array(REDUNDANT), k)

    def evaluate(law):
        return law.log_prob(POINT), law.variance, law.constraint_log_prob(), law.sample(KEY)

    for found, expected in zip(jax.jit(evaluate)(law), evaluate(law), strict=True):
        assert_close(found, expected)
    values = law.A.values.at[0].add(0.5)
    moved = jax.jit(lambda v: evaluate(_with_values(law, v)))
    assert moved(values)[0] == -np.inf and np.isnan(moved(values)[3][:4]).all()
    assert_close(moved(law.A.values)[0], law.log_prob(POINT), 1e-10)


def _with_values(law, values):
    leaves, structure = jax.tree.flatten(law)
    size = values.shape
    return structure.unflatten([values if leaf.shape == size else leaf for leaf in leaves])


def test_pytree_members():
    A = sparse.csr_array(INDEPENDENT)
    law = ConstrainedNormal(LOC, SCALE, A, CONSTANT)
    again = pickle.loads(pickle.dumps(law))
    assert_close(again.log_prob(POINT), law.log_prob(POINT), 1e-15)
    support = law.support
    assert support.eq(constraints.linear_equality(A, CONSTANT))
    assert not support.eq(constraints.linear_equality(INDEPENDENT, CONSTANT))
    assert not support.eq(constraints.linear_equality(2 * A, CONSTANT))
    assert support(support.feasible_like(jnp.zeros(N)))
    assert law.expand((2,)).log_prob(POINT).shape == (2,)
    assert "A: (3, 6)" in repr(law)
    axes = vmap_over(law, A=0)
    stacked = PATTERN.with_values(PATTERN.values * np.array([[1.0], [2.0]]))
    laws = jax.vmap(
        lambda v: ConstrainedNormal(LOC, SCALE, PATTERN.with_values(v), CONSTANT),
        out_axes=vmap_over(
            ConstrainedNormal(LOC, SCALE, PATTERN, CONSTANT), loc=0, scale=0, A=0, k=0
        ),
    )(jnp.asarray(stacked.values))
    found = jax.vmap(
        lambda law: law.entropy(), in_axes=(vmap_over(laws, loc=0, scale=0, A=0, k=0),)
    )(laws)
    assert axes.A == 0 and found.shape == (2,)


def test_errors():
    A = sparse.csr_array(REDUNDANT)
    k = REDUNDANT @ POINT
    with pytest.raises(InfeasibleConstraintError, match="row 3"):
        ConstrainedNormal(LOC, SCALE, A, k + np.eye(5)[3])
    with pytest.raises(ConstraintError, match="shape"):
        ConstrainedNormal(LOC, SCALE, A, k[:2])
    with pytest.raises(ConstraintError, match="finite"):
        ConstrainedNormal(LOC, SCALE, A * np.nan, k)
    with pytest.raises(ParameterError, match="independent rows"):
        A = SparseMatrix.of(A)
        ConstrainedNormal(LOC, SCALE, A.with_values(np.stack([A.values, A.values])), k)
    with pytest.raises(ConstraintError, match="indices"):
        jax.jit(lambda A: ConstrainedNormal(LOC, SCALE, A, CONSTANT).mean)(
            BCOO.fromdense(INDEPENDENT)
        )
    with pytest.raises(ConstraintError, match="derivatives"):
        jax.hessian(lambda s: ConstrainedNormal(LOC, s, PATTERN, CONSTANT).variance.sum())(
            jnp.asarray(SCALE)
        )


def test_traced_bcoo_data():
    """The indices are constants, the data are not."""
    A = BCOO.fromdense(INDEPENDENT)

    def log_prob(data):
        return ConstrainedNormal(
            LOC, SCALE, BCOO((data, A.indices), shape=A.shape), CONSTANT
        ).entropy()

    assert_close(
        jax.jit(log_prob)(A.data),
        ConstrainedNormal(LOC, SCALE, INDEPENDENT, CONSTANT).entropy(),
        1e-12,
    )


COORDINATES = {
    "dense": (REDUNDANT, REDUNDANT @ POINT),
    "sparse": (sparse.csr_array(REDUNDANT), REDUNDANT @ POINT),
    "row": (np.array([1.0, 2, -3, 1, 0, 1]), 1.0),
    "ones": (np.ones(N), 2.0),
    "groups": (GroupSum([0, 0, 1, 1, 1, 2], 3, [1, 2, 1, -1, 3, 2]), np.array([1.0, 2, 3])),
}


@pytest.mark.parametrize("case", COORDINATES)
def test_elimination(case):
    A, k = COORDINATES[case]
    transform = LinearEqualityTransform(A, k, "elimination")
    u = GENERATOR.normal(size=(3, *transform.inverse_shape((N,))))
    x = transform(u)
    assert constraints.linear_equality(A, k, 1e-14)(x).all()
    assert (transform.inv(x) == u).all()
    jacobian = jax.jacobian(lambda u: transform(u))(u[0])
    volume = 0.5 * np.linalg.slogdet(jacobian.T @ jacobian)[1]
    assert_close(transform.log_abs_det_jacobian(u, x), np.full(3, volume), 1e-12)
    assert_close(jax.jit(lambda u: transform(u))(u), x, 1e-13)


def test_which_coordinates():
    k = REDUNDANT @ POINT
    A = sparse.csr_array(REDUNDANT)
    assert biject_to(ConstrainedNormal(LOC, SCALE, A, k).support).basis == "elimination"
    assert biject_to(ConstrainedNormal(LOC, SCALE, REDUNDANT, k).support).basis == "isometry"
    with pytest.raises(ConstraintError, match='basis="elimination"'):
        LinearEqualityTransform(A, k, "isometry")
    with pytest.raises(ConstraintError, match="basis: expected"):
        LinearEqualityTransform(A, k, "other")
    with pytest.raises(ConstraintError, match="auto_reparam"):
        jax.jit(lambda v: LinearEqualityTransform(PATTERN.with_values(v), CONSTANT)(jnp.zeros(3)))(
            jnp.asarray(PATTERN.values)
        )


def test_elimination_on_the_host(monkeypatch):
    """Where the inverse of the pivots' columns is too large to make."""
    from numpyro_constrained.kernels.linear import elimination

    monkeypatch.setattr(elimination, "MAX_INVERSE", 0)
    A = sparse.csr_array(1.5 * INDEPENDENT)
    transform = LinearEqualityTransform(A, 1.5 * CONSTANT)
    expected = LinearEqualityTransform(INDEPENDENT, CONSTANT, "elimination")
    u = jnp.asarray(GENERATOR.normal(size=3))
    pairs = [(transform, POINT[transform.inv(jnp.arange(N, dtype=float)).astype(int)])]
    for one, coordinates in pairs:
        assert_close(one(coordinates), POINT, 1e-12)
    gradient = jax.grad(lambda k: (LinearEqualityTransform(A, k)(u) ** 2).sum())(1.5 * CONSTANT)
    step = 1e-6 * np.eye(3)[0]
    numeric = [
        (LinearEqualityTransform(A, 1.5 * CONSTANT + s)(u) ** 2).sum() for s in (step, -step)
    ]
    assert_close(gradient[0], (numeric[0] - numeric[1]) / 2e-6, 1e-6)
    assert expected.basis == transform.basis


def test_a_learned_scale_beside_flows_that_are_not_measured():
    """Many values of it in one compiled program, with gradients: those of the dense law, by which a
    posterior of the scale was that of quadrature under NUTS."""
    is_measured = np.arange(N) % 3 > 0

    def figures(t, matrix):
        scale = jnp.where(is_measured, jnp.exp(t) * SCALE, 1e6)
        law = ConstrainedNormal(LOC, scale, matrix, CONSTANT)
        return law.constraint_log_prob() + law.entropy()

    def run(matrix):
        score = jax.value_and_grad(partial(figures, matrix=matrix))
        return jax.jit(jax.vmap(score))(jnp.linspace(-3.0, 3.0, 5))

    for found, expected in zip(run(sparse.csr_array(INDEPENDENT)), run(INDEPENDENT), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("coordinates", ["free", pytest.param("noise", marks=pytest.mark.slow)])
def test_nuts(coordinates):
    """A latent, by elimination or by kriged noise, against the exact posterior."""
    A, data, noise = sparse.csr_array(INDEPENDENT), POINT + 0.3, 0.5

    def model():
        x = numpyro.sample("x", ConstrainedNormal(LOC, SCALE, A, CONSTANT))
        numpyro.sample("y", dist.Normal(x, noise).to_event(1), obs=data)

    variance = 1 / (1 / SCALE**2 + 1 / noise**2)
    mean = variance * (LOC / SCALE**2 + data / noise**2)
    posterior = ConstrainedNormal(mean, np.sqrt(variance), INDEPENDENT, CONSTANT)
    program = (
        model if coordinates == "free" else numpyro.handlers.reparam(model, config=auto_reparam)
    )
    mcmc = MCMC(NUTS(program), num_warmup=150, num_samples=400, progress_bar=False)
    mcmc.run(KEY)
    draws = mcmc.get_samples()["x"]
    assert worst_residual(INDEPENDENT, CONSTANT, draws) <= 4
    error = np.asarray(posterior.stddev) / 10  # a hundred at least are independent
    assert (np.abs(draws.mean(0) - posterior.mean) <= 6 * error + 1e-12).all()
