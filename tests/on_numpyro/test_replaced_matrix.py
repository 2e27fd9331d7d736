"""Another A in place of the leaf A of a law: analysed again, or flagged; never the old one's
figures. And rows of zeros, which that may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import kl_divergence

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    InfeasibleConstraintError,
    LinearEqualityTransform,
)
from numpyro_constrained.constraints import linear_equality
from tests.on_numpyro.models import KEY, array, assert_close

TABLE = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 2, 1, 1]])
"""The last row follows from the others."""
LAWS = {
    "subset": lambda: ConstrainedBernoulli(logits=array([0.1, -0.3, 0.5, 0.2]), A=np.ones(4), k=2),
    "counts": lambda: ConstrainedPoisson(array([0.5, 1.0, 2.0, 0.7]), np.ones((1, 4)), [3]),
    "table": lambda: ConstrainedPoisson(array([0.5, 1.0, 2.0, 0.7]), TABLE, [3, 2, 5]),
    "below a bound": lambda: ConstrainedPoisson(
        array([0.5, 1.0, 2.0, 0.7]), TABLE, [3, 2, 5], k_max=[4, 4, 8]
    ),
    "certain": lambda: ConstrainedBernoulli(array([0.0, 0.4, 1.0, 0.7]), np.ones(4), 2),
    "categories": lambda: ConstrainedCategorical(logits=jnp.zeros((4, 3)), A=np.ones(4), k=3),
    "floating": lambda: ConstrainedBernoulli(
        logits=jnp.zeros(4), A=np.ones(4), k=2, gradient_estimator="marginal_expectation"
    ),
}
REPLACEMENTS = {
    "zeros": jnp.zeros_like,
    "another entry": lambda A: A.at[..., 1].add(1),
    "another last row": lambda A: A.at[..., -1, -1].add(1) if A.ndim == 2 else A.at[-1].add(1),
    "a multiple": lambda A: 2 * A,
}


def replaced(law, A):
    leaves, structure = jax.tree.flatten(law)
    return jax.tree.unflatten(structure, [A if leaf is law.A else leaf for leaf in leaves])


def figures(law, x):
    found = [law.log_prob(x), law.constraint_log_prob(), law.mean, law.variance, law.covariance]
    return [*found, law.entropy(), law.marginal_log_prob(), kl_divergence(law, law)]


def require_flagged(found):
    assert all((jnp.isnan(part) | (part == -jnp.inf)).all() for part in found)


@pytest.mark.parametrize("name", LAWS)
def test_a_discrete_law_does_not_answer_by_the_old_matrix(name):
    law = LAWS[name]()
    x, program = law.sample(KEY), jax.jit(figures)
    draw = jax.jit(lambda law: law.sample(KEY))
    assert jnp.isfinite(program(law, x)[0])
    for change in REPLACEMENTS.values():
        other = replaced(law, change(law.A))
        require_flagged(program(other, x))
        assert ((draw(other) == -1) | jnp.isnan(draw(other))).all()
        for refused in (lambda law=other: law.sample(KEY), other.enumerate_support):
            with pytest.raises(InfeasibleConstraintError, match="expected the A that was planned"):
                refused()


@pytest.mark.parametrize("name", ["subset", "table"])
def test_outside_of_a_program_and_in_a_stack(name):
    law = LAWS[name]()
    other = replaced(law, law.A.at[..., 0].add(1))
    require_flagged([other.mean, other.entropy(), other.constraint_log_prob()])
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), law, other, law)
    for mean in (jax.vmap(lambda law: law.mean)(stack), stack.mean):
        assert jnp.isnan(mean[1]).all()
        assert_close(mean[::2], jnp.stack([law.mean] * 2))


def test_divergence_from_a_law_with_another_matrix():
    law = LAWS["table"]()
    other = replaced(law, law.A.at[-1, -1].add(1))
    divergence = jax.jit(lambda p, q: kl_divergence(p, q))
    assert divergence(law, law) == 0
    for pair in ((law, other), (other, law)):
        assert jnp.isnan(divergence(*pair))


LOC, SCALE = array([0.3, -0.2, 0.5, 0.1]), array([0.5, 1.0, 2.0, 1.5])
DENSE = {
    "diagonal": lambda A, k: ConstrainedNormal(LOC, SCALE, A, k),
    "one scale": lambda A, k: ConstrainedNormal(LOC, 2.0, A, k),
    "dense": lambda A, k: ConstrainedMultivariateNormal(LOC, jnp.diag(SCALE), A, k),
    "low rank": lambda A, k: ConstrainedLowRankMultivariateNormal(LOC, SCALE[:, None], SCALE, A, k),
    "student": lambda A, k: ConstrainedMultivariateStudentT(4.0, LOC, jnp.diag(SCALE), A, k),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_row_of_zeros_given_as_a_vector(name):
    """It is no constraint where k is zero, as a matrix of one such row is none."""
    law = DENSE[name](np.zeros(4), 0.0)
    same = DENSE[name](np.zeros((1, 4)), np.zeros(1))
    x = array([1.0, 0.0, -1.0, 2.0])
    assert law.rank == 0
    for ask in (
        lambda law: law.log_prob(x),
        lambda law: law.sample(KEY),
        lambda law: law.variance,
        lambda law: law.constraint_log_prob(),
    ):
        assert_close(ask(law), ask(same))
        assert_close(ask(jax.tree.map(lambda leaf: leaf, law)), ask(same))
    assert law.residual(x) == 0
    with pytest.raises(InfeasibleConstraintError):
        DENSE[name](np.zeros(4), 1.0)


def test_supports_and_transforms_of_a_row_of_zeros():
    x = array([1.0, 0.0, -1.0, 2.0])
    assert linear_equality(np.zeros(4), 0.0)(x)
    assert_close(LinearEqualityTransform(np.zeros(4), 0.0)(x), x)
    for make in (linear_equality, LinearEqualityTransform):
        with pytest.raises(InfeasibleConstraintError):
            make(np.zeros(4), 1.0)


def test_a_row_that_became_zeros():
    law = ConstrainedNormal(LOC, SCALE, np.ones(4), 0.0)
    zero = replaced(law, jnp.zeros(4))
    assert zero.rank == 0
    assert_close(zero.mean, LOC)
    assert jax.tree.map(jnp.zeros_like, law).support(LOC)
