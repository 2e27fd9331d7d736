"""Points that a transform or a draw puts on the subspace are not asked whether they are there."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from numpyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal, GroupSum
from numpyro_constrained.kernels.linear import made_points
from numpyro_constrained.transforms import LinearEqualityTransform

A = np.array([[1.0, 1, 1, 0, 0], [0, 1, -1, 2, 0], [1, 2, 0, 2, 0], [0, 0, 0, 0, 3.0]])
K = np.array([[1.0, 2.0, 3.0, 0.0], [0.5, -1.0, -0.5, 0.0]])  # row 2 is the sum of the others
LOC, SCALE = np.linspace(-1.0, 1.0, 5), np.array([0.5, 1.0, 2.0, 1.0, 1.0])
COORDINATES = np.array([[0.3, -0.7], [1.5, 0.2]])
BASES = pytest.mark.parametrize("basis", ["isometry", "elimination"])
SCALES = {"one": 1.5, "each": SCALE}


def oracle(x, scale):
    rows, k = np.delete(A, 2, 0), np.delete(K, 2, 1)
    covariance = np.diag(np.broadcast_to(scale, 5) ** 2)
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T)
    left = covariance - gain @ rows @ covariance
    means = LOC + (k - rows @ LOC) @ gain.T
    return np.array(
        [
            multivariate_normal(mean, left, allow_singular=True).logpdf(one)
            for mean, one in zip(means, x, strict=True)
        ]
    )


@BASES
@pytest.mark.parametrize("scale", SCALES)
def test_density_of_a_latent_site(basis, scale):
    """As in a step of NUTS: coordinates, the point, its density, all traced."""
    transform, scale = LinearEqualityTransform(A, K, basis), SCALES[scale]

    def density(u, factor):
        return ConstrainedNormal(LOC, factor * scale, A, K).log_prob(transform(u))

    found = jax.jit(density)(COORDINATES, 1.0)
    np.testing.assert_allclose(found, oracle(transform(COORDINATES), scale), rtol=1e-11)
    products = str(jax.make_jaxpr(lambda u: density(u, 1.0))(COORDINATES)).count("dot_general")
    # The coordinates, what rounding left, in two parts as a row is redundant, and the step.
    assert products <= 4


@BASES
def test_learned_scale_takes_no_product_more(basis):
    """What the constraint asks of loc is the same for every scale."""
    transform = LinearEqualityTransform(A, K, basis)

    def density(u, scale):
        law = ConstrainedNormal(LOC, scale, A, K)
        return law.log_prob(transform(u)).sum() + law.constraint_log_prob().sum()

    products = str(jax.make_jaxpr(density)(COORDINATES, 1.3)).count("dot_general")
    assert products <= 4
    slope = jax.grad(density, 1)(COORDINATES, 1.3)
    change = density(COORDINATES, 1.3 + 1e-6) - density(COORDINATES, 1.3 - 1e-6)
    np.testing.assert_allclose(slope, change / 2e-6, rtol=1e-8)


OTHERS = {
    "moved": lambda x: (ConstrainedNormal(LOC, SCALE, A, K), x + 0.1),
    "another k": lambda x: (ConstrainedNormal(LOC, SCALE, A, K + A @ np.ones(5)), x),
    "another A": lambda x: (ConstrainedNormal(LOC, SCALE, 2 * A, K), x),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_points_are_asked(name):
    transform = LinearEqualityTransform(A, K)

    def density(u):
        law, x = OTHERS[name](transform(u))
        return law.log_prob(x)

    assert (jax.jit(density)(COORDINATES) == -jnp.inf).all()


def test_a_traced_k():
    """Two laws of sides that are both traced have no subspace in common that can be seen."""

    def density(u, k, other):
        x = LinearEqualityTransform(A[:2], k)(u)
        return tuple(ConstrainedNormal(LOC, SCALE, A[:2], side).log_prob(x) for side in (k, other))

    u, k = np.ones(3), jnp.array([1.0, 2.0])
    same, other = jax.jit(density)(u, k, k + 1.0)
    assert jnp.isfinite(same) and other == -jnp.inf


@pytest.mark.parametrize("make", ["isometry", "elimination", "draw"])
def test_a_traced_k_that_rows_disagree_on(make):
    """No point was made: nothing is plausible there."""

    def density(k):
        law = ConstrainedNormal(LOC, SCALE, A, k)
        if make == "draw":
            return law.log_prob(law.sample(jax.random.key(0)))
        return law.log_prob(LinearEqualityTransform(A, k, make)(jnp.ones(2)))

    compiled = jax.jit(density)
    assert jnp.isfinite(compiled(K[0]))
    assert compiled(K[0] + np.array([0.0, 0.0, 1.0, 0.0])) == -jnp.inf


def test_a_law_for_each_group():
    """A point is made as a whole, not group by group."""
    groups = GroupSum([0, 0, 1, 1, 1], 2)
    law = ConstrainedMultivariateStudentT(
        4.0, LOC, A=groups, k=jnp.ones(2), scale=SCALE, per_group=True
    )

    def density(key):
        x = law.sample(key)
        return x, law.log_prob(x)

    x, found = jax.jit(density)(jax.random.key(0))
    np.testing.assert_allclose(found, law.log_prob(x), rtol=1e-12)
    assert found.shape == ()


def test_what_is_not_a_number():
    transform, law = LinearEqualityTransform(A, K), ConstrainedNormal(LOC, SCALE, A, K)
    found = jax.jit(lambda u: law.log_prob(transform(u)))(COORDINATES * np.array([[1], [np.nan]]))
    assert jnp.isfinite(found[0]) and found[1] == -jnp.inf


def test_a_tolerance_that_is_given_holds():
    law = ConstrainedNormal(LOC, SCALE, A, K, support_tolerance=-1.0)
    transform = LinearEqualityTransform(A, K)
    assert (jax.jit(lambda u: law.log_prob(transform(u)))(COORDINATES) == -jnp.inf).all()


def test_draws_and_maps():
    law = ConstrainedNormal(LOC, SCALE, A, K)

    def density(key):
        x = law.sample(key)
        return x, law.log_prob(x)

    x, found = jax.jit(jax.vmap(density))(jax.random.split(jax.random.key(0), 3))
    for one, value in zip(x, found, strict=True):
        np.testing.assert_allclose(value, oracle(one, SCALE), rtol=1e-11)


def test_nothing_is_kept():
    transform, law = LinearEqualityTransform(A, K), ConstrainedNormal(LOC, SCALE, A, K)
    jax.block_until_ready(jax.jit(lambda u: law.log_prob(transform(u)))(COORDINATES))
    jax.clear_caches()
    gc.collect()
    assert all(own() is not None for own, _ in made_points._MADE.values())
