"""Moments, entropy, expected losses and divergences of the constrained law."""

from dataclasses import replace

import numpy as np
import pytest

from tests import oracles
from tests.adapters import (
    assert_close,
    assert_close_in,
    each_backend,
    each_case,
    each_law,
    shared_law,
)
from tests.cases import CASES, COMPILED, GAUSSIAN, Case, named, select


@each_law(CASES, COMPILED)
def test_mean(backend, case):
    expected = case.expected(oracles.mean, event_shape=(case.n,))
    found = backend.value(shared_law(backend, case), "mean")
    assert_close_in(case.unit, found, expected, 1e-10)


@each_law(CASES, COMPILED)
def test_variance_and_stddev(backend, case):
    law = shared_law(backend, case)
    expected = case.expected(oracles.variance, event_shape=(case.n,))
    found = backend.value(law, "variance")
    assert_close_in(case.unit**2, found, expected, 1e-10)
    assert np.all(found >= 0)
    assert_close_in(case.unit**2, backend.value(law, "stddev") ** 2, found, 1e-12)


@each_law(CASES, COMPILED)
def test_covariance(backend, case):
    expected = case.expected(oracles.covariance, event_shape=(case.n, case.n))
    found = backend.value(shared_law(backend, case), "covariance")
    assert_close_in(case.unit**2, found, expected, 1e-10)


@each_law(CASES, COMPILED)
def test_entropy(backend, case):
    found = backend.value(shared_law(backend, case), "entropy")
    assert_close(found, case.expected(oracles.entropy), 1e-10)


@each_law(CASES, COMPILED)
def test_rank(backend, case):
    ranks = {problem.rank for problem in case.problems.values()}
    assert {shared_law(backend, case).rank} >= ranks


LOSSES = select(
    "covariance-row", "covariance-full", "covariance-none", "diagonal-groups", "low_rank-ones",
    "diagonal-dense-large", "low_rank-row-small", "covariance-dense-batch_all",
)  # fmt: skip


@each_law(LOSSES, COMPILED)
@pytest.mark.parametrize("loss", ["expected_l1", "expected_l2", "crps"])
def test_expected_losses(backend, case, loss, rng):
    law = shared_law(backend, case)
    target = case.unit * rng.normal(size=(*case.batch_shape, case.n))
    expected = case.expected(getattr(oracles, loss), target, event_shape=(case.n,))
    unit = case.unit**2 if loss == "expected_l2" else case.unit
    assert_close_in(unit, backend.loss(law, loss, target), expected, 1e-10)


@each_backend
@each_case(select("student_tril-row", "student_scale-weighted_groups", "student_tril-dense-outer"))
def test_student_expected_l2(backend, case, rng):
    target = rng.normal(size=(*case.batch_shape, case.n))
    expected = case.expected(oracles.expected_l2, target, event_shape=(case.n,))
    found = backend.loss(shared_law(backend, case), "expected_l2", target)
    assert_close(found, expected, 1e-10)


@each_backend
def test_losses_far_from_and_at_a_determined_value(backend):
    """A group of one is determined: variance 0, and the loss is the distance."""
    case = named("diagonal-groups")
    (problem,) = case.problems.values()
    target = oracles.mean(problem) + np.array([0.25, 60.0, -60.0, 0.0, 1.0])
    for loss in ("expected_l1", "crps"):
        expected = getattr(oracles, loss)(problem, target)
        found = backend.loss(shared_law(backend, case), loss, target)
        assert_close(found, expected, 1e-10)
        assert found[0] == pytest.approx(0.25, rel=1e-10)


def _other(case: Case) -> Case:
    """The same family on the same subspace with other parameters."""
    name = case.covariance_name
    factor = 0.5 if name == "precision_matrix" else 1.5
    changed = {"loc": case.params["loc"] + 0.25 * case.unit, name: factor * case.params[name]}
    return case.with_params(**changed)


KL_CASES = tuple(case for case in GAUSSIAN if case.name != "covariance-dense-empty_batch")


@each_law(KL_CASES, COMPILED)
def test_kl(backend, case):
    other = _other(case)
    law = shared_law(backend, case)
    found = backend.numpy(backend.kl(law, backend.law(other)))
    pairs = [oracles.kl(case.problems[i], other.problems[i]) for i in np.ndindex(case.batch_shape)]
    assert_close(found, np.reshape(pairs, case.batch_shape), 1e-10)
    assert_close(backend.numpy(backend.kl(law, law)), np.zeros(case.batch_shape), 1e-10)


@each_backend
@pytest.mark.parametrize(
    ("first", "second"),
    [("covariance-dense", "diagonal-dense"), ("low_rank-groups", "diagonal-groups")],
)
def test_kl_across_families(backend, first, second):
    """Two Gaussians on one subspace, whatever the way to give their covariances."""
    p, q = named(first), named(second)
    q = replace(q, A=p.A, k=p.k)
    for one, other in ((p, q), (q, p)):
        found = backend.numpy(backend.kl(backend.law(one), backend.law(other)))
        assert_close(found, oracles.kl(one.problems[()], other.problems[()]), 1e-10)
