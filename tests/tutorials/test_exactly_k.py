"""The exactly-k tutorial runs; its estimators, its truth and its exact scores are right."""

import importlib
from itertools import combinations

import numpy as np
import pytest

from tests.chance import assert_likely, of_means
from tutorials.subsets import NUM_ITEMS, SUBSET_SIZE, Problem, Quality, judge

SHORT = ["--short", "--picture"]


class PyroTutorial:
    """The Pyro twin, with NumPy out."""

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.module = importlib.import_module("tutorials.pyro.04_exactly_k")

    def in_float32(self):
        self.torch.set_default_dtype(self.torch.float32)

    def estimates(self, name, problem, num_draws):
        return self.module.estimates(name, problem, num_draws)


class NumPyroTutorial:
    """The NumPyro twin, with NumPy out."""

    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.module = importlib.import_module("tutorials.numpyro.04_exactly_k")

    def in_float32(self):
        self.jax.config.update("jax_enable_x64", False)
        self.jax.clear_caches()  # constants of the plans were cached as 64-bit ones

    def estimates(self, name, problem, num_draws):
        jnp = self.jax.numpy
        logits = jnp.tile(jnp.asarray(problem.logits), (num_draws, 1))
        key = self.module.new_key(0)
        return np.asarray(self.module.estimates(name, key, logits, jnp.asarray(problem.target)))


each_tutorial = pytest.mark.parametrize("tutorial_class", [PyroTutorial, NumPyroTutorial])
pytestmark = pytest.mark.rank_promotion("allow")


def expected_loss(problem: Problem) -> float:
    """By the definition, subset by subset."""
    weights, losses = [], []
    for chosen in combinations(range(NUM_ITEMS), SUBSET_SIZE):
        z = np.isin(np.arange(NUM_ITEMS), chosen)
        weights.append(np.exp(problem.logits[z].sum()))
        losses.append(np.square(z - problem.target).sum())
    return float(np.average(losses, weights=weights))


def test_enumerated_gradient():
    problem, step = Problem.draw(3), 1e-5 * np.eye(NUM_ITEMS)
    sides = [
        [expected_loss(problem._replace(logits=problem.logits + sign * d)) for d in step]
        for sign in (1, -1)
    ]
    differences = np.subtract(*sides) / 2e-5
    np.testing.assert_allclose(problem.exact_gradient(), differences, rtol=1e-6, atol=1e-8)


def test_quality_of_known_estimates():
    exact = np.array([1.0, 0.0])
    found = Quality.of(np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 0.0]]), exact)
    np.testing.assert_allclose(found, [0.0, 1 / 3, 1 / 3, 1.0], atol=1e-12)


def test_judge_by_bayes():
    """The bound is met by the exact posterior, and only there."""
    rng = np.random.default_rng(0)
    codes, logits = rng.integers(0, 2, size=(5, 3)), rng.normal(size=(5, 4))
    images = rng.integers(0, 2, size=(6, 4))
    ink = 1 / (1 + np.exp(-logits))
    likelihood = np.where(images == 1, ink[:, None], 1 - ink[:, None]).prod(-1)
    evidence = likelihood.mean(0)
    posterior = np.log(likelihood / len(codes) / evidence)
    tight = judge(images, codes, logits, posterior)
    np.testing.assert_allclose(tight, np.log(evidence).mean())
    flat = judge(images, codes, logits, np.full((5, 6), -np.log(5)))
    assert flat[0] == pytest.approx(tight[0]) and flat[1] < tight[1]


@each_tutorial
def test_estimators_at_small_cost(tutorial_class):
    """The score function has no bias; the marginal expectation is worth thousands of its draws."""
    tutorial, problem = tutorial_class(), Problem.draw(1)
    exact = problem.exact_gradient()
    scores = tutorial.estimates("score_function", problem, 20_000)
    assert_likely(of_means(scores, exact))
    # Of 1,000 angles the mean has a standard error below 0.016, a tenth of what is left here.
    quiet = Quality.of(tutorial.estimates("marginal_expectation", problem, 1000), exact)
    assert quiet.error < 0.5 * Quality.of(scores, exact).error


@each_tutorial
def test_short_mode_in_single_precision(tutorial_class, tmp_path):
    tutorial, picture = tutorial_class(), tmp_path / "exactly_k.png"
    tutorial.in_float32()
    qualities, trained = tutorial.module.main([*SHORT, str(picture)])
    assert qualities.keys() == tutorial.module.ESTIMATORS.keys()
    assert all(np.isfinite(seeds).all() for seeds in qualities.values())
    assert trained.keys() == set(tutorial.module.TRAININGS)
    for model in trained.values():
        assert -64 * np.log(2) < model.elbo <= model.log_likelihood < 0
    assert picture.stat().st_size > 10_000
