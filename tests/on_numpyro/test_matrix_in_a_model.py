"""A that is made inside a model: ``jnp.array(A)`` is a tracer under ``jit``.

Its values are those behind it where JAX tells; a matrix that has none is factored where it stands,
whatever its rank. Nothing that eager code would refuse is a plausible number.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import kl_divergence
from numpyro.infer import Predictive
from numpyro.infer.autoguide import AutoNormal
from scipy import stats

from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    InfeasibleConstraintError,
)
from tests import oracles
from tests.chance import assert_likely, of_means
from tests.on_numpyro.models import KEY, array, assert_close, fit

REDUNDANT = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
MATRICES = {
    "redundant": REDUNDANT,
    "independent": np.array([[1.0, 2, 0, 0], [0, 1, -1, 1]]),
    "row": np.array([1.0, -1.0, 0.5, 2.0]),
    "ragged": np.array([[[1.0, 1, 0, 0], [2, 2, 0, 0]], [[1, 1, 0, 0], [0, 1, 1, 0]]]),
}
LOC, SCALE, DIAGONAL = np.array([0.1, 0.2, -0.3, 0.4]), np.array([1.0, 0.5, 2.0, 1.5]), np.ones(4)
POINT = np.array([0.3, -0.2, 0.5, 0.1])
COV = np.diag(SCALE) + 0.2
LAWS = {
    "diagonal": lambda s, A, k: ConstrainedNormal(LOC * s, SCALE * s, A, k),
    "dense": lambda s, A, k: ConstrainedMultivariateNormal(LOC, COV * s, A, k),
    "low rank": lambda s, A, k: ConstrainedLowRankMultivariateNormal(
        LOC, COV[:, :2] * s, DIAGONAL, A, k
    ),
    "student": lambda s, A, k: ConstrainedMultivariateStudentT(5.0, LOC, A=A, k=k, scale=SCALE * s),
}


def quantities(name: str):
    def evaluate(s, A, k):
        law = LAWS[name](s, A, k)
        draw = law.sample(KEY, (2,))
        found = [law.log_prob(POINT), law.mean, law.variance, draw, law.log_prob(draw)]
        if name != "student":
            other = LAWS[name](2 * s, A, k)
            found += [law.entropy(), law.constraint_log_prob(), kl_divergence(law, other)]
        return found

    return evaluate


FAST = ("diagonal-redundant",)
"""JAX compiles for seconds: the others are slow."""


def each_pair():
    for name in LAWS:
        for matrix in MATRICES:
            case = f"{name}-{matrix}"
            yield pytest.param(name, matrix, id=case, marks=[pytest.mark.slow] * (case not in FAST))


@pytest.mark.parametrize(("name", "matrix"), list(each_pair()))
def test_same_values_as_outside(name, matrix):
    """Made inside from a constant; made outside, and an argument of the compiled function."""
    A = MATRICES[matrix]
    k, evaluate = A @ POINT, quantities(name)
    expected = evaluate(1.3, A, k)
    assert_close(jax.jit(lambda s: evaluate(s, jnp.array(A), jnp.array(k)))(1.3), expected)
    assert_close(jax.jit(evaluate)(1.3, array(A), array(k)), expected)


def test_rows_that_disagree_inside_a_trace():
    """Eagerly an error, also where the values behind constants are seen; NaN where they are not."""
    k = REDUNDANT @ POINT + np.array([0.0, 0.0, 0.1])

    def moments(A, k):
        law = ConstrainedNormal(LOC, SCALE, A, k)
        return law.mean, law.sample(KEY), law.log_prob(POINT)

    with pytest.raises(InfeasibleConstraintError):
        moments(REDUNDANT, k)
    with pytest.raises(InfeasibleConstraintError):
        jax.jit(lambda: moments(jnp.array(REDUNDANT), jnp.array(k)))()
    for found in (
        jax.jit(moments)(array(REDUNDANT), array(k)),
        jax.jit(lambda k: moments(jnp.array(REDUNDANT), k))(array(k)),
    ):
        mean, draw, log_prob = found
        assert jnp.isnan(mean).all() and jnp.isnan(draw).all() and not jnp.isfinite(log_prob)


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (4,)) for name in LAWS), ("diagonal", (1, 4))]
)
def test_a_traced_row_of_zeros_constrains_nothing(name, shape):
    """The density is SciPy's of the law without a constraint; k that is not zero has no law."""
    cov = {"low rank": COV[:, :2] @ COV[:, :2].T + np.eye(4)}.get(name, COV)
    cov = np.diag(SCALE**2) if name in ("diagonal", "student") else cov
    normal, student = stats.multivariate_normal(LOC, cov), stats.multivariate_t(LOC, cov, 5)
    expected = (student if name == "student" else normal).logpdf(POINT)

    @jax.jit
    def evaluate(A, k):
        law = LAWS[name](1.0, A, k)
        return law.log_prob(POINT), law.sample(KEY), law.mean

    zeros, k = jnp.zeros(shape), jnp.zeros(shape[:-1])
    log_prob, draw, mean = evaluate(zeros, k)
    assert_close(log_prob, expected)
    assert_close(mean, LOC)
    assert jnp.isfinite(draw).all()
    log_prob, draw, mean = evaluate(zeros, k + 0.5)
    assert not jnp.isfinite(log_prob) and jnp.isnan(draw).all() and jnp.isnan(mean).all()


@pytest.mark.parametrize("matrix", [[[0.0, 1, 2, 0]], [[0.0, 1, 1, 0], [1, 0, 0, 0]]])
def test_coordinates_of_a_law_as_argument(matrix):
    """The rows that were given choose the variables, also where they share none."""
    matrix = np.array(matrix)
    law = ConstrainedNormal(LOC, SCALE, matrix, matrix @ POINT)
    noise = np.arange(4.0 - len(matrix))

    @jax.jit
    def there_and_back(law):
        transform = dist.biject_to(law.support)
        x = transform(noise)
        return x, transform.inv(x), transform.log_abs_det_jacobian(noise, x)

    x, back, log_det = there_and_back(law)
    assert_close([matrix @ x, back, log_det], [matrix @ POINT, noise, 0.0])


def test_gradient_in_a_traced_redundant_A():
    """That of moving it so that its rank stays: all rows times a factor change nothing."""

    def log_prob(factor, A):
        k = factor * A @ POINT
        return ConstrainedNormal(LOC, SCALE, factor * A, k).log_prob(POINT)

    slope = jax.jit(jax.grad(log_prob))(1.5, array(REDUNDANT))
    np.testing.assert_allclose(slope, 0.0, atol=1e-9)


# SVI and Predictive

NOISE = 0.5
_RNG = np.random.default_rng(5)
DATA = _RNG.normal(size=(40, 4)) * 1.4
BASIS = oracles.Problem(np.zeros(4), np.eye(4), REDUNDANT, np.zeros(3)).null_space
BEST_SCALE = np.sqrt(np.mean((DATA @ BASIS) ** 2) - NOISE**2)
"""In coordinates of the null space the data are N(0, scale^2 + noise^2)."""


def model(data=None):
    scale = numpyro.param("scale", 1.0, constraint=dist.constraints.positive)
    with numpyro.plate("rows", len(DATA)):
        law = ConstrainedNormal(jnp.zeros(4), scale, jnp.array(REDUNDANT), jnp.zeros(3))
        x = numpyro.sample("x", law)
        numpyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=data)


def test_svi_learns_a_scale():
    """The guide has the posterior, so that the learned scale is the most likely one."""
    observed = partial(model, array(DATA))
    guide = AutoNormal(observed)
    params = fit(observed, guide, steps=400, particles=8, decay=0.01)
    np.testing.assert_allclose(params["scale"], BEST_SCALE, rtol=0.02)
    deviation = 1 / np.sqrt(1 / BEST_SCALE**2 + 1 / NOISE**2)
    np.testing.assert_allclose(params["x_auto_scale"], deviation, rtol=0.1)


def test_predictive():
    draws = Predictive(model, params={"scale": jnp.asarray(2.0)}, num_samples=500)(KEY)["x"]
    x = np.asarray(draws).reshape(-1, 4)
    assert (oracles.roundings(REDUNDANT, x, np.zeros(3)) <= 4).all()
    assert_likely(of_means((x @ BASIS) ** 2, 4.0))


# Values off the support, and of another precision


@pytest.mark.parametrize("A", [REDUNDANT, array(REDUNDANT)], ids=["numpy", "jax"])
@pytest.mark.parametrize("name", LAWS)
def test_derivatives_off_the_support(name, A):
    """Known values inside ``grad`` are seen: the error is the eager one."""
    k = REDUNDANT @ POINT
    with numpyro.validation_enabled():
        law = LAWS[name](1.0, A, k)
    for derivative in (jax.grad, jax.value_and_grad):
        with pytest.raises(ConstraintError, match=r"project\(value\)"):
            derivative(law.log_prob)(array(POINT + 1))
    compiled = jax.jit(jax.value_and_grad(law.log_prob))
    value, _ = compiled(array(POINT + 1))
    assert value == -jnp.inf
    inside, slope = compiled(array(POINT))
    assert_close(inside, law.log_prob(array(POINT)))
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("name", LAWS)
def test_a_law_built_before_x64_was_switched(name):
    """It stays of its precision, and scores values of either."""
    k = REDUNDANT @ POINT
    expected = LAWS[name](1.3, REDUNDANT, k).log_prob(POINT)
    with jax.enable_x64(False):
        law = LAWS[name](1.3, REDUNDANT, k)
    assert law.sample(KEY).dtype == law.mean.dtype == jnp.float32
    for dtype in ("float32", "float64"):
        found = law.log_prob(jnp.asarray(POINT, dtype))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert_close(law.residual(law.sample(KEY)), np.zeros(3), atol=1e-6)
    assert repr(law).startswith(type(law).__name__)


def test_counts_built_before_x64_was_switched():
    with jax.enable_x64(False):
        law = ConstrainedPoisson(np.ones(4), REDUNDANT, np.array([1, 2, 3]))
    x = law.sample(KEY)
    assert (REDUNDANT @ np.asarray(x) == [1, 2, 3]).all()
    expected = ConstrainedPoisson(np.ones(4), REDUNDANT, np.array([1, 2, 3])).log_prob(x)
    np.testing.assert_allclose(law.log_prob(x), expected, rtol=1e-4)


# Scales of which one dominates: what a constraint leaves of that variable is a small share.

UNEVEN = np.array([1.0, 0.8, 1e5, 2.0])
BATCH = np.array([[[1.0, 1, 1, 0], [0, 1, -1, 1]], [[1, 2, -1, 3], [-2, -4, 2, -6]]])
FACTOR = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, 0.1], [0.2, -1.0]])
UNEVEN_LAWS = {
    "diagonal": lambda A: ConstrainedNormal(LOC, UNEVEN, A, np.zeros(2)),
    "low rank": lambda A: ConstrainedLowRankMultivariateNormal(
        LOC, FACTOR, UNEVEN**2, A, np.zeros(2)
    ),
}


@pytest.mark.parametrize("name", UNEVEN_LAWS)
@pytest.mark.parametrize("number", [0, 1], ids=["independent", "dependent"])
def test_variance_of_a_variable_that_dominates(name, number):
    cov = np.diag(UNEVEN**2) + (FACTOR @ FACTOR.T if name == "low rank" else 0.0)
    expected = oracles.exact_variance(cov, BATCH[number][: 2 - number])
    law = UNEVEN_LAWS[name]
    found = jax.jit(lambda A: (law(A).variance, jnp.diagonal(law(A).covariance)))(BATCH[number])
    for variance in found:
        np.testing.assert_allclose(variance, expected, rtol=1e-10)
    both = jax.vmap(lambda A: law(A).variance)(BATCH)[number]
    np.testing.assert_allclose(both, expected, rtol=1e-10)
    np.testing.assert_allclose(law(BATCH).variance[number], expected, rtol=1e-10)
