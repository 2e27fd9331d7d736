"""Exact gradients are exact, and estimators that claim to be unbiased are."""

from itertools import combinations, permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy import special, stats

from experiments.gradient_estimators.__main__ import main
from experiments.gradient_estimators.estimators import ESTIMATORS, estimates
from experiments.gradient_estimators.problems import Gaussian, Subset
from rivals.scores_jax import sfess_as_published, sfess_corrected
from tests.chance import assert_likely, of_means

N = 6
STEP = 1e-5


def finite_differences(function, at):
    steps = STEP * np.eye(at.size)
    return np.array([function(at + step) - function(at - step) for step in steps]) / (2 * STEP)


def every_subset(n, k):
    return np.array([[float(i in items) for i in range(n)] for items in combinations(range(n), k)])


def subset_loss(problem, loss):
    """Expected loss by enumeration, as a function of the logits."""
    bits = every_subset(N, N // 2)
    losses = np.asarray(problem.loss(loss)(jnp.asarray(bits)))

    def expected(logits):
        weight = np.exp(bits @ logits)
        return weight @ losses / weight.sum()

    return expected


@pytest.mark.parametrize("loss", Subset.losses)
def test_exact_gradients_of_subsets(loss):
    problem = Subset.draw(N, 0)
    expected = finite_differences(subset_loss(problem, loss), np.asarray(problem.parameters))
    np.testing.assert_allclose(problem.exact_gradient(loss), expected, rtol=1e-6, atol=1e-8)


def test_squares_of_ten_bits_as_in_the_tutorial():
    """The covariance of loss and subset, over all 252 subsets."""
    problem, bits = Subset.draw(10, 3), every_subset(10, 5)
    mass = special.softmax(bits @ np.asarray(problem.parameters))
    losses = np.square(bits - np.asarray(problem.target)).sum(-1)
    found = problem.exact_gradient("squares")
    np.testing.assert_allclose(found, (mass * (losses - mass @ losses)) @ bits, rtol=1e-9)


def gaussian_loss(problem, loss):
    """Expected loss in closed form, as a function of loc and log scale."""
    target, mixing = np.asarray(problem.target), np.asarray(problem.mixing)

    def expected(parameters):
        loc, variance = parameters[:N], np.exp(2 * parameters[N:])
        gain = variance / variance.sum()
        mean = loc - gain * loc.sum()
        covariance = np.diag(variance) - np.outer(gain, variance)
        if loss == "absolute":
            return (
                stats.foldnorm(
                    np.abs(mean - target) / (scale := np.sqrt(np.diagonal(covariance))), scale=scale
                )
                .mean()
                .sum()
            )
        rows, gap = np.eye(N), mean - target
        if loss == "mixed squares":
            rows, gap = mixing, mixing @ mean - np.asarray(problem.mixed_target)
        return gap @ gap + np.trace(rows @ covariance @ rows.T)

    return expected


@pytest.mark.parametrize("loss", Gaussian.losses)
def test_exact_gradients_of_the_gaussian(loss):
    problem = Gaussian.draw(N, 0)
    expected = finite_differences(gaussian_loss(problem, loss), np.asarray(problem.parameters))
    np.testing.assert_allclose(problem.exact_gradient(loss), expected, rtol=1e-6, atol=1e-8)


UNBIASED = {
    Gaussian: ("ours, pathwise", "ours, score function", "score function, centred"),
    Subset: (
        "ours, score function",
        "score function, centred",
        "score function, centred, mean of 4",
        "SFESS, corrected, 2 draws",
        "SFESS, corrected, 8 draws",
    ),
}


@pytest.mark.parametrize(("law", "name"), [(law, n) for law in UNBIASED for n in UNBIASED[law]])
def test_unbiased(law, name):
    """The mean of many estimates is the gradient."""
    problem = law.draw(3 if law is Gaussian else 4, 1)
    found = np.asarray(estimates(problem, "mixed squares", name, random.key(0), 20_000))
    assert_likely(of_means(found, np.asarray(problem.exact_gradient("mixed squares"))))


def gumbel_chance(logits, k):
    """``(subsets,)`` of the k largest perturbed logits: items in turn, in any order."""
    chances = []
    for items in combinations(range(len(logits)), k):
        chance = 0.0
        for order in permutations(items):
            left, each = np.exp(logits).sum(), 1.0
            for item in order:
                each, left = each * np.exp(logits[item]) / left, left - np.exp(logits[item])
            chance += each
        chances.append(chance)
    return np.array(chances)


def covariance_with_score(problem, chance, losses):
    """Of losses under a law with the score of exactly-k: the gradient, if that is the law."""
    bits = every_subset(problem.size, problem.subset_size)
    weight = np.exp(bits @ np.asarray(problem.parameters))
    score = bits - weight @ bits / weight.sum()
    return (chance * (losses - chance @ losses)) @ score


@pytest.mark.parametrize("num_draws", [2, 8])
def test_bias_of_sfess_as_published(num_draws):
    """Its mean is 1 - 1/S of a covariance under the law that it draws from: short of the gradient,
    and off it."""
    problem = Subset.draw(4, 1)
    bits = every_subset(problem.size, problem.subset_size)
    losses = np.asarray(problem.loss("mixed squares")(jnp.asarray(bits)))
    logits, exact = np.asarray(problem.parameters), problem.exact_gradient("mixed squares")
    weight = np.exp(bits @ logits)
    same_law = covariance_with_score(problem, weight / weight.sum(), losses)
    np.testing.assert_allclose(same_law, exact, rtol=1e-6)
    drawn = covariance_with_score(problem, gumbel_chance(logits, 2), losses)
    name = f"SFESS, as published, {num_draws} draws"
    found = np.asarray(estimates(problem, "mixed squares", name, random.key(0), 20_000))
    assert_likely(of_means(found, (1 - 1 / num_draws) * drawn))
    assert np.linalg.norm(drawn - exact) > 0.02 * np.linalg.norm(exact)


def test_one_draw_leaves_sfess_nothing():
    """As published; corrected it asks for more."""
    logits, key = jnp.zeros((3, 4)), random.key(0)

    def total(logits, sfess):
        return sfess(key, logits, 2, lambda x: x[:, 0], 1).sum()

    np.testing.assert_array_equal(jax.grad(total)(logits, sfess_as_published), 0.0)
    with pytest.raises(ValueError, match="num_draws of at least 2"):
        total(logits, sfess_corrected)


def test_what_all_subsets_share_cancels_in_sfess():
    """The whole log probability has the gradient of its part that the draw is in."""
    problem, key, num_draws = Subset.draw(N, 0), random.key(0), 5
    logits, loss = jnp.tile(problem.parameters, (3, 1)), problem.loss("squares")
    draws = problem.law(logits, "score_function").sample(key, (num_draws,))
    losses = np.asarray(jax.vmap(loss)(draws))
    others = np.array([np.delete(losses, s, 0).mean(0) for s in range(num_draws)])

    def whole(logits):
        return ((losses - others) * problem.law(logits, "score_function").log_prob(draws)).mean(0)

    def part(logits):
        return sfess_corrected(key, logits, problem.subset_size, loss, num_draws)

    found, expected = (jax.grad(lambda x, f=f: f(x).sum())(logits) for f in (part, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_in_loc_pathwise_and_marginal_expectation_are_the_same():
    """They differ in the scale alone."""
    problem = Gaussian.draw(4, 0)
    names = "ours, pathwise", "ours, marginal expectation"
    one, other = (estimates(problem, "squares", name, random.key(0), 50) for name in names)
    np.testing.assert_allclose(one[:, :4], other[:, :4], atol=1e-12)
    assert jnp.abs(one[:, 4:] - other[:, 4:]).max() > 0.1


def test_short(tmp_path):
    runs = main(["--short", "--only", "marginal", "--folder", str(tmp_path)])
    assert set(runs["law"]) == {Gaussian.name, Subset.name} == set(ESTIMATORS)
    assert runs[["bias", "variance", "error"]].notna().all(axis=None)
    assert "marginal expectation" in (tmp_path / "gradient_estimators.md").read_text()
    assert (tmp_path / "gradient_estimators.png").exists()
