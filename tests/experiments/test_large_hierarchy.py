"""The hierarchy has the shape of M5, and laws agree with published programs and dense algebra."""

import numpy as np
import pytest

from experiments.large_hierarchy.__main__ import main
from experiments.large_hierarchy.methods import (
    CORRELATION,
    METHODS,
    OURS,
    blocks,
    diagonal,
    low_rank,
)
from experiments.large_hierarchy.problem import make


@pytest.fixture(scope="module")
def problem():
    return make(1)


def test_the_shape_of_m5(problem):
    assert make(10).hierarchy.A.shape == (12_350, 42_840)
    assert problem.hierarchy.A.shape == (11, 3060)
    residual = problem.hierarchy.A.to_scipy() @ problem.truth
    np.testing.assert_allclose(residual, 0.0, atol=1e-9)


def dense_mean(problem, covariance):
    A = problem.hierarchy.A.to_dense()
    gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T)
    return problem.mean - gain @ A @ problem.mean


@pytest.mark.parametrize("build", [diagonal, low_rank])
def test_means_are_those_of_dense_algebra(build, problem):
    law = build(problem)
    covariance = np.diag(problem.scale**2)
    if build is low_rank:
        factor = law.cov_factor.detach().numpy()
        covariance = covariance + factor @ factor.T
    expected = dense_mean(problem, covariance)
    np.testing.assert_allclose(law.mean.detach(), expected, rtol=0, atol=1e-9 * expected.max())


def test_blocks_are_correlations_of_an_item():
    law = blocks(make(2))
    last_item = law.precision_matrix.to_scipy()[-2:, -2:].toarray()
    expected = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])  # scales of the bottom are one
    np.testing.assert_allclose(np.linalg.inv(last_item), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["hierarchicalforecast, MinT", "bayesreconpy, Gaussian"])
def test_published_programs_have_the_same_mean(method, problem):
    ours, other = METHODS[OURS](problem), METHODS[method](problem)
    np.testing.assert_allclose(ours.mean, other.mean, rtol=0, atol=1e-10 * ours.mean.max())
    assert ours.residual < 4 * np.finfo(float).eps


def test_a_short_run(tmp_path):
    runs = main(["--short", "--only", "ours", "--folder", str(tmp_path)])
    assert (runs["residual"] < 4 * np.finfo(float).eps).all()
    assert (tmp_path / "large_hierarchy.md").exists()
