"""Large constants: laws with them are the same laws, and no derivative keeps a copy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import null_space

from numpyro_constrained import ConstrainedMultivariateNormal, ConstrainedNormal, GroupSum
from numpyro_constrained.kernels.arrays import held
from numpyro_constrained.kernels.linear import rows

KEY = jax.random.key(0)
N = 12
GENERATOR = np.random.default_rng(0)
LOC, SCALE = GENERATOR.normal(size=N), GENERATOR.uniform(0.5, 2.0, N)
ROOT = np.linalg.cholesky(np.cov(GENERATOR.normal(size=(N, 40))))


def matrix():
    return np.random.default_rng(1).normal(size=(3, N))  # a new array: nothing is compiled for it


def narrow(scale):
    """Scales of which one dominates all rows."""
    return scale * np.where(np.arange(N) == 4, 1e6, 1.0)


def loss(A, form):
    k = np.array([0.3, -1.0, 2.0])

    def of(loc, scale):
        if form == "dense":
            law = ConstrainedMultivariateNormal(loc, scale_tril=ROOT * scale[:, None], A=A, k=k)
        else:
            sizes = {"narrow": narrow, "batch": lambda scale: jnp.stack([scale, 2 * scale])}
            law = ConstrainedNormal(loc, sizes.get(form, lambda scale: scale)(scale), A, k)
        draw = law.sample(KEY)
        score = law.log_prob(jax.lax.stop_gradient(draw)) + law.constraint_log_prob()
        return score.sum() + (draw @ jnp.cos(jnp.arange(N))).sum()

    return of


DERIVATIVES = {
    "value": lambda f: jax.jit(f)(LOC, SCALE),
    "gradient": lambda f: jax.jit(jax.grad(f, (0, 1)))(LOC, SCALE),
    "forward": lambda f: jax.jvp(f, (LOC, SCALE), (np.cos(LOC), np.sin(LOC)))[1],
    "second": lambda f: jax.jvp(jax.grad(f, (0, 1)), (LOC, SCALE), (np.cos(LOC), np.sin(LOC)))[1],
    "mapped": lambda f: jax.vmap(jax.grad(f, 1))(np.stack([LOC, -LOC]), np.stack([SCALE] * 2)),
}


@pytest.mark.parametrize(
    ("form", "name"),
    [
        pytest.param(
            form, name, marks=() if name == "second" or form == "wide" else pytest.mark.slow
        )
        for form in ("wide", "narrow", "dense", "batch")
        for name in DERIVATIVES
    ],
)
def test_derivatives_are_those_of_small_constants(monkeypatch, form, name):
    expected = DERIVATIVES[name](loss(matrix(), form))
    for length in ("LARGE", "FEW", "MANY"):  # rows that are long enough for sums of their own
        monkeypatch.setattr(held, length, 1)
    found = DERIVATIVES[name](loss(matrix(), form))
    size = 1e6 if form == "narrow" else 1.0
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * size)


def test_one_branch_returns_the_constant(monkeypatch):
    """The one that chooses rows: those chosen are all that derivatives keep."""
    monkeypatch.setattr(held, "LARGE", 1)
    program = jax.make_jaxpr(jax.grad(loss(matrix(), "wide"), (0, 1)))(LOC, SCALE)
    branches = [e for e in equations(program.jaxpr) if e.primitive.name == "cond"]
    shapes = [out.aval.shape for branch in branches for out in branch.outvars]
    assert shapes.count((3, N)) + shapes.count((N, 3)) == 1


def test_derivatives_pass_no_switch():
    """Nothing of a branch is differentiated, where A is known: constants alone are chosen."""

    def switches(function):
        program = jax.make_jaxpr(function)(LOC, SCALE)
        return sum(e.primitive.name == "cond" for e in equations(program.jaxpr))

    for form in ("wide", "dense"):
        of = loss(matrix(), form)
        assert switches(jax.grad(of, (0, 1))) == switches(of)


def equations(jaxpr):
    """All of a program, those inside of others too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("k", [0.0, 1e4])
@pytest.mark.parametrize("spread", [0, 6])
def test_few_passes_over_a_large_matrix(k, spread):
    """In float32 a second step is made where scales differ, and |A| is read where k is small."""
    n = 2**14
    A = GENERATOR.normal(size=(5, n)).astype(np.float32)
    sums = np.full(5, k, np.float32)
    scale = (10.0 ** GENERATOR.uniform(-spread, spread, n)).astype(np.float32)

    @jax.jit
    def draw(scale):
        law = ConstrainedNormal(np.ones(n, np.float32), scale, A, sums)
        value = law.sample(KEY)
        by = jnp.array([0.0, 1.0, jnp.nan])[:, None]
        moved = value[None] + by * (1 + jnp.abs(value))[None]
        return value, law.log_prob(value), jax.vmap(law.log_prob)(moved)

    value, score, (same, outside, undefined) = draw(scale)
    gap = abs(A.astype(np.float64) @ np.asarray(value, np.float64) - k)
    assert (gap <= 4 * np.finfo(np.float32).eps * (abs(A) @ abs(value) + k)).all()
    np.testing.assert_allclose(score, same, rtol=1e-5)
    assert np.isfinite(score)
    assert outside == undefined == -np.inf


@pytest.mark.parametrize("kind", ["rows", "groups", "weighted groups"])
def test_a_few_terms_answer_no_question_wrongly(monkeypatch, kind):
    """Where the few that are read are zero, all are; a row without members is one of zeros."""
    monkeypatch.setattr(rows, "LARGE", 1)
    monkeypatch.setattr(held, "LARGE", 1)
    monkeypatch.setattr(rows, "SOME", 3)
    index = np.array([0, 0, 0, 0, 0, 0, 2, 2, 3])
    weights = np.linspace(-2.0, 1.5, 9)
    A = GroupSum(index, 4, None if kind == "groups" else weights)
    dense = A.to_dense()
    if kind == "rows":
        A = dense = dense[[0, 2]]
    law = ConstrainedNormal(np.zeros(9), 1.0, A, np.zeros(len(dense)))
    given = law._constraint.matrix.given
    assert given.is_large

    @jax.jit
    def answers(x):
        few, all_of_them = given.some_terms(jnp.abs(x)), given.magnitude(jnp.abs(x))
        return law._constraint.contains(x, 1e-6), few, all_of_them

    unread = np.zeros(9)
    unread[[2, 4]] = dense[0, 4], -dense[0, 2]
    on = null_space(dense).sum(-1)
    for x in (np.zeros(9), unread, on, on + 1e-9 * np.eye(9)[1], on + np.eye(9)[3], np.eye(9)[6]):
        holds, few, all_of_them = answers(x)
        size = abs(dense) @ abs(x)
        np.testing.assert_allclose(all_of_them, size, rtol=1e-14)
        assert (few <= size * (1 + 1e-14)).all()
        assert holds == (abs(dense @ x) <= 1e-6 * size).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_as_they_were_given_need_no_copy(dtype):
    """Residuals are those of the given rows to the last bit, from rows times powers of two."""
    generator = np.random.default_rng(3)
    A = (
        generator.normal(size=(4, held.LARGE // 4)) * 10.0 ** np.array([[-9], [0], [3], [8]])
    ).astype(dtype)
    x = generator.normal(size=A.shape[1]).astype(dtype)
    law = ConstrainedNormal(jnp.zeros(A.shape[1], dtype), np.ones((), dtype), A, np.zeros(4, dtype))
    matrix = law._constraint.matrix
    np.testing.assert_array_equal(matrix.given.dense(), A)
    np.testing.assert_array_equal(matrix.given.absolute().dense(), abs(A))
    assert matrix.given.absolute()._rows is matrix.scaled_rows.absolute()
    exact = A.astype(np.longdouble)
    rounding = 2 * np.finfo(dtype).eps * np.sqrt(A.shape[1]) * (abs(exact) @ abs(x))
    assert (abs(np.asarray(law.residual(x)) - exact @ x) <= rounding).all()
    y = generator.normal(size=4).astype(dtype)
    np.testing.assert_allclose(
        matrix.given.adjoint(y), y @ A, rtol=1e-4 if dtype == "float32" else 1e-12
    )
