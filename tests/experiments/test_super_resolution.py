"""Fine images from noisy block sums: the closed form, the guide's moments, and a fit."""

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats

from constrained_core import GroupSum
from experiments.super_resolution.__main__ import LEARNED, main
from experiments.super_resolution.inference import Reconstruction, learn
from experiments.super_resolution.problem import Problem, make_problem
from experiments.super_resolution.report import score
from experiments.super_resolution.settings import Settings
from tests.chance import assert_likely, of_means

SMALL = Settings().shortened()


def make_small(rng, num_images):
    """Four pixels in two blocks."""
    root = np.tril(rng.normal(size=(4, 4))) + 2 * np.eye(4)
    A = GroupSum([0, 0, 1, 1], 2)
    images = rng.multivariate_normal(np.ones(4), root @ root.T, num_images)
    readings = images @ A.to_dense().T + 0.3 * rng.normal(size=(num_images, 2))
    return Problem(images, readings, A, np.ones(4), root @ root.T, 2)


@pytest.fixture
def small(rng):
    return make_small(rng, 3)


def test_posterior_by_precisions(small):
    precision = np.linalg.inv(small.covariance) + small.rows.T @ small.rows / 0.3**2
    covariance = np.linalg.inv(precision)
    pull = np.linalg.solve(small.covariance, small.mean) + small.readings @ small.rows / 0.3**2
    found = small.posterior(0.3)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10)
    np.testing.assert_allclose(found.mean, pull @ covariance, rtol=1e-10)


def test_without_noise_the_sums_hold(small):
    found = small.posterior(0.0)
    np.testing.assert_allclose(found.mean @ small.rows.T, small.readings, rtol=1e-10)
    np.testing.assert_allclose(small.rows @ found.covariance, 0.0, atol=1e-12)


def test_likeliest_noise_is_a_maximum(rng):
    problem = make_small(rng, 200)
    noise = problem.likeliest_noise
    others = [problem.log_evidence(factor * noise) for factor in (0.5, 0.9, 1.1, 2.0)]
    assert max(others) < problem.log_evidence(noise)


def test_evidence_lower_bound_is_tight_at_the_posterior(small):
    """With the guide at the closed form, every draw of model over guide is the evidence."""
    pyro.clear_param_store()
    reconstruction = Reconstruction(small)
    noise = 0.3
    spread = small.rows @ small.covariance @ small.rows.T
    gain = spread @ np.linalg.inv(spread + noise**2 * np.eye(2))
    expected = small.rows @ small.mean
    values = {
        "noise": np.array(noise),
        "mean of k": expected + (small.readings - expected) @ gain.T,
        "factor of k": np.linalg.cholesky(spread - gain @ spread),
        "mean of x": small.mean,
        "factor of x": np.linalg.cholesky(small.covariance),
    }
    with torch.no_grad():
        reconstruction.guide(), reconstruction.noise()
    for name, value in values.items():
        pyro.get_param_store()[name] = torch.as_tensor(value)
    guide = poutine.trace(reconstruction.guide).get_trace()
    model = poutine.trace(poutine.replay(reconstruction.model, guide)).get_trace()
    found = (model.log_prob_sum() - guide.log_prob_sum()).item() / len(small.readings)
    assert found == pytest.approx(small.log_evidence(noise), rel=1e-9)
    posterior, exact = reconstruction.posterior(), small.posterior(noise)
    np.testing.assert_allclose(posterior.mean, exact.mean, rtol=1e-9)
    np.testing.assert_allclose(posterior.covariance, exact.covariance, rtol=1e-8, atol=1e-10)


def test_moments_are_those_of_draws(small):
    found, _ = learn(small, replace(SMALL, steps=20), seed=0)
    x, violation = found.draws(20_000)
    assert violation < 1e-12
    posterior = found.posterior()
    products = np.einsum("sni,snj->snij", x - posterior.mean, x - posterior.mean)
    assert_likely(of_means(x.reshape(len(x), -1), posterior.mean.ravel()))
    expected = np.broadcast_to(posterior.covariance, products.shape[1:]).ravel()
    assert_likely(of_means(products.reshape(len(x), -1), expected))


def test_guide_finds_the_posterior(small):
    settings = replace(SMALL, steps=300)
    found, bounds = learn(small, settings, seed=0)
    noise = found.noise().item()
    figures = score(found.posterior(), small.posterior(noise), small.images)
    assert figures["mean"] < 0.3 and figures["deviation"] < 0.1
    assert bounds[-100:].mean() < small.log_evidence(small.likeliest_noise) + 0.05
    assert bounds[-100:].mean() > small.log_evidence(noise) - 0.1


def test_problem_is_read_from_test_digits():
    problem = make_problem(SMALL, 0)
    assert problem.images.shape == (20, 64) and problem.readings.shape == (20, 16)
    errors = problem.readings - problem.images @ problem.rows.T
    total = np.square(errors / SMALL.noise).sum()
    law = stats.chi2(errors.size)
    assert_likely(2 * min(law.cdf(total), law.sf(total)))


def test_short_run_goes_on_where_it_was(tmp_path):
    arguments = ["--short", "--folder", str(tmp_path)]
    frame = main(arguments)
    assert frame.loc[frame["method"] == LEARNED, "violation"].max() < 1e-12
    again = main(arguments)
    assert again.equals(frame)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}
