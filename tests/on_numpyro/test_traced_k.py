"""A k that is traced cannot be checked: right where the plan has it, flagged where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import kl_divergence
from numpyro.infer import MCMC, NUTS, DiscreteHMCGibbs

from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    GroupSum,
    InfeasibleConstraintError,
)
from tests.discrete_oracles import DiscreteProblem
from tests.on_numpyro.models import KEY, array, assert_close

RATE, PROBS = np.array([0.5, 2.0, 1.0, 0.3, 0.7]), np.array([0.5, 0.2, 0.7, 0.4, 0.6])
TABLE = np.random.default_rng(0).dirichlet(np.ones(3), 5)
LAWS = {
    "poisson": (ConstrainedPoisson, RATE),
    "bernoulli": (ConstrainedBernoulli, PROBS),
    "categorical": (ConstrainedCategorical, TABLE),
}

ROW = np.ones((1, 5), int)
TIED = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
"""Two groups, a row that follows from both, and a row of zeros."""
EVEN = np.array([[2, 2, 0, 0, 0], [0, 0, 3, 3, 3]])
CHAIN = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0]])
MERGED = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]])
MIXED = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 2, 0], [1, 1, 1, 2, 0]])
"""A group, a chain, a row that follows from both, and a variable in no row."""

# Kind of law, A, k_max, k of the plan, k that are not: too large, negative, not whole, off the
# lattice, rows that disagree.
CASES = {
    "poisson row": ("poisson", ROW, [9], [[3], [9]], [[10], [50], [-1], [2.5], [np.nan]]),
    "poisson groups": (
        *("poisson", TIED, [4, 4, 8, 0], [[2, 3, 5, 0]]),
        [[5, 1, 6, 0], [2, 3, 6, 0], [2, 3, 5, 1], [-1, 3, 2, 0]],
    ),
    "poisson merged": ("poisson", MERGED, [4, 4], [[3, 2]], [[5, 2], [3, 5], [-1, 0], [1.5, 1]]),
    "bernoulli groups": (
        *("bernoulli", TIED, None, [[1, 2, 3, 0], [2, 0, 2, 0]]),
        [[3, 0, 3, 0], [1, 1, 3, 0], [-1, 2, 1, 0], [0, 4, 4, 0]],
    ),
    "poisson divisors": ("poisson", EVEN, [8, 9], [[4, 3], [8, 9]], [[3, 3], [4, 4], [10, 3]]),
    "bernoulli mixed": (
        *("bernoulli", MIXED, None, [[1, 2, 3], [0, 3, 3]]),
        [[1, 2, 4], [1, 4, 5], [3, 0, 3]],
    ),
    "bernoulli bound": ("bernoulli", ROW, [1], [[1], [0]], [[2], [4]]),
    "categorical": ("categorical", CHAIN, [4, 2], [[3, 2], [4, 1]], [[5, 2], [3, 3], [4.5, 2]]),
}
each_case = pytest.mark.parametrize("name", CASES)


def build(name, k, parameter=None, **options):
    kind, A, k_max, *_ = CASES[name]
    law, own = LAWS[kind]
    return law(array(own) if parameter is None else parameter, A, k, k_max=k_max, **options)


def answers(law) -> dict:
    """All that a law is asked for, but what is computed from the same."""
    found = {"mean": law.mean, "variance": law.variance, "entropy": law.entropy()}
    found |= {"marginals": law.marginal_log_prob(), "evidence": law.constraint_log_prob()}
    return found | {"draws": law.sample(KEY, (3,))}


def problem_of(name, k) -> DiscreteProblem:
    kind, A, *_ = CASES[name]
    return DiscreteProblem(kind, LAWS[kind][1], A, np.array(k))


@each_case
def test_right_or_flagged(name):
    """Under jit and vmap, one k after another in one program."""
    _, A, _, planned, others = CASES[name]
    found = jax.jit(jax.vmap(lambda k: answers(build(name, k))))(array(planned + others))
    for i, k in enumerate(planned):
        one, problem = jax.tree.map(lambda figures, i=i: figures[i], found), problem_of(name, k)
        assert (np.asarray(one["draws"]) @ A.T == k).all()
        for figure in ("mean", "variance", "entropy"):
            assert_close(one[figure], array(getattr(problem, figure)), atol=1e-12)
        assert_close(one["evidence"], array(problem.log_partition))
    require_flagged(jax.tree.map(lambda figures: figures[len(planned) :], found))


@pytest.mark.parametrize("name", ["poisson groups", "bernoulli bound"])
def test_covariance_and_whole_numbers(name):
    _, _, _, planned, others = CASES[name]
    ask = jax.jit(lambda k: build(name, k).covariance)
    expected = array(problem_of(name, planned[0]).covariance)
    assert_close(ask(jnp.array(planned[0])), expected, atol=1e-12)
    assert jnp.isnan(ask(jnp.array(others[0]))).all()


def require_flagged(found: dict) -> None:
    assert (found.pop("evidence") == -jnp.inf).all()
    assert (found.pop("draws") == -1).all()
    for figure, values in found.items():
        assert jnp.isnan(values).all(), figure


@pytest.mark.parametrize("name", ["poisson row", "poisson merged"])
def test_scores_scans_and_derivatives(name):
    """log_prob of a point that obeys A x = k is -inf too; others of a batch are not touched."""
    _, A, _, planned, others = CASES[name]
    _, own = LAWS[CASES[name][0]]
    x = problem_of(name, planned[0]).points[0]
    beyond = others[0]
    score = jax.jit(lambda k, x: build(name, k).log_prob(x))
    assert score(array(planned[0]), x) > -jnp.inf
    y = np.linalg.lstsq(A, np.array(beyond), rcond=None)[0]
    for value in (x, np.rint(y).clip(0).astype(int)):
        assert score(array(beyond), value) == -jnp.inf
    both = array([planned[0], beyond])
    _, means = jax.lax.scan(lambda _, k: (None, build(name, k).mean), None, both)
    assert jnp.isnan(means).any(-1).tolist() == [False, True]
    slope = jax.jit(jax.grad(lambda p, k: (build(name, k, p).mean[0] ** 2).sum()))
    assert_close(slope(array(own), both), slope(array(own), both[:1]))
    draws = build(name, array(planned[0]), gradient_estimator="marginal_expectation")
    assert jnp.isfinite(draws.sample(KEY)).all()
    make = jax.jit(lambda k: build(name, k, gradient_estimator="marginal_expectation").sample(KEY))
    assert jnp.isnan(make(array(beyond))).all()


@each_case
def test_an_error_where_k_is_known(name):
    for k in CASES[name][-1]:
        with pytest.raises(ValueError, match="k"):
            build(name, np.array(k))
    with pytest.raises(InfeasibleConstraintError, match="k_max"):
        build("poisson row", np.array([10]))


def test_another_k_in_the_place_of_the_one_that_was_planned():
    """A law is a tree: its k can be replaced, and its plan then has no such k."""
    groups = GroupSum([0, 0, 1, 1, 1], 2)
    laws = [
        ConstrainedPoisson(array(RATE), groups, np.array([2, 3])),
        ConstrainedPoisson(array(RATE), MERGED, np.array([3, 2])),
        ConstrainedBernoulli(array(np.append(PROBS, PROBS)), np.ones(10), 2),
    ]

    @jax.jit
    def ask(law):
        return {"mean": law.mean, "evidence": law.constraint_log_prob(), "draws": law.sample(KEY)}

    for law in laws:
        leaves, tree = jax.tree.flatten(law)
        place = next(i for i, leaf in enumerate(leaves) if leaf is law.k)
        assert jnp.isfinite(ask(law)["mean"]).all()
        leaves[place] = law.k + 2
        other = jax.tree.unflatten(tree, leaves)
        require_flagged(ask(other))
        with pytest.raises(InfeasibleConstraintError, match="planned"):
            other.sample(KEY)


def test_numbers_that_single_precision_cannot_hold():
    rate = jnp.ones(2, "float32")
    ask = jax.jit(lambda k: ConstrainedPoisson(rate, np.ones(2), k, k_max=2**30).mean.sum())
    assert ask(2**24) == 2**24 and jnp.isnan(ask(2**24 + 1))
    x = np.array([2**24 + 1, 0])
    law = ConstrainedPoisson(rate, np.ones(2), 2**24, validate_args=False)
    assert law.log_prob(x) == -jnp.inf and law.residual(x) == 1
    assert law.log_prob(np.array([2**24 - 5, 5])) > -jnp.inf
    assert law.log_prob(np.array([120, 5], "int8")) == -jnp.inf


def test_divergence():
    """Of laws that differ in a traced k, or in rows of which the values are traced: NaN."""
    law = lambda k, A=ROW[0]: ConstrainedBernoulli(array(PROBS), A, k)  # noqa: E731
    other = ConstrainedBernoulli(array(PROBS[::-1].copy()), ROW[0], 2)
    same = kl_divergence(law(2), other)
    moved = jax.jit(lambda k: kl_divergence(law(jnp.stack([k, k])), law(jnp.stack([k, k + 1]))))
    found = moved(array(2.0))
    assert_close(found[0], array(0.0), atol=1e-12)
    assert jnp.isnan(found[1])
    doubled = jax.jit(lambda k: kl_divergence(law(k), law(2 * k, 2 * ROW[0])))
    assert_close(doubled(array(2.0)), array(0.0), atol=1e-12)
    traced = jax.jit(lambda p, q: kl_divergence(p, q))
    assert_close(traced(law(2), other), same)
    assert jnp.isnan(traced(law(3), other))
    assert_close(traced(law(np.array([2]), ROW), other), same)
    shifted = ConstrainedBernoulli(array(PROBS), ROW[0] * [1, 1, 1, 1, 0], 2)
    with pytest.raises(ValueError, match="same fiber"):
        traced(shifted, other)


@pytest.mark.slow
@pytest.mark.rank_promotion("allow")
def test_totals_that_are_chosen_in_the_model():
    """A total of four, one of them above k_max, by Gibbs steps; against quadrature."""
    totals, rate = jnp.array([2.0, 4.0, 6.0, 30.0]), np.array([1.0, 0.5, 2.0])
    A, prior = np.array([[1, 1, 0], [0, 1, 1]]), np.array([0.2, 0.3, 0.3, 0.2])

    def model():
        which = numpyro.sample("which", dist.Categorical(jnp.asarray(prior)))
        scale = numpyro.sample("scale", dist.Gamma(2.0, 1.0))
        k = jnp.stack([totals[which], 5.0])
        law = ConstrainedPoisson(scale * rate, A, k, k_max=[9, 9])
        numpyro.factor("links", law.constraint_log_prob())

    mcmc = MCMC(DiscreteHMCGibbs(NUTS(model)), num_warmup=200, num_samples=2000, progress_bar=False)
    mcmc.run(KEY)
    counts = np.bincount(np.asarray(mcmc.get_samples()["which"]), minlength=4)
    scales = np.linspace(0.02, 20, 400)
    weights = np.zeros(4)
    for i, total in enumerate([2, 4, 6]):
        evidence = [
            np.exp(DiscreteProblem("poisson", s * rate, A, np.array([total, 5])).log_partition)
            for s in scales
        ]
        weights[i] = prior[i] * (np.array(evidence) * scales * np.exp(-scales)).sum()
    expected = weights / weights.sum()
    assert counts[3] == 0
    # Draws of a chain: a tenth of them count as independent, and five standard errors.
    error = 5 * np.sqrt(expected * (1 - expected) / 200) + 1e-9
    assert (np.abs(counts / 2000 - expected) < error).all()
