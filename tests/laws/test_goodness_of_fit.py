"""Draws follow the law: in whitened coordinates of the subspace."""

import numpy as np
from scipy import linalg, stats

from tests import oracles
from tests.adapters import each_backend, each_case, each_law, shared_law
from tests.cases import COMPILED, REPRESENTATIVE, select
from tests.chance import assert_likely, of_correlations, of_moments

DRAWS = 4000

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


@each_law(FITTED, COMPILED)
def test_marginals_and_radius(backend, case):
    """Each coordinate is a normal or t; the squared radius a chi-square or F."""
    p_values = []
    for problem, white in _whitened(backend, case):
        df, size = problem.conditional_df, problem.dimension
        marginal = stats.norm() if np.isinf(df) else stats.t(df)
        radius = stats.chi2(size) if np.isinf(df) else stats.f(size, df, scale=size)
        p_values += [stats.kstest(coordinate, marginal.cdf).pvalue for coordinate in white.T]
        p_values.append(stats.kstest(np.sum(white**2, axis=-1), radius.cdf).pvalue)
    assert_likely(p_values)


@each_law(FITTED, COMPILED)
def test_first_two_moments(backend, case):
    p_values = []
    for problem, white in _whitened(backend, case):
        df, size = problem.conditional_df, problem.dimension
        spread = 1.0 if np.isinf(df) else df / (df - 2)
        p_values.append(of_moments(white, np.zeros(size), spread * np.eye(size), df=df))
    assert_likely(*p_values)


@each_backend
@each_case(select("covariance-dense-batch_all"))
def test_batch_elements_are_independent(backend, case):
    white = np.stack([z for _, z in _whitened(backend, case)])
    assert_likely(of_correlations(white.transpose(1, 0, 2).reshape(DRAWS, -1)))


def test_the_oracle_whitens_its_own_draws(rng):
    """The check itself: points drawn by the oracle pass."""
    (case,) = select("covariance-dense")
    (problem,) = case.problems.values()
    draws = np.stack([oracles.point(problem, rng) for _ in range(500)])
    reduced = problem.coordinates(draws) - problem.centre
    white = np.linalg.solve(np.linalg.cholesky(problem.shape), reduced.T)
    assert_likely(stats.kstest(white.ravel(), "norm").pvalue)
