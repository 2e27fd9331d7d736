"""The discrete laws in JAX: trees, jit, vmap, scan, traced k; tests/laws has the oracles."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from numpyro.distributions.batch_util import promote_batch_shape, vmap_over

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
)
from numpyro_constrained.constraints import integer_linear_equality
from tests.on_numpyro.models import KEY, array, assert_close

A = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0]])
RATE, LOGITS = array([0.5, 2.0, 1.0, 0.3, 4.0]), array([0.3, -1.0, 0.0, 2.0, -0.5])
TABLE_LOGITS = array(np.random.default_rng(0).normal(size=(5, 3)))
ONES, GROUPS = np.ones(5), GroupSum([0, 1, 0, 0, 1], num_groups=2)

Poisson, Bernoulli, Categorical = ConstrainedPoisson, ConstrainedBernoulli, ConstrainedCategorical

# Class and arguments, all by name; of every kind of part, alone and together.
TABLE = {
    "poisson_row": (Poisson, {"rate": RATE, "A": ONES, "k": 4}),
    "poisson_groups": (Poisson, {"rate": RATE, "A": GROUPS, "k": np.array([3, 2])}),
    "poisson_trellis": (Poisson, {"rate": RATE[:4], "A": A[:, :4], "k": np.array([3, 2])}),
    "poisson_batch": (
        Poisson,
        {"rate": jnp.stack([RATE, 2 * RATE])[:, None], "A": GROUPS, "k": np.array([[3, 2]] * 3)},
    ),
    "bernoulli_row": (Bernoulli, {"logits": LOGITS, "A": ONES, "k": 2}),
    "bernoulli_probs": (
        Bernoulli,
        {"probs": array([0.0, 0.3, 1.0, 0.5, 0.9]), "A": GROUPS, "k": np.array([2, 1])},
    ),
    "bernoulli_trellis": (Bernoulli, {"logits": LOGITS, "A": A, "k": np.array([2, 1])}),
    "categorical": (Categorical, {"logits": TABLE_LOGITS, "A": A, "k": np.array([3, 2])}),
}
each_law = pytest.mark.parametrize("name", TABLE)
KINDS = ["poisson_trellis", "bernoulli_row", "categorical"]
each_kind = pytest.mark.parametrize("name", KINDS)
TRELLISES = ("poisson_trellis", "categorical")
"""They compile for half a minute."""
each_quick_kind = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in TRELLISES)) for name in KINDS]
)


def build(name: str, **changed):
    law, arguments = TABLE[name]
    return law(**(arguments | changed))


def parameter_of(name: str) -> str:
    return next(iter(TABLE[name][1]))


def summary(law, key: Array) -> dict[str, Array]:
    """A draw, its probability, and all that a law knows about itself."""
    x = law.sample(key, (2,))
    found = {"x": x, "log_prob": law.log_prob(x), "mean": law.mean, "variance": law.variance}
    found |= {"entropy": law.entropy(), "evidence": law.constraint_log_prob()}
    return found | {"marginals": jnp.exp(law.marginal_log_prob()), "residual": law.residual(x)}


@each_quick_kind
def test_second_derivatives(name):
    """Of the log probability of the constraint and of a moment, against finite differences."""
    key = parameter_of(name)
    start = TABLE[name][1][key]
    direction = array(np.random.default_rng(1).normal(size=start.shape))

    def score(step):
        law = build(name, **{key: start + step * direction * jnp.minimum(start, 1) * 0.1})
        return law.constraint_log_prob().sum() + (law.mean**2).sum()

    slope = jax.jit(jax.grad(score))
    curvature = (slope(1e-4) - slope(-1e-4)) / 2e-4
    assert_close(jax.jit(jax.grad(jax.grad(score)))(0.0), curvature, rtol=1e-5, atol=1e-6)


@each_quick_kind
def test_jit_with_the_law_as_argument_closure_and_result(name):
    law = build(name)
    expected = summary(law, KEY)
    assert_close(jax.jit(summary)(law, KEY), expected)
    assert_close(jax.jit(lambda key: summary(law, key))(KEY), expected)
    made = jax.jit(lambda value: build(name, **{parameter_of(name): value}))(
        TABLE[name][1][parameter_of(name)]
    )
    assert type(made) is type(law)
    assert_close(made.log_prob(expected["x"]), expected["log_prob"])


def test_jit_compiles_once_for_one_plan():
    traced = []

    @jax.jit
    def mean(law):
        traced.append(law)
        return law.mean

    for scale in (1.0, 2.0):
        law = build("poisson_trellis", rate=scale * RATE[:4])
        assert_close(mean(law), law.mean)
    assert len(traced) == 1


@each_law
def test_trees(name):
    law = build(name)
    leaves, structure = jax.tree.flatten(law)
    assert len(leaves) == (2 if isinstance(law.A, GroupSum) else 3)
    assert structure == jax.tree.structure(build(name))
    again = jax.tree.unflatten(structure, leaves)
    x = law.sample(KEY)
    assert_close(again.sample(KEY), x)
    assert_close(again.log_prob(x), law.log_prob(x))
    assert repr(again) == repr(law)


STATES = np.array([[1, 1, 1, 1], [0, 1, 2, 1]])
CERTAIN = {  # laws that were planned with a certain variable, and parameters of others
    "poisson": (Poisson, "rate", np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0, 3.0])),
    "bernoulli": (Bernoulli, "probs", np.array([0.0, 0.5, 0.3, 0.6]), np.full(4, 0.5)),
    "categorical": (
        Categorical,
        "logits",
        np.array([[0.0, -np.inf, -np.inf], [0, 1, 2], [1, 0, 2], [0, 0, 1]]),
        np.zeros((4, 3)),
    ),
}


@pytest.mark.parametrize("kind", CERTAIN)
def test_a_variable_that_was_certain_is_so_no_longer(kind):
    """Where leaves are replaced, no moment is that of the law that was planned."""
    of, name, planned, other = CERTAIN[kind]
    law = of(**{name: planned}, A=STATES, k=np.array([2, 2]), validate_args=False)
    assert (law.variance[0] == 0) & np.isfinite(law.mean).all()
    leaves, structure = jax.tree.flatten(law)
    (at,) = (i for i, leaf in enumerate(leaves) if np.shape(leaf) == planned.shape)

    @jax.jit
    def figures(parameter):
        law = jax.tree.unflatten(structure, [*leaves[:at], parameter, *leaves[at + 1 :]])
        draw = law.sample(KEY)
        return {
            "draw": draw,
            "log_prob": law.log_prob(jnp.where(draw < 0, 0, draw)),
            "moments": (law.mean, law.variance, law.marginal_log_prob(), law.entropy()),
        }

    both = jax.vmap(figures)(np.stack([leaves[at], other]))
    same, found = (jax.tree.map(lambda part, i=i: part[i], both) for i in (0, 1))
    assert_close(same["moments"], figures(leaves[at])["moments"])
    assert (same["draw"] >= 0).all()
    assert (found["draw"] == -1).all()
    assert found["log_prob"] == -jnp.inf
    assert all(jnp.isnan(moment).all() for moment in found["moments"])


@each_law
def test_pickle(name):
    law = build(name)
    again = pickle.loads(pickle.dumps(law))
    assert_close(again.log_prob(again.sample(KEY)), law.log_prob(law.sample(KEY)))


@each_law
def test_native_members(name):
    law = build(name, validate_args=False)
    x = law.sample(KEY, (3,))
    assert law.is_discrete
    assert law.event_dim == law.support.event_dim == 1
    assert jnp.issubdtype(x.dtype, jnp.integer)
    assert x.shape == law.shape((3,))
    assert law.support(x).shape == (3, *law.batch_shape)
    assert law.support(x).all()
    assert not law.support(x + 1).any()
    assert (law.log_prob(x + 1) == -jnp.inf).all()
    assert (law.log_prob(x + 0.5) == -jnp.inf).all()
    assert (law.residual(x) == 0).all()
    shapes = {key: np.shape(value) for key, value in TABLE[name][1].items()}
    assert law.infer_shapes(**shapes) == (law.batch_shape, law.event_shape)
    for key, constraint in law.arg_constraints.items():
        if key in TABLE[name][1] and key != "k":
            assert constraint(getattr(law, key)).all()


@each_quick_kind
def test_expand_mask_and_events(name):
    law = build(name)
    for shape in ((2, *law.batch_shape), (2, 1, *law.batch_shape)):
        larger = law.expand(shape)
        x = larger.sample(KEY, (30,))
        assert x.shape == (30, *shape, *law.event_shape)
        assert_close(larger.log_prob(x), law.log_prob(x))
        assert not (x[:, :1] == x[:, 1:]).all()
    joint = law.expand((2, *law.batch_shape)).to_event(1)
    assert joint.log_prob(joint.sample(KEY)).shape == law.batch_shape[:0] + joint.batch_shape
    assert (law.mask(False).log_prob(law.sample(KEY)) == 0).all()


def test_inner_expansion_draws_anew():
    law = build("poisson_batch").expand((4, 2, 3))
    x = law.sample(KEY)
    assert x.shape == (4, 2, 3, 5)
    assert not (x[..., :1, :] == x).all()


@each_kind
def test_vmap_over_parameters(name):
    law, key = build(name), parameter_of(name)
    stacked = jnp.stack([TABLE[name][1][key], 1.5 * TABLE[name][1][key]])
    axes = vmap_over(law, **{key: 0})
    laws = jax.vmap(lambda value: build(name, **{key: value}), out_axes=axes)(stacked)
    singles = [build(name, **{key: value}) for value in stacked]
    xs = jnp.stack([single.sample(KEY) for single in singles])
    expected = jnp.stack([s.log_prob(x) for s, x in zip(singles, xs, strict=True)])
    assert_close(jax.vmap(lambda one, x: one.log_prob(x), in_axes=(axes, 0))(laws, xs), expected)
    promoted = promote_batch_shape(laws)
    assert promoted.batch_shape == (2,)
    assert_close(promoted.log_prob(xs), expected)
    keys = jax.random.split(KEY, 2)
    drawn = jax.vmap(lambda value, key_: build(name, **{key: value}).sample(key_))(stacked, keys)
    assert law.support(drawn).all()


@each_quick_kind
def test_scan_and_cond(name):
    law = build(name)
    keys = jax.random.split(KEY, 3)
    _, found = jax.lax.scan(lambda one, key: (one, one.log_prob(law.sample(key))), law, keys)
    assert_close(found, jnp.stack([law.log_prob(law.sample(key)) for key in keys]))
    other = build(name, **{parameter_of(name): 2 * TABLE[name][1][parameter_of(name)]})
    chosen = jax.jit(lambda flag: jax.lax.cond(flag, lambda: law, lambda: other).mean)
    assert_close(chosen(True), law.mean)
    assert_close(chosen(False), other.mean)


BOUNDS = {"poisson_groups": [3, 2], "poisson_trellis": [3, 2]}


@pytest.mark.parametrize("name", ["poisson_groups", "poisson_trellis", "bernoulli_row"])
def test_traced_k(name):
    """With a bound of k where the base law has none; a k without points has probability zero."""
    arguments = TABLE[name][1]
    k = np.asarray(arguments["k"])
    bound = {"k_max": np.asarray(BOUNDS[name])} if name in BOUNDS else {}

    @jax.jit
    def ask(k):
        law = build(name, k=k, **bound)
        x = law.sample(KEY, (5,))
        return {"inside": law.support(x), "mean": law.mean, "log": law.constraint_log_prob()}

    law = build(name)
    for given in (k, k.astype(float)):
        found = ask(given)
        assert found["inside"].all()
        assert_close(found["mean"], law.mean)
        assert_close(found["log"], law.constraint_log_prob())
    assert ask(k + 0.5)["log"] == -jnp.inf
    assert ask(k - 100)["log"] == -jnp.inf
    if name in BOUNDS:
        assert build(name, **bound).constraint_log_prob().shape == ()
    ks = np.stack([k, k - k // 2])
    found = jax.vmap(lambda one: build(name, k=one, **bound).constraint_log_prob())(ks)
    assert_close(found, build(name, k=ks).constraint_log_prob())


def test_traced_k_without_a_bound():
    with pytest.raises(ConstraintError, match="k_max"):
        jax.jit(lambda k: build("poisson_trellis", k=k).mean)(np.array([3, 2]))


def test_traced_matrix():
    with pytest.raises(ConstraintError, match="traced"):
        jax.jit(lambda rows: build("bernoulli_trellis", A=rows).mean)(A)


def test_infeasible_impossible_and_wrong():
    for changed in ({"k": 7}, {"A": 2 * ONES, "k": 3}, {"k": -1}, {"k": 1.5}):
        with pytest.raises(ConstraintError):
            build("bernoulli_row", **changed)
    with pytest.raises(ConstraintError, match="rate"):
        build("poisson_row", rate=-RATE, validate_args=True)
    with pytest.raises(ConstraintError, match="probs"):
        Bernoulli(2 * ONES, ONES, 2, validate_args=True)
    law = Bernoulli(np.array([0.0, 0.0, 0.5]), np.ones(3), 2)
    assert law.constraint_log_prob() == -jnp.inf
    with pytest.raises(ConstraintError, match="expected whole numbers"):
        build("bernoulli_row", validate_args=True).log_prob(np.ones(5))
    with pytest.raises(ConstraintError, match="gradient_estimator"):
        build("bernoulli_row", gradient_estimator="pathwise")


@each_quick_kind
def test_marginal_expectation(name):
    """The value is the draw, the gradient that of the mean."""
    law = build(name, gradient_estimator="marginal_expectation")
    plain = build(name)
    assert law.has_rsample and not plain.has_rsample
    assert_close(law.sample(KEY), plain.sample(KEY).astype(float))
    key, weight = parameter_of(name), array([1.0, -2.0, 0.5, 3.0, 0.1])[: law.event_shape[0]]

    def score(value, make):
        built = build(name, **{key: value}, gradient_estimator="marginal_expectation")
        return (make(built) @ weight).sum()

    value = TABLE[name][1][key]
    found = jax.grad(score)(value, lambda built: built.rsample(KEY))
    assert_close(found, jax.grad(score)(value, lambda built: built.mean))
    with pytest.raises(NotImplementedError):
        plain.rsample(KEY)


@each_quick_kind
def test_nothing_leaks(name):
    shared = build(name)

    def use(key, value):
        law = build(name, **{parameter_of(name): value})
        return law.log_prob(shared.sample(key)).sum() + shared.mean.sum() + shared.entropy().sum()

    value = TABLE[name][1][parameter_of(name)]
    with jax.checking_leaks():
        first = jax.jit(use)(KEY, value)
        jax.grad(use, argnums=1)(KEY, value)
    assert_close(use(KEY, value), first)


def test_degenerate_shapes():
    single = Bernoulli(array([0.3]), np.ones(1), 1)
    assert single.log_prob(single.sample(KEY)) == 0
    empty = Poisson(jnp.ones((0, 3)), np.ones(3), 2)
    assert empty.log_prob(empty.sample(KEY)).shape == (0,)
    free = Poisson(RATE, np.zeros((0, 5)), np.zeros(0))
    x = free.sample(KEY)
    assert_close(free.log_prob(x), dist.Poisson(RATE).to_event(1).log_prob(x))
    assert free.rank == 0
    point = Poisson(RATE[:2], np.eye(2), np.array([3, 1]))
    assert point.sample(KEY).tolist() == [3, 1]
    assert_close(point.log_prob(np.array([3, 1])), array(0.0), atol=1e-12)


def test_support_by_itself():
    support = integer_linear_equality(ONES, 2, upper=1)
    assert support(np.array([1, 1, 0, 0, 0]))
    assert not support(np.array([2, 0, 0, 0, 0]))
    leaves, structure = jax.tree.flatten(support)
    assert jax.tree.unflatten(structure, leaves) == support
    assert support.eq(integer_linear_equality(ONES, 2, upper=1))
    assert not support.eq(integer_linear_equality(ONES, 3, upper=1))
