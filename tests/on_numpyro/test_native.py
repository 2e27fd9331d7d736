"""What NumPyro asks of any distribution, constraint and transform."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array
from numpyro.distributions import Distribution, biject_to, constraints
from numpyro.distributions.batch_util import promote_batch_shape, vmap_over

import numpyro_constrained
from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
    LinearEqualityTransform,
)
from numpyro_constrained.constraints import linear_equality
from tests.on_numpyro.models import KEY, array, assert_close

A, K = array([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), array([1.0, 0.5])
BATCH_K = array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
LOC, SCALE = array([0.1, -0.2, 0.3, 0.0]), array([1.0, 0.5, 2.0, 1.0])
GROUPS = GroupSum([0, 0, 1, 1], num_groups=2)
COV = jnp.diag(jnp.square(SCALE)) + 0.2
FACTOR = array([[1.0, 0.0], [0.5, 0.3], [0.0, -1.0], [0.2, 0.2]])

Dense, Diagonal = ConstrainedMultivariateNormal, ConstrainedNormal
LowRank, StudentT = ConstrainedLowRankMultivariateNormal, ConstrainedMultivariateStudentT

# Class and arguments, all by name.
TABLE = {
    "dense": (Dense, {"loc": LOC, "covariance_matrix": COV, "A": A, "k": K}),
    "precision": (Dense, {"loc": LOC, "precision_matrix": COV, "A": A, "k": BATCH_K}),
    "tril": (Dense, {"loc": LOC, "scale_tril": jnp.linalg.cholesky(COV), "A": A, "k": K}),
    "diagonal": (Diagonal, {"loc": LOC, "scale": SCALE, "A": A, "k": BATCH_K}),
    "row": (Diagonal, {"loc": LOC, "scale": SCALE, "A": A[0], "k": BATCH_K[:, 0]}),
    "groups": (Diagonal, {"loc": LOC, "scale": SCALE, "A": GROUPS, "k": K}),
    "batched_loc": (
        Diagonal,
        {"loc": LOC[None] * array([[1.0], [2.0]]), "scale": SCALE, "A": A, "k": K},
    ),
    "batched_A": (Diagonal, {"loc": LOC, "scale": SCALE, "A": jnp.stack([A, 2 * A]), "k": K}),
    "low_rank": (
        LowRank,
        {"loc": LOC, "cov_factor": FACTOR, "cov_diag": SCALE, "A": A, "k": BATCH_K},
    ),
    "student": (StudentT, {"df": array(5.0), "loc": LOC, "scale": SCALE, "A": A, "k": BATCH_K}),
    "student_tril": (
        StudentT,
        {"df": array([5.0, 9.0]), "loc": LOC, "scale_tril": jnp.diag(SCALE), "A": A, "k": K},
    ),
    "student_groups": (
        partial(StudentT, per_group=True),
        {"df": array(5.0), "loc": LOC, "scale": SCALE, "A": GROUPS, "k": BATCH_K},
    ),
    "broadcast": (
        Diagonal,
        {"loc": jnp.broadcast_to(LOC, (2, 1, 4)), "scale": SCALE, "A": A, "k": BATCH_K},
    ),
}
each_law = pytest.mark.parametrize("name", TABLE)


def build(name: str, **changed) -> Distribution:
    law, arguments = TABLE[name]
    return law(**(arguments | changed))


@each_law
def test_support_shape(name):
    law = build(name)
    x = law.sample(KEY, (3,))
    assert law.support.event_dim == law.event_dim == 1
    assert not law.support.is_discrete
    assert not law.is_discrete
    ok = law.support(x)
    assert ok.shape == (3, *law.batch_shape)
    assert ok.all()
    assert not law.support(x + 1).any()


@each_law
def test_infer_shapes(name):
    law, arguments = TABLE[name]
    shapes = {key: value.shape for key, value in arguments.items()}
    built = build(name)
    assert type(built).infer_shapes(**shapes) == (built.batch_shape, built.event_shape)
    if name in ("dense", "diagonal", "low_rank"):  # whose arguments may go by position
        assert law.infer_shapes(*shapes.values()) == (built.batch_shape, built.event_shape)


@each_law
def test_shapes(name):
    law = build(name)
    assert law.shape((2,)) == (2, *law.batch_shape, 4)
    for sample_shape in ((), (2,), (2, 3)):
        x = law(rng_key=KEY, sample_shape=sample_shape)
        assert x.shape == law.shape(sample_shape)
        assert law.log_prob(x).shape == sample_shape + law.batch_shape
    assert law.entropy().shape == law.constraint_log_prob().shape == law.batch_shape
    assert law.mean.shape == law.variance.shape == law.shape()


@each_law
def test_wrong_data_are_an_error(name):
    law = build(name)
    with pytest.raises(ValueError):
        law.log_prob(jnp.ones((*law.shape(), 1)))
    if law.batch_shape:
        with pytest.raises(ValueError):
            law.log_prob(jnp.ones((law.batch_shape[0] + 3, *law.shape()[1:])))


def check_expanded(small, large):
    x = large.sample(KEY)
    assert x.shape == large.shape()
    assert_close(small.log_prob(x), large.log_prob(x))
    assert_close(jnp.broadcast_to(small.mean, large.shape()), large.mean)
    assert_close(jnp.broadcast_to(small.variance, large.shape()), large.variance)
    assert_close(jnp.broadcast_to(small.entropy(), large.batch_shape), large.entropy())
    evidence = jnp.broadcast_to(small.constraint_log_prob(), large.batch_shape)
    assert_close(evidence, large.constraint_log_prob())


@each_law
def test_expand(name):
    """By the law itself, and by NumPyro's ``expand_by`` and ``ExpandedDistribution``."""
    small = build(name)
    shape = (2, 3, *small.batch_shape)
    check_expanded(small, small.expand(shape))
    assert small.expand_by([2, 3]).batch_shape == shape
    default = Distribution.expand(small, shape)
    x = default.sample(KEY)
    assert x.shape == (*shape, 4)
    assert_close(default.log_prob(x), small.log_prob(x))


def test_expand_existing_and_subsequent():
    law = build("diagonal", k=BATCH_K[:1])
    for shape in ((5,), (2, 5), (1, 2, 5), (4, 2, 5)):
        larger = law.expand(shape)
        assert larger.batch_shape == shape
        assert_close(law.log_prob(x := larger.sample(KEY)), larger.log_prob(x))
        law = larger


@each_law
def test_expand_error(name):
    small = build(name)
    large = small.expand((2, 1, *small.batch_shape))
    for shape in ((4, 3), (1,)):
        with pytest.raises(ValueError):
            large.expand(shape + (3, 2) + small.batch_shape[:-1])


def test_expanding_computes_nothing_anew():
    small = build("dense")
    assert small.expand([1000])._conditional is small._conditional


@each_law
def test_to_event_and_mask(name):
    law = build(name).expand([2, *build(name).batch_shape])
    joint = law.to_event(1)
    assert joint.log_prob(joint.sample(KEY)).shape == law.batch_shape[:-1]
    masked = law.mask(False)
    assert (masked.log_prob(masked.sample(KEY)) == 0).all()


@each_law
@pytest.mark.parametrize("validate_args", [True, False])
def test_validate_args(name, validate_args):
    scale = {
        "scale": -SCALE, "covariance_matrix": -COV, "precision_matrix": -COV, "cov_diag": -SCALE,
        "scale_tril": -jnp.diag(SCALE),
    }  # fmt: skip
    wrong = {key: scale[key] for key in TABLE[name][1] if key in scale}
    with numpyro.validation_enabled(validate_args):
        assert build(name)._validate_args is validate_args
        if validate_args:
            with pytest.raises(ValueError):
                build(name, **wrong)


@each_law
def test_arg_constraints(name):
    """Every constraint holds for its parameter, and names an argument of the constructor."""
    law = build(name)
    arguments = inspect.signature(type(law)).parameters
    for key, constraint in type(law).arg_constraints.items():
        assert key in arguments
        if key in TABLE[name][1] and not constraints.is_dependent(constraint):
            assert constraint(getattr(law, key)).all()


@pytest.mark.parametrize("law", [Dense, Diagonal, LowRank, StudentT])
def test_reparametrized_params_are_the_real_valued_ones(law):
    assert set(law.reparametrized_params) == set(law.arg_constraints)


@each_law
def test_repr(name):
    law = build(name)
    text = repr(law)
    assert text.startswith(type(law).__name__ + "(")
    for key in TABLE[name][1]:
        assert f"{key}: {tuple(getattr(law, key).shape)}" in text
    assert "rank: 2" in text or "rank: 1" in text
    assert "linear_equality(rank=" in repr(law.support)


@pytest.mark.parametrize("name", ["dense", "groups", "low_rank", "student"])
def test_has_rsample_follows_the_estimator(name):
    for estimator, has in (("pathwise", True), ("score_function", False)):
        law = build(name, gradient_estimator=estimator)
        for other in (law, law.expand([2, *law.batch_shape]), jax.tree.map(jnp.asarray, law)):
            assert other.has_rsample is has
            assert other.gradient_estimator == estimator


@each_law
def test_transforms_of_the_support(name):
    """NumPyro's contract of ``biject_to``."""
    law = build(name)
    x = law.sample(KEY, (3,))
    transform = biject_to(law.support)
    assert transform.domain is constraints.real_vector
    assert transform.codomain is law.support or transform.codomain(x).all()
    u = transform.inv(x)
    assert u.shape == transform.inverse_shape(x.shape)
    assert x.shape == transform.forward_shape(u.shape)
    assert_close(transform(u), x)
    assert_close(transform.log_abs_det_jacobian(u, x), jnp.zeros(x.shape[:-1]))
    joint = biject_to(law.expand([2, *law.batch_shape]).to_event(1).support)
    points = jnp.broadcast_to(x[:, None], (3, 2, *x.shape[1:]))
    assert joint.log_abs_det_jacobian(joint.inv(points), points).ndim == points.ndim - 2


def jacobian_of(transform: LinearEqualityTransform, u: Array) -> Array:
    return jax.jacobian(transform)(u)


def test_transform_is_an_isometry():
    transform = LinearEqualityTransform(A, K)
    jacobian = jacobian_of(transform, array([0.3, -2.0]))
    assert_close(jacobian.T @ jacobian, jnp.eye(2), atol=1e-12)


@pytest.mark.rank_promotion("allow")  # NumPyro's Normal promotes
def test_transformed_distribution():
    """Noise on R^2 pushed onto the subspace: the density is unchanged."""
    transform = LinearEqualityTransform(A, K)
    law = dist.TransformedDistribution(dist.Normal(jnp.zeros(2), 1.0).to_event(1), [transform])
    expected = ConstrainedNormal(transform(jnp.zeros(2)), 1.0, A, K)
    x = law.sample(KEY, (5,))
    assert law.event_shape == (4,)
    assert_close(law.log_prob(x), expected.log_prob(x))


SUPPORTS = {
    "matrix": lambda k=K: linear_equality(A, k),
    "row": lambda k=K: linear_equality(A[0], k[0]),
    "groups": lambda k=K: linear_equality(GROUPS, k),
    "tolerance": lambda k=K: linear_equality(A, k, tolerance=1e-3),
}
each_support = pytest.mark.parametrize("name", SUPPORTS)


@each_support
def test_equality_of_constraints_and_transforms(name):
    """By content, also inside ``jit``; NumPyro's ``==`` is static, by identity of arrays."""
    make = SUPPORTS[name]
    one, same, other = make(), make(), make(2 * K)
    assert one.eq(one, static=True) is True
    assert one.eq(other, static=True) is False
    assert one == one and one != other
    assert one.eq(same)
    assert not one.eq(other)
    assert not one.eq(constraints.real)
    transforms = [biject_to(support) for support in (one, same, other)]
    assert transforms[0].eq(transforms[1])
    assert not transforms[0].eq(transforms[2])
    found = jax.jit(lambda k: one.eq(make(k)))
    assert found(K)
    assert not found(2 * K)


def test_different_kinds_of_constraints_differ():
    made = [make() for make in SUPPORTS.values()]
    equal = [[one == other for other in made] for one in made]
    assert equal == np.eye(len(made), dtype=bool).tolist()


@each_support
def test_feasible_like(name):
    support = SUPPORTS[name]()
    for shape in ((4,), (3, 4), (2, 3, 4)):
        point = support.feasible_like(jnp.ones(shape))
        assert point.shape == shape
        assert support(point).all()


@each_support
def test_trees_of_constraints_and_transforms(name):
    support = SUPPORTS[name]()
    transform = biject_to(support)
    for part in (support, transform):
        leaves, structure = jax.tree.flatten(part)
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        assert jax.tree.unflatten(structure, leaves) == part
    u = jnp.full(transform.inverse_shape((4,)), 0.5)
    found = jax.jit(lambda t, u: (t(u), t.inv(t(u)), t.codomain(t(u))))(transform, u)
    assert_close(found, (transform(u), u, jnp.array(True)))


# Batches of laws made by vmap.


def axis_names(name: str) -> list[str]:
    return [key for key, value in TABLE[name][1].items() if not isinstance(value, GroupSum)]


UNBATCHED = ["dense", "precision", "tril", "row", "groups", "low_rank", "student", "student_tril"]
STACKS = [
    (name, key)
    for name in UNBATCHED
    for key in [*axis_names(name), "all"]
    if not (name in ("tril", "student_tril") and key in ("A", "k"))  # as in "dense", "student"
]

QUICK_STACKS = [
    ("dense", "A"),
    *((n, "all") for n in ("precision", "groups", "low_rank", "student")),
]


@pytest.mark.parametrize(
    "name, key",
    [
        pytest.param(*stack, marks=[pytest.mark.slow] * (stack not in QUICK_STACKS))
        for stack in STACKS
    ],
)
def test_vmap_over_every_parameter(name, key):
    """A stack of laws built by ``vmap``, evaluated by ``vmap`` and by promoting its batch."""
    law, arguments = TABLE[name]
    arguments = dict(arguments) | {"k": K[0] if name == "row" else K}
    arguments |= {"df": array(5.0)} if "df" in arguments else {}
    moved = axis_names(name) if key == "all" else [key]
    stacked = {k: jnp.stack([arguments[k], 1.5 * arguments[k]]) for k in moved}

    def make(changed):
        return law(**(arguments | changed))

    axes = vmap_over(make({}), **dict.fromkeys(moved, 0))
    laws = jax.vmap(make, out_axes=axes)(stacked)
    assert isinstance(laws, law)
    singles = [make({k: v[i] for k, v in stacked.items()}) for i in range(2)]
    xs = jnp.stack([one.sample(KEY) for one in singles])
    expected = jnp.stack([one.log_prob(x) for one, x in zip(singles, xs, strict=True)])
    found = jax.vmap(lambda one, x: one.log_prob(x), in_axes=(axes, 0))(laws, xs)
    assert_close(found, expected)
    promoted = promote_batch_shape(laws)
    assert promoted.batch_shape == (2,)
    assert promoted.event_shape == (4,)
    assert_close(promoted.log_prob(xs), expected)
    assert_close(promoted.mean, jnp.stack([one.mean for one in singles]))
    assert promoted.support(promoted.sample(KEY, (3,))).shape == (3, 2)


def test_public_names_are_documented():
    for name in numpyro_constrained.__all__:
        assert inspect.getdoc(getattr(numpyro_constrained, name))
