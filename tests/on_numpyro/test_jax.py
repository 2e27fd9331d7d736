"""JAX's own machinery around a law: trees, jit, vmap, grad, scan, leaks, single precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpyro.distributions import biject_to
from scipy.stats import multivariate_normal

from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
    LinearEqualityTransform,
)
from tests.on_numpyro.models import KEY, array, assert_close
from tests.on_numpyro.test_native import BATCH_K, COV, GROUPS, LOC, SCALE, TABLE, A, K, build

each_law = pytest.mark.parametrize("name", TABLE)
KINDS = ["dense", "diagonal", "row", "groups", "low_rank", "student"]
SLOW = ("diagonal", "row")
"""Kinds whose programs are much like those of groups."""
each_kind = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in KINDS]
)
each_quick_kind = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in (*SLOW, "low_rank")))
        for name in KINDS
    ],
)
"""Low rank compiles longest."""
each_main_kind = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("dense", "groups")))
        for name in KINDS
    ],
)
"""For what compiles many programs; others are slow."""


def summary(law, key: Array) -> dict[str, Array]:
    """A draw, its density, and all that a law knows about itself."""
    x = law.sample(key, (2,))
    found = {"x": x, "log_prob": law.log_prob(x), "mean": law.mean, "variance": law.variance}
    found |= {"entropy": law.entropy(), "evidence": law.constraint_log_prob()}
    return found | {"residual": law.residual(x), "project": law.project(x + 1)}


jitted_summary = jax.jit(summary)


@each_law
def test_tree_round_trip(name):
    law = build(name)
    leaves, structure = jax.tree.flatten(law)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert hash(structure) == hash(jax.tree.structure(build(name)))
    assert structure == jax.tree.structure(build(name))
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(law)
    assert (again.batch_shape, again.event_shape) == (law.batch_shape, law.event_shape)
    x = law.sample(KEY)
    assert_close(again.sample(KEY), x, rtol=0, atol=0)
    assert_close(again.log_prob(x), law.log_prob(x), rtol=0, atol=0)


def test_leaves_are_parameters_and_constraint():
    """Nothing that follows from them is one."""
    shapes = [sorted(leaf.shape for leaf in jax.tree.leaves(build(name))) for name in KINDS]
    n, nn, mn, m, bm = (4,), (4, 4), (2, 4), (2,), (3, 2)
    batched = (1, 4)
    assert shapes[0] == sorted([n, nn, mn, m])
    assert shapes[1] == sorted([batched, batched, mn, bm])
    assert shapes[3] == sorted([n, n, m])


@each_main_kind
def test_jit_with_the_law_as_argument(name):
    """Values are the same as outside, to rounding."""
    law = build(name)
    assert_close(jitted_summary(law, KEY), summary(law, KEY), rtol=1e-9, atol=1e-9)


@each_kind
def test_jit_with_the_law_as_closure_and_as_result(name):
    law = build(name)
    x = law.sample(KEY)
    made = jax.jit(lambda loc: build(name, loc=loc))(LOC)
    assert type(made) is type(law)
    assert made.batch_shape == law.batch_shape
    found = jax.jit(lambda x: (law.log_prob(x), made.log_prob(x)))(x)
    assert_close(found, (law.log_prob(x),) * 2)


def test_a_replaced_leaf_has_its_own_rank():
    law = ConstrainedNormal(
        LOC, SCALE, np.array([[1.0, 1, 0, 0], [2, 2, 0, 0]]), np.ones(2) * [1, 2]
    )
    assert law.rank == 1
    leaves, structure = jax.tree.flatten(law)
    leaves = [A if leaf.shape == A.shape else leaf for leaf in leaves]
    assert jax.tree.unflatten(structure, leaves).rank == 2


def test_jit_compiles_once_for_equal_structures():
    """Another A with the same rank and pivots is no new program."""
    traced = []

    @jax.jit
    def mean(law):
        traced.append(law)
        return law.mean

    for matrix in (A, 2 * A, A):
        law = build("dense", A=matrix)
        assert_close(mean(law), law.mean)
    assert len(traced) == 1


@each_quick_kind
def test_gradient_through_a_law_as_argument(name):
    """It is the gradient over the raw parameters, A's included."""
    law, arguments = build(name), TABLE[name][1]
    x = law.sample(KEY)
    raw = {key: value for key, value in arguments.items() if not isinstance(value, GroupSum)}

    def score(changed):
        built = build(name, **changed)
        return built.log_prob(built.project(x)).sum()

    expected = jax.jit(jax.grad(score))(raw)
    found = jax.jit(jax.grad(lambda one: one.log_prob(one.project(x)).sum()))(law)
    assert type(found) is type(law)
    assert_close(found.loc.reshape(expected["loc"].shape), expected["loc"])
    assert_close(found.k, expected["k"])
    if "A" in raw:
        assert_close(found.A, expected["A"])
    if "scale" in raw and name != "student":
        assert_close(found.scale.reshape(SCALE.shape), expected["scale"])


MOVED = {
    "diagonal": lambda loc, scale: ConstrainedNormal(loc, scale, A, K),
    "dense": lambda loc, scale: ConstrainedMultivariateNormal(loc, COV + jnp.diag(scale), A, K),
    "precision": lambda loc, scale: ConstrainedMultivariateNormal(
        loc, A=A, k=K, precision_matrix=COV + jnp.diag(scale)
    ),
    "dense groups": lambda loc, scale: ConstrainedMultivariateNormal(
        loc, COV + jnp.diag(scale), GROUPS, K
    ),
    "low rank": lambda loc, scale: ConstrainedLowRankMultivariateNormal(
        loc, jnp.outer(scale, scale)[:, :2], scale, A, K
    ),
    "student": lambda loc, scale: ConstrainedMultivariateStudentT(
        4.0, loc, A=A, k=K, scale_tril=jnp.linalg.cholesky(COV + jnp.diag(scale))
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "diagonal")) for n in MOVED]
)
def test_second_derivatives(name):
    """Forward and reverse over reverse, against differences of the gradient."""
    x, size = np.asarray(MOVED[name](LOC, SCALE).mean), len(LOC)
    weights = np.cos(np.arange(size))

    def all_figures(parameters: Array) -> Array:
        law = MOVED[name](parameters[:size], parameters[size:])
        figures = law.log_prob(x) + law.entropy() + law.constraint_log_prob()
        moments = law.mean + law.variance + law.sample(KEY) ** 2 + law.covariance[0]
        return figures + weights @ moments

    gradient = jax.grad(all_figures)

    @jax.jit
    def derivatives(parameters: Array, along: Array) -> list[Array]:
        forward = jax.jvp(gradient, (parameters,), (along,))
        return [*forward, jax.grad(lambda p: gradient(p) @ along)(parameters)]

    parameters, along = np.concatenate([LOC, SCALE]), np.sin(np.arange(2.0 * size))
    _, *found = derivatives(parameters, along)
    step = 1e-4
    ahead, behind = (derivatives(parameters + s * along, along)[0] for s in (step, -step))
    for one in found:
        assert_close(one, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


@each_kind
def test_vmap_over_parameters_and_keys(name):
    locs = jnp.stack([LOC, 2 * LOC, LOC - 1])
    keys = jax.random.split(KEY, 3)

    def draw(loc, key):
        law = build(name, loc=loc)
        x = law.sample(key)
        return x, law.log_prob(x)

    found = jax.jit(jax.vmap(draw))(locs, keys)
    singles = [draw(loc, key) for loc, key in zip(locs, keys, strict=True)]
    assert_close(found, jax.tree.map(lambda *parts: jnp.stack(parts), *singles))


def test_vmap_over_constraints():
    """Another A and k each; the plan is that of full row rank."""
    matrices, totals = jnp.stack([A, 2 * A + 0.1, -A]), BATCH_K

    def draw(matrix, total):
        law = ConstrainedNormal(LOC, SCALE, matrix, total)
        return law.sample(KEY), law.log_prob(law.mean)

    found = jax.vmap(draw)(matrices, totals)
    singles = [draw(*pair) for pair in zip(matrices, totals, strict=True)]
    assert_close(found, jax.tree.map(lambda *parts: jnp.stack(parts), *singles))


@each_main_kind
def test_scan(name):
    """A law as carry, as closure and built in every step."""
    law = build(name)
    keys = jax.random.split(KEY, 3)

    def step(carry, key):
        x = law.sample(key)
        fresh = build(name, loc=LOC + 0 * x.reshape(-1, 4)[0])
        return carry, (carry.log_prob(x), fresh.log_prob(x))

    _, found = jax.lax.scan(step, law, keys)
    expected = jnp.stack([law.log_prob(law.sample(key)) for key in keys])
    assert_close(found, (expected, expected))


@each_main_kind
def test_conditionals_and_loops(name):
    """Laws of one structure are branches of ``cond``."""
    law, other = build(name), build(name, loc=2 * LOC)

    @jax.jit
    def chosen(flag):
        return jax.lax.cond(flag, lambda: law, lambda: other).mean

    assert_close(chosen(True), law.mean)
    assert_close(chosen(False), other.mean)


@each_main_kind
def test_nothing_leaks(name):
    """Neither into a law made outside, whose lazy parts are used inside, nor into the caches."""
    shared = build(name)

    def use(key, loc):
        x = shared.sample(key)
        law = build(name, loc=loc)
        transform = biject_to(law.support)
        kept = shared.support(x), transform(transform.inv(x)), shared.variance, shared.entropy()
        return law.log_prob(x), kept

    with jax.checking_leaks():
        first = jax.jit(use)(KEY, LOC)
        jax.grad(lambda loc: use(KEY, loc)[0].sum())(LOC)
    assert_close(jax.jit(use)(KEY, LOC), first, rtol=1e-12, atol=1e-12)
    assert_close(use(KEY, LOC), first)


def test_plans_first_made_inside_a_trace():
    """A constraint never seen before is analysed while tracing; it serves eager code after."""
    matrix = np.asarray(A) + 0.125  # not seen by any other test

    def score(loc):
        law = ConstrainedNormal(loc, SCALE, matrix, K)
        transform = biject_to(law.support)
        return law.log_prob(transform(transform.inv(law.mean)))

    found = jax.jit(jax.value_and_grad(score))(LOC)
    assert_close(found, jax.value_and_grad(score)(LOC))


def test_shape_evaluation():
    """`eval_shape` needs no values."""
    given = {"loc": LOC, "covariance_matrix": COV, "A": A, "k": BATCH_K}
    shapes = jax.eval_shape(lambda parts: summary(build("dense", **parts), KEY), given)
    assert shapes["x"].shape == (2, 3, 4)
    assert shapes["log_prob"].shape == (2, 3)


@each_main_kind
def test_single_precision(name):
    """With x64 off, as JAX starts: everything is float32 and the promise of residuals holds."""
    high, arguments = build(name), TABLE[name][1]
    single = {
        key: value if isinstance(value, GroupSum) else np.asarray(value, np.float32)
        for key, value in arguments.items()
    }
    with jax.enable_x64(False):
        law = TABLE[name][0](**single)
        found = summary(law, KEY)
        leaves = jax.tree.leaves((law, found, law.support.feasible_like(found["x"])))
        u = biject_to(law.support).inv(found["x"])
        assert law.support(found["x"]).all()
        assert law.support(biject_to(law.support)(u)).all()
    assert {leaf.dtype for leaf in [*leaves, u]} == {np.dtype(np.float32)}
    x = np.asarray(found["x"], np.float64)
    expected = high.log_prob(high.project(x))
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-4, atol=1e-4)
    dense = GROUPS.to_dense() if name == "groups" else np.atleast_2d(arguments["A"])
    totals = np.asarray(single["k"], np.float64).reshape(-1, len(dense))
    points = x.reshape(2, -1, 4)
    size = np.abs(points) @ np.abs(dense.T) + np.abs(totals)
    residual = np.abs(points @ dense.T - totals)
    assert (residual <= 4 * np.finfo(np.float32).eps * size).all()


def test_single_precision_parameters_while_x64_is_on():
    law = build("dense", loc=LOC.astype(jnp.float32), covariance_matrix=COV.astype(jnp.float32))
    assert law.sample(KEY).dtype == np.float32


def test_python_numbers_and_lists():
    law = ConstrainedNormal([0, 0, 0], 1, [1, 1, 1], 6)
    assert_close(law.mean, array([2.0, 2.0, 2.0]))
    assert law.mean.dtype == np.float64


@pytest.mark.parametrize("make_key", [jax.random.PRNGKey, jax.random.key])
def test_both_kinds_of_keys(make_key):
    law = build("dense")
    draw = partial(law.sample, make_key(0))
    assert_close(draw((3,)), jax.jit(draw, static_argnums=0)((3,)), rtol=1e-12, atol=1e-12)


def test_transform_under_vmap_and_grad():
    """k as an argument: the transform moves with it."""
    u = array([0.3, -1.0])

    def place(total):
        return LinearEqualityTransform(A, total)(u)

    points = jax.vmap(place)(BATCH_K)
    assert_close(points @ A.T, BATCH_K, rtol=1e-12, atol=1e-12)
    jacobian = jax.jacobian(place)(K)
    assert_close(A @ jacobian, jnp.eye(2), atol=1e-12)


FACTORISATIONS = ("cholesky", "lu", "qr", "triangular_solve", "householder_product")


@pytest.mark.parametrize("is_known", [True, False], ids=["known scales", "a traced number"])
@pytest.mark.parametrize("rank", [2, 3], ids=["reflector", "matrix"])
def test_what_is_known_is_factored_when_a_trace_is_made(is_known, rank):
    """Inside the loop of NUTS it would be factored at every leapfrog step."""
    n = 9 - rank
    matrix = np.random.default_rng(0).normal(size=(rank, n))

    def density(z, number):
        scale = np.linspace(1.0, 2.0, n) if is_known else number
        law = ConstrainedNormal(0.0, scale, matrix, np.ones(rank))
        x = biject_to(law.support)(z)
        placed = law._conditional.from_base(z).sum()
        return law.log_prob(x) + law.constraint_log_prob() + law.entropy() + placed

    program = jax.make_jaxpr(jax.value_and_grad(density))(array(np.ones(n - rank)), array(2.0))
    assert not [name for name in FACTORISATIONS if f" {name}[" in str(program)]


@pytest.mark.parametrize("row", [np.ones((1, 3)), np.array([2.0, -1.0, 1.0])])
def test_one_row_under_a_dense_covariance_needs_no_switch(row):
    def step(loc: Array, covariance: Array) -> Array:
        law = ConstrainedMultivariateNormal(loc, covariance, row, np.ones(row.shape[:-1]))
        return law.log_prob(law.sample(KEY))

    program = str(jax.make_jaxpr(jax.grad(step, (0, 1)))(LOC[:3], COV[:3, :3]))
    assert "cholesky" in program
    assert "cond[" not in program


@pytest.mark.parametrize("row", [[1.0, 1.0, 1.0], [2.0, -1.0, 0.0], [1e6, 1.0, 1e-6]])
def test_a_traced_row_under_a_dense_covariance(row):
    """Alone and in a batch, against SciPy's density of the conditional law."""
    loc, covariance, k = np.asarray(LOC[:3]), np.asarray(COV[:3, :3]), 0.3

    def step(rows: Array) -> tuple[Array, Array]:
        law = ConstrainedMultivariateNormal(loc, covariance, rows, k * jnp.ones(rows.shape[:-1]))
        x = law.sample(KEY)
        return x, law.log_prob(x)

    rows = np.array([row, row[::-1]])
    found = [
        (rows[0], *jax.jit(step)(rows[0])),
        *zip(rows, *jax.jit(step)(rows[:, None]), strict=True),
    ]
    for one, x, log_prob in found:
        gain = covariance @ one / (one @ covariance @ one)
        law = multivariate_normal(
            loc + gain * (k - one @ loc),
            covariance - np.outer(gain, covariance @ one),
            allow_singular=True,
        )
        assert_close(log_prob, law.logpdf(np.asarray(x)), rtol=1e-9)
        assert abs(one @ x - k) <= 4 * np.finfo(float).eps * (abs(one) @ abs(x) + k)
