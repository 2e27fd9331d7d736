"""Exact gradients are exact, and estimators that claim to be unbiased are."""

from itertools import combinations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy import stats

from experiments.gradient_estimators.__main__ import main
from experiments.gradient_estimators.estimators import OBJECTIVES, estimates
from experiments.gradient_estimators.problems import Gaussian, Subset
from tests.chance import assert_likely, of_means
from tutorials.subsets import Problem as TenBits

N = 6
STEP = 1e-5


def finite_differences(function, at):
    steps = STEP * np.eye(at.size)
    return np.array([function(at + step) - function(at - step) for step in steps]) / (2 * STEP)


def subset_loss(problem, loss):
    """Expected loss by enumeration, as a function of the logits."""
    chosen = [list(items) for items in combinations(range(N), N // 2)]
    bits = np.array([[float(i in items) for i in range(N)] for items in chosen])
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


def test_the_tutorial_asks_the_same():
    problem = Subset.draw(10, 3)
    tutorial = TenBits(np.asarray(problem.parameters), np.asarray(problem.target))
    found = problem.exact_gradient("squares")
    np.testing.assert_allclose(found, tutorial.exact_gradient(), rtol=1e-9)


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
    Subset: ("ours, score function", "score function, centred"),
}


@pytest.mark.parametrize(("law", "name"), [(law, n) for law in UNBIASED for n in UNBIASED[law]])
def test_unbiased(law, name):
    """The mean of many estimates is the gradient."""
    problem = law.draw(3 if law is Gaussian else 4, 1)
    found = np.asarray(estimates(problem, "mixed squares", name, random.key(0), 20_000))
    assert_likely(of_means(found, np.asarray(problem.exact_gradient("mixed squares"))))


def test_in_loc_pathwise_and_marginal_expectation_are_the_same():
    """They differ in the scale alone."""
    problem = Gaussian.draw(4, 0)
    names = "ours, pathwise", "ours, marginal expectation"
    one, other = (estimates(problem, "squares", name, random.key(0), 50) for name in names)
    np.testing.assert_allclose(one[:, :4], other[:, :4], atol=1e-12)
    assert jnp.abs(one[:, 4:] - other[:, 4:]).max() > 0.1


def test_short(tmp_path):
    runs = main(["--short", "--only", "marginal", "--folder", str(tmp_path)])
    assert set(runs["law"]) == {Gaussian.name, Subset.name} == set(OBJECTIVES)
    assert runs[["bias", "variance", "error"]].notna().all(axis=None)
    assert "marginal expectation" in (tmp_path / "gradient_estimators.md").read_text()
    assert (tmp_path / "gradient_estimators.png").exists()
