"""The oracles agree with each other; no library code runs here."""

import numpy as np
import pytest
from scipy import stats

from tests import oracles
from tests.cases import CASES, GAUSSIAN, Case, select


def _nonempty(cases):
    return [case for case in cases if case.problems]


@pytest.mark.parametrize("case", _nonempty(GAUSSIAN), ids=repr)
def test_gaussian_densities_agree(case: Case, rng):
    for x in case.points(rng):
        reduced = case.expected(oracles.log_prob, x)
        singular = case.expected(oracles.log_prob_allow_singular, x)
        np.testing.assert_allclose(reduced, singular, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", _nonempty(CASES), ids=repr)
def test_joint_density_factorises(case: Case, rng):
    """Base density = constraint density x stretch of A x conditional density."""

    def joint(problem, x):
        return problem.base().logpdf(x)

    def factors(problem, x):
        constraint = oracles.constraint_log_prob(problem) + problem.log_volume
        return constraint + oracles.log_prob(problem, x)

    for x in case.points(rng):
        np.testing.assert_allclose(
            case.expected(joint, x), case.expected(factors, x), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("case", _nonempty(GAUSSIAN), ids=repr)
def test_moments_agree_with_kriging(case: Case):
    for problem in case.problems.values():
        basis = problem.row_space
        gain = problem.cov @ basis @ np.linalg.inv(basis.T @ problem.cov @ basis)
        mean = problem.loc + gain @ (basis.T @ (problem.origin - problem.loc))
        cov = problem.cov - gain @ basis.T @ problem.cov
        size = np.abs(problem.cov).max()
        np.testing.assert_allclose(oracles.mean(problem), mean, rtol=1e-10, atol=1e-10 * size**0.5)
        np.testing.assert_allclose(oracles.covariance(problem), cov, atol=1e-11 * size)


@pytest.mark.parametrize(
    "case", select("covariance-redundant", "covariance-dense", "diagonal-incidence"), ids=repr
)
def test_constraint_density_is_that_of_scipy(case: Case):
    (problem,) = case.problems.values()
    A, cov = problem.A, problem.cov
    law = stats.multivariate_normal(A @ problem.loc, A @ cov @ A.T, allow_singular=True)
    assert oracles.constraint_log_prob(problem) == pytest.approx(law.logpdf(problem.k), rel=1e-10)


STUDENT_BY_QUADRATURE = select(
    "student_tril-redundant", "student_scale-dense", "student_tril-dense-large"
)


@pytest.mark.parametrize("case", STUDENT_BY_QUADRATURE, ids=repr)
def test_student_closed_form_is_the_ratio_of_densities(case: Case, rng):
    for problem in case.problems.values():
        if problem.dimension > 2:
            problem = _fewer_dimensions(problem)
        x = oracles.point(problem, rng)
        assert oracles.log_prob(problem, x) == pytest.approx(
            oracles.log_prob_by_quadrature(problem, x), rel=1e-10
        )
        evidence = oracles.constraint_log_prob(problem) + problem.log_volume
        assert evidence == pytest.approx(oracles.log_evidence_by_quadrature(problem), rel=1e-10)


def _fewer_dimensions(problem: oracles.Problem) -> oracles.Problem:
    """The same law with one more coordinate held."""
    row = np.eye(problem.loc.size)[:1]
    A = np.concatenate([problem.A, row])
    k = np.append(problem.k, problem.loc[0])
    return oracles.Problem(problem.loc, problem.cov, A, k, problem.df)


def test_student_entropy_by_quadrature():
    (case,) = select("student_scale-dense")
    (problem,) = case.problems.values()
    line = _fewer_dimensions(problem)
    assert line.dimension == 1
    assert oracles.entropy(line) == pytest.approx(oracles.entropy_by_quadrature(line), rel=1e-10)


def test_losses_have_their_closed_forms(rng):
    (case,) = select("covariance-dense")
    (problem,) = case.problems.values()
    target = rng.normal(size=case.n)
    mean, std = oracles.mean(problem), oracles.stddev(problem)
    w = (target - mean) / std
    l1 = std * (w * (2 * stats.norm.cdf(w) - 1) + 2 * stats.norm.pdf(w))
    np.testing.assert_allclose(oracles.expected_l1(problem, target), l1, rtol=1e-11)
    np.testing.assert_allclose(oracles.crps(problem, target), l1 - std / np.sqrt(np.pi), rtol=1e-11)


def test_kl_is_the_expected_log_ratio(rng):
    (case,) = select("covariance-dense")
    (p,) = case.problems.values()
    q = oracles.Problem(p.loc + 0.5, p.cov + np.eye(case.n), p.A, p.k)
    basis = np.linalg.cholesky(p.shape)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    z = oracles._grid(nodes, p.dimension)
    weight = np.prod(oracles._grid(weights / weights.sum(), p.dimension), axis=-1)
    x = oracles.mean(p) + z @ basis.T @ p.null_space.T
    ratio = [oracles.log_prob(p, row) - oracles.log_prob(q, row) for row in x]
    assert oracles.kl(p, q) == pytest.approx(weight @ ratio, rel=1e-10)
