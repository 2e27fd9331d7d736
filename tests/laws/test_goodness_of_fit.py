"""Draws follow the law: in whitened coordinates of the subspace."""

import numpy as np
from scipy import linalg, stats

from tests import oracles
from tests.adapters import each_backend, each_case, shared_law
from tests.cases import REPRESENTATIVE, select

DRAWS = 4000
SMALLEST_P = 1e-4

FITTED = REPRESENTATIVE + select(
    "covariance-redundant", "diagonal-empty_group", "low_rank-ones", "covariance-row-surprising",
    "student_scale-row-surprising", "student_tril-none", "covariance-batched",
)  # fmt: skip


def _whitened(backend, case):
    """For each problem of the batch, its draws in coordinates of identity shape matrix."""
    draws = backend.draws(shared_law(backend, case), seed=7, shape=(DRAWS,))
    for index, problem in case.problems.items():
        reduced = problem.coordinates(draws[(slice(None), *index)]) - problem.centre
        root = np.linalg.cholesky(problem.shape)
        yield problem, linalg.solve_triangular(root, reduced.T, lower=True).T


@each_backend
@each_case(FITTED)
def test_marginals_and_radius(backend, case):
    """Each coordinate is a normal or t; the squared radius a chi-square or F."""
    for problem, white in _whitened(backend, case):
        df, size = problem.conditional_df, problem.dimension
        marginal = stats.norm() if np.isinf(df) else stats.t(df)
        radius = stats.chi2(size) if np.isinf(df) else stats.f(size, df, scale=size)
        for coordinate in white.T:
            assert stats.kstest(coordinate, marginal.cdf).pvalue > SMALLEST_P
        assert stats.kstest(np.sum(white**2, axis=-1), radius.cdf).pvalue > SMALLEST_P


@each_backend
@each_case(FITTED)
def test_first_two_moments(backend, case):
    for problem, white in _whitened(backend, case):
        df = problem.conditional_df
        spread = 1.0 if np.isinf(df) else df / (df - 2)
        kurtosis = 3.0 if np.isinf(df) else 3 * (df - 2) / (df - 4)
        error = spread * np.sqrt(kurtosis / DRAWS)
        np.testing.assert_allclose(white.mean(axis=0), 0, atol=5 * np.sqrt(spread / DRAWS))
        second = white.T @ white / DRAWS
        np.testing.assert_allclose(second, spread * np.eye(problem.dimension), atol=5 * error)


@each_backend
@each_case(select("covariance-dense-batch_all"))
def test_batch_elements_are_independent(backend, case):
    white = np.stack([z for _, z in _whitened(backend, case)])
    flat = white.transpose(1, 0, 2).reshape(DRAWS, -1)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[-1])
    assert np.abs(correlation).max() < 5 / np.sqrt(DRAWS)


def test_the_oracle_whitens_its_own_draws(rng):
    """The check itself: points drawn by the oracle pass."""
    (case,) = select("covariance-dense")
    (problem,) = case.problems.values()
    draws = np.stack([oracles.point(problem, rng) for _ in range(500)])
    reduced = problem.coordinates(draws) - problem.centre
    white = np.linalg.solve(np.linalg.cholesky(problem.shape), reduced.T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3
