"""No dtype is promoted silently, and leaves in half precision are promoted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import biject_to
from scipy import sparse

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    LinearEqualityTransform,
    fields,
)
from numpyro_constrained.constraints import integer_linear_equality
from tests import cases, discrete_cases
from tests.adapters import BACKENDS
from tests.on_numpyro.models import KEY, array, assert_close

JAX = next((backend for backend in BACKENDS if backend.name == "jax"), None)
A, K = array([[1.0, 1, 0, 0, 0], [0, 1, -1, 0, 2]]), array([1.0, 0.5])
LOC, SCALE = array(np.linspace(-0.5, 0.5, 5)), array(np.linspace(0.5, 1.5, 5))
ROWS = sparse.csr_array(np.asarray(A))
LATTICE = fields.lattice((2, 3))
COUNTED = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 2, 0]])
RATES = array([0.5, 1.0, 2.0, 0.3, 1.5])


def build_case(case):
    return lambda: JAX.law(case)


BUILDERS = {case.name: build_case(case) for case in (*cases.CASES, *discrete_cases.CASES)} | {
    "sparse": lambda: ConstrainedNormal(LOC, SCALE, ROWS, K),
    "sparse dense": lambda: ConstrainedMultivariateNormal(LOC, jnp.diag(SCALE), ROWS, K),
    "field": lambda: ConstrainedGMRF(
        0.0, LATTICE.precision, LATTICE.A, LATTICE.k, precision_root=LATTICE.root
    ),
    "proper field": lambda: ConstrainedGMRF(LOC, sparse.eye_array(5).tocsr(), A, K),
    "floating subset": lambda: ConstrainedBernoulli(
        logits=LOC, A=np.ones(5), k=2, gradient_estimator="marginal_expectation"
    ),
    "k below a bound": lambda: ConstrainedPoisson(RATES, COUNTED, [3, 1], k_max=[5, 4]),
}


def figures(law, x):
    """What is asked of a law, without the entropy of one that has none."""
    found = [law.log_prob(x), law.sample(KEY, (2,)), law.mean, law.variance]
    try:
        return [*found, law.entropy()]
    except ConstraintError:
        return found


QUICK = {case.name for case in (*cases.COMPILED, *discrete_cases.CASES)}
"""Of those with a density; the others take as long to trace as their programs are."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(case.name, marks=[pytest.mark.slow] * (case.name not in QUICK))
        for case in cases.CASES
    ]
    + [name for name in BUILDERS if name not in {case.name for case in cases.CASES}],
)
def test_nothing_is_promoted_silently(name):
    """Made, as a closure, as an argument, and differentiated."""
    with jax.numpy_dtype_promotion("strict"):
        law = BUILDERS[name]()
        x = jax.eval_shape(law.sample, KEY)
        jax.eval_shape(lambda x: figures(law, x), x)

        jax.eval_shape(jax.grad(lambda law, x: law.log_prob(x).sum()), law, x)


HALVED = {
    "row": lambda: ConstrainedNormal(LOC, SCALE, np.ones(5), 1.0),
    "diagonal": lambda: ConstrainedNormal(LOC, SCALE, A, K),
    "dense": lambda: ConstrainedMultivariateNormal(LOC, jnp.diag(SCALE), A, K),
    "groups": lambda: ConstrainedNormal(LOC, SCALE, GroupSum([0, 0, 1, 1, 1], 2), K),
    "sparse": lambda: ConstrainedNormal(LOC, SCALE, ROWS, K),
    "field": lambda: ConstrainedGMRF(LOC, sparse.eye_array(5).tocsr(), A, K),
    "student": lambda: JAX.law(cases.named("student_tril-row")),
    "low rank": lambda: JAX.law(cases.named("low_rank-dense")),
    "poisson": lambda: ConstrainedPoisson(RATES, COUNTED, [3, 1]),
    "bernoulli": lambda: ConstrainedBernoulli(logits=LOC, A=np.ones(5), k=2),
    "categorical": lambda: ConstrainedCategorical(logits=jnp.zeros((5, 3)), A=COUNTED, k=[3, 1]),
}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", HALVED)
def test_leaves_in_half_precision_are_promoted(name, dtype):
    """As parameters are: the law is that of the rounded leaves in single precision."""
    law = HALVED[name]()
    halved = jax.tree.map(lambda leaf: leaf.astype(dtype), law)
    single = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(jnp.float32), law)
    assert {leaf.dtype for leaf in jax.tree.leaves(halved)} == {np.dtype(np.float32)}
    x = halved.sample(KEY)
    assert x.dtype in (np.float32, np.int64)
    for ask in (lambda law: law.log_prob(x), lambda law: law.mean, lambda law: law.variance):
        assert ask(halved).dtype == np.float32
        assert_close(ask(halved), ask(single), rtol=0, atol=0)
    assert jnp.isfinite(halved.log_prob(x)).all()


def test_supports_and_transforms_in_half_precision():
    law = HALVED["diagonal"]()
    halve = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float16), tree)  # noqa: E731
    x = law.mean.astype(jnp.float32)
    for support in (halve(law.support), halve(LinearEqualityTransform(A, K)).codomain):
        assert support.A.dtype == np.float32
        assert support(x)
        assert biject_to(support)(jnp.zeros(3, np.float32)).dtype == np.float32
    points = halve(integer_linear_equality(np.ones(3), 2))
    assert points.A.dtype == np.float32
    assert points(np.array([1, 1, 0]))
