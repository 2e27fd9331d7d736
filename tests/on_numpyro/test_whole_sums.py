"""Sums of whole numbers in JAX's default precision: integers of 32 bits wrap around, and floats
round from 2^24 on. Oracles are Python's own integers and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    constraints,
)


@pytest.fixture(autouse=True)
def single_precision():
    with jax.enable_x64(False):
        yield


RATE = np.array([900.0, 400.0, 300.0])
MILLIONS = np.full(3, 10**6)
K = 2_600_000_000
SUMS = [
    pytest.param(MILLIONS, K, id="row"),
    pytest.param(np.array([MILLIONS, 2 * MILLIONS]), np.array([K, 2 * K]), id="rows"),
    pytest.param(GroupSum(np.zeros(3, int), 1, MILLIONS), np.array([K]), id="groups"),
]


@pytest.mark.parametrize(("A", "k"), SUMS)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_sums_beyond_32_bits(A, k, dtype):
    """Every point of the support was off it."""
    law = ConstrainedPoisson(RATE, A, k, validate_args=True)
    draw = law.sample(jax.random.key(0)).astype(dtype)
    expected = stats.multinomial.logpmf(np.asarray(draw, int), 2600, RATE / RATE.sum())
    for score in (law.log_prob, jax.jit(law.log_prob)):
        assert float(score(draw)) == pytest.approx(expected, rel=1e-5)
    assert np.all(law.residual(draw.astype(int)) == 0)
    assert np.all(law.support(draw))


def test_sums_of_subsets_beyond_32_bits():
    law = ConstrainedBernoulli(np.array([0.1, 0.2, 0.3]), A=[2**31] * 3, k=2**32)
    weights = {(1, 1, 0): 0.1 * 0.2 * 0.7, (1, 0, 1): 0.1 * 0.8 * 0.3, (0, 1, 1): 0.9 * 0.2 * 0.3}
    for point, weight in weights.items():
        expected = np.log(weight / sum(weights.values()))
        assert float(law.log_prob(jnp.array(point))) == pytest.approx(expected, rel=1e-5)
    law = ConstrainedCategorical(logits=np.zeros((2, 4)), A=[10**9] * 2, k=3 * 10**9)
    assert float(law.log_prob(jnp.array([1, 2]))) == pytest.approx(-np.log(4), rel=1e-5)


def test_a_point_off_by_a_multiple_of_2_to_the_32():
    """It had a finite mass."""
    law = ConstrainedPoisson(np.full(2, 100.0), [2**16] * 2, 100 * 2**16, validate_args=False)
    point = jnp.array([100 + 2**16, 0])
    assert jax.jit(law.log_prob)(point) == law.log_prob(point) == -np.inf
    assert law.residual(point) == np.iinfo(np.int32).max
    with pytest.raises(ConstraintError, match="largest residual"):
        ConstrainedPoisson(
            np.full(2, 100.0), [2**16] * 2, 100 * 2**16, validate_args=True
        ).log_prob(point)
    support = constraints.integer_linear_equality(np.array([2**16] * 2), 100 * 2**16)
    assert not support(point)
    assert support(jnp.array([40, 60]))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_neighbours_that_floats_do_not_tell_apart(dtype):
    """As floats, a CSV's, all three points were on the support of one."""
    law = ConstrainedBernoulli(
        np.full(4, 0.5), A=[16777215, 16777213, 1, 1], k=33554428, validate_args=False
    )
    points = jnp.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype)
    np.testing.assert_array_equal(jax.jit(law.log_prob)(points), [0.0, -np.inf, -np.inf])
    strict = ConstrainedBernoulli(
        np.full(4, 0.5), A=[16777215, 16777213, 1, 1], k=33554428, validate_args=True
    )
    with pytest.raises(ConstraintError, match=r"\|A x - k\| of 1 "):
        strict.log_prob(points[1])


def test_random_sums():
    """On and off the support, by coefficients of up to 2^33."""
    rng, met = np.random.default_rng(0), []
    for trial in range(12):
        n, unit = int(rng.integers(2, 5)), 2 ** int(rng.integers(0, 30))
        A = rng.integers(-3 if trial % 2 else 0, 8, size=(2, n)) * unit
        A[0] = abs(A[0]) + unit
        point = rng.integers(0, 6, size=n)
        law = ConstrainedPoisson(np.full(n, 2.0), A, A @ point, validate_args=False)
        far = 2 ** rng.integers(8, 31, size=n) * rng.integers(0, 2, size=n)
        others = [point, *abs(point + rng.integers(-1, 2, size=(3, n))), point + far]
        others = [other for other in others if other.max() < 2**31 - 1]
        is_on = [all(np.dot(row.astype(object), x - point) == 0 for row in A) for x in others]
        met += is_on
        scores = law.log_prob(jnp.array(np.array(others), jnp.int32))
        np.testing.assert_array_equal(np.isfinite(scores), is_on)
    assert 0 < sum(met) < len(met)


def test_sums_that_nothing_here_knows_are_refused():
    with pytest.raises(ConstraintError, match="enable double precision"):
        ConstrainedBernoulli(np.full(4, 0.5), A=[2**52] * 4, k=2**53)


WRAPPED = [
    ([2**40, 1], 5, [2**24, 5]),
    ([4, 1], 5, [2**62, 5]),
    ([1, 1, 1, 1], 0, [2**62] * 4),
    ([[2**52, -(2**52), 1]], [5], [2**12, 0, 5]),
]


@pytest.mark.parametrize(("A", "k", "point"), WRAPPED)
def test_sums_beyond_64_bits(A, k, point):
    """Sums that are 2^64 beside k were on the support."""
    with jax.enable_x64(True):
        support = constraints.integer_linear_equality(np.array(A), np.array(k))
        assert not support(np.array(point))
        if np.ndim(A) == 1:
            law = ConstrainedPoisson(np.full(len(A), 3.0), A, k, validate_args=False)
            assert law.log_prob(np.array(point)) == -np.inf
            assert law.residual(np.array(point)) > 2**61


def test_constraints_whose_sums_nothing_here_knows_are_refused():
    with pytest.raises(ConstraintError, match="enable double precision"):
        constraints.integer_linear_equality(np.ones(5_000_000, int), 3 * 10**9)
    many = constraints.integer_linear_equality(np.ones(5_000_000, int), 10**9)
    assert many(np.full(5_000_000, 200))


def test_values_of_unsigned_types():
    law = ConstrainedPoisson(np.full(2, 2.0), [1, 2], 5, validate_args=False)
    scores = law.log_prob(jnp.array([[1, 2], [2**32 - 1, 3], [2**31, 5]], jnp.uint32))
    np.testing.assert_array_equal(np.isfinite(scores), [True, False, False])
    residual = law.residual(jnp.array([2**32 - 1, 3], jnp.uint32))
    assert residual == np.iinfo(np.int32).max
