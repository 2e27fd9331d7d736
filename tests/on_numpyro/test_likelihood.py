"""The constrained law as likelihood: plates, batches, mask, to_event, expand, subsampling."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax import Array
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.util import log_density
from numpyro.optim import Adam

from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
)
from tests.on_numpyro.models import KEY, array, assert_close, fit

ROWS = 5
A = array([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]])
GROUPS = GroupSum([0, 0, 1, 1], num_groups=2)
TOTALS = array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.2], [3.0, 0.0]])
LOC, SCALE = array([0.1, -0.2, 0.3, 0.0]), array([1.0, 0.5, 2.0, 1.0])

LAWS = {
    "dense": lambda k: ConstrainedMultivariateNormal(LOC, jnp.diag(SCALE) + 0.2, A, k),
    "diagonal": lambda k: ConstrainedNormal(LOC, SCALE, A, k),
    "groups": lambda k: ConstrainedNormal(LOC, SCALE, GROUPS, k),
    "low_rank": lambda k: ConstrainedLowRankMultivariateNormal(LOC, LOC[:, None], SCALE, A, k),
    "student": lambda k: ConstrainedMultivariateStudentT(4.0, LOC, A=A, k=k, scale=SCALE),
}
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
each_main_law = pytest.mark.parametrize(
    "law",
    [
        pytest.param(law, id=name, marks=[pytest.mark.slow] * (name not in ("dense", "groups")))
        for name, law in LAWS.items()
    ],
)
"""Others are slow: they compile for seconds."""


def scores(law) -> tuple[Array, Array]:
    """Data of one batched law, and the score of each row by a law of its own."""
    data = law(TOTALS).sample(KEY)
    return data, jnp.stack([law(k).log_prob(x) for k, x in zip(TOTALS, data, strict=True)])


def score(model) -> Array:
    return log_density(handlers.seed(model, KEY), (), {}, {})[0]


@each_main_law
def test_plate(law):
    data, expected = scores(law)

    def model():
        with numpyro.plate("rows", ROWS):
            numpyro.sample("x", law(TOTALS), obs=data)

    assert_close(score(model), expected.sum())


@each_law
def test_plate_expands_one_law(law):
    shared = law(TOTALS[0])
    data = shared.sample(KEY, (2, ROWS))

    def model():
        with numpyro.plate("outer", 2, dim=-2), numpyro.plate("rows", ROWS, dim=-1):
            numpyro.sample("x", shared, obs=data)

    assert_close(score(model), shared.log_prob(data).sum())


@each_main_law
def test_sequence(law):
    """Rows one by one in NumPyro's ``scan``, in place of Pyro's sequential plate."""
    data, expected = scores(law)

    def model():
        def row(carry, given):
            k, x = given
            numpyro.sample("x", law(k), obs=x)
            return carry, None

        scan(row, None, (TOTALS, data))

    assert_close(score(model), expected.sum())


@each_law
def test_to_event(law):
    data, expected = scores(law)
    joint = law(TOTALS).to_event(1)
    assert joint.event_shape == (ROWS, 4)
    assert joint.support.event_dim == 2
    assert joint.support(data)
    assert_close(score(lambda: numpyro.sample("x", joint, obs=data)), expected.sum())


MASK = jnp.array([True, False, True, True, False])


@each_law
def test_mask(law):
    data, expected = scores(law)
    hidden = jnp.where(MASK[:, None], data, law(TOTALS).mean)
    masked = law(TOTALS).mask(MASK)

    def handled():
        with numpyro.plate("rows", ROWS), handlers.mask(mask=MASK):
            numpyro.sample("x", law(TOTALS), obs=hidden)

    assert_close(masked.log_prob(hidden), expected * MASK)
    assert_close(score(handled), expected[MASK].sum())


@each_main_law
def test_masked_rows_give_no_gradient(law):
    """Rows that are hidden because they are off the support must not spoil the others."""
    data, expected = scores(law)
    spoiled = jnp.where(MASK[:, None], data, 7.0)

    def total(value):
        return law(TOTALS).mask(MASK).log_prob(value).sum()

    found, gradient = jax.value_and_grad(total)(spoiled)
    assert_close(found, expected[MASK].sum())
    assert jnp.isfinite(gradient).all()
    assert (gradient[~MASK] == 0).all()


@each_law
def test_scale(law):
    data, expected = scores(law)

    def model():
        with numpyro.plate("rows", ROWS), handlers.scale(scale=0.5):
            numpyro.sample("x", law(TOTALS), obs=data)

    assert_close(score(model), 0.5 * expected.sum())


@each_main_law
def test_subsampling_is_unbiased(law):
    """The mean over all pairs of rows of the scaled score is the full score."""
    data, expected = scores(law)

    def model():
        with numpyro.plate("rows", ROWS, subsample_size=2) as index:
            numpyro.sample("x", law(TOTALS[index]), obs=data[index])

    @jax.vmap
    def scaled(rows):
        return score(handlers.substitute(model, {"rows": rows}))

    pairs = jnp.array(list(combinations(range(ROWS), 2)))
    assert_close(scaled(pairs).mean(), expected.sum())


@pytest.mark.filterwarnings("ignore:Out-of-support values")  # NumPyro's own, before the error
@each_law
def test_off_support_data_are_refused(law):
    data, _ = scores(law)

    def model(value):
        return lambda: numpyro.sample("x", law(TOTALS).to_event(1), obs=value)

    with numpyro.validation_enabled(False):
        assert score(model(data + 0.1)) == -jnp.inf
    with numpyro.validation_enabled(), pytest.raises(ConstraintError, match=r"project\(value\)"):
        score(model(data + 0.1))
    with numpyro.validation_enabled():
        assert jnp.isfinite(score(model(law(TOTALS).project(data + 0.1))))


def test_maximum_likelihood():
    """Only the part of loc along the subspace is seen; it becomes that of the mean of the data."""

    def law(loc):
        return ConstrainedNormal(loc, 1.0, A, TOTALS[0])

    data = law(LOC).sample(KEY, (200,))

    def model():
        loc = numpyro.param("loc", jnp.zeros(4))
        with numpyro.plate("rows", 200):
            numpyro.sample("x", law(loc), obs=data)

    params = fit(model, lambda: None, steps=200, elbo=Trace_ELBO(), decay=1e-3)
    assert_close(law(params["loc"]).mean, data.mean(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [2, ROWS])
def test_learning_from_minibatches(size):
    data, _ = scores(LAWS["groups"])

    def model():
        scale = numpyro.param("scale", jnp.ones(4), constraint=constraints.positive)
        with numpyro.plate("rows", ROWS, subsample_size=size) as index:
            law = ConstrainedNormal(LOC, scale, GROUPS, TOTALS[index])
            numpyro.sample("x", law, obs=data[index])

    svi = SVI(model, lambda: None, Adam(0.01), Trace_ELBO())
    found = svi.run(KEY, 40, progress_bar=False)
    assert np.isfinite(found.losses).all()
    assert not np.array_equal(found.params["scale"], np.ones(4))


CHECKED = {
    "poisson": lambda rate: ConstrainedPoisson(rate, GROUPS, np.array([3, 4]), validate_args=True),
    "normal": lambda scale: ConstrainedNormal(LOC, scale, GROUPS, TOTALS[0], validate_args=True),
}


@pytest.mark.parametrize("law", CHECKED.values(), ids=CHECKED)
def test_known_data_are_checked_when_a_program_is_made(law):
    """Not by the program: XLA would add up the groups of large data while it compiles."""
    point = np.asarray(law(SCALE).sample(KEY))
    program = jax.make_jaxpr(lambda scale, value: law(scale).log_prob(value))(SCALE, point)
    known = jax.make_jaxpr(lambda scale: law(scale).log_prob(point))(SCALE)
    assert _reads(known) < _reads(program)
    with pytest.raises(ConstraintError, match="off"):
        jax.jit(lambda scale: law(scale).log_prob(point + 1))(SCALE)


def _reads(program) -> int:
    """How often rows are summed, by an index or by a matrix."""
    return str(program).count("scatter-add[") + str(program).count("dot_general[")
