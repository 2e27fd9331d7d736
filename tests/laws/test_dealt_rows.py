"""Rows that are dealt out unit by unit, where cell after cell is past the budget."""

import numpy as np
import pytest
from scipy import special, stats

from constrained_core import IntractableConstraintError, count_fiber
from constrained_core.fiber import planner
from constrained_core.fiber.trellis_builder import _Columns
from tests.adapters import assert_close, each_backend, each_law, each_quick_backend
from tests.discrete_cases import POISSON, DiscreteCase
from tests.finite_differences import slope_at
from tests.laws.test_structural_zeros import plan_of, table

TIGHT = 1e-10
RNG = np.random.default_rng(8)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch):
    """Whatever the budget."""
    plain = _Columns.trellis

    def trellis(columns, stage=None, deals=None):
        if stage is None:
            raise IntractableConstraintError("cell after cell")
        return plain(columns, stage, deals)

    def forget():
        planner._CALLS._entries.clear()
        planner._PLANS._entries.clear()

    monkeypatch.setattr(_Columns, "trellis", trellis)
    forget()
    yield
    forget()


def case_of(name: str, shape, zeros: bool, batch: tuple[int, ...] = (), sums=None) -> DiscreteCase:
    rate = RNG.gamma(2.0, 0.7, (*batch, *shape))
    x = RNG.poisson(0.3, shape)
    x[np.arange(shape[0]), np.arange(1, shape[0] + 1) % shape[1]] += 1
    if sums is not None:
        x = RNG.multinomial(sums, np.ones(shape[1]) / shape[1])
    if zeros:
        rate[..., np.arange(min(shape)), np.arange(min(shape))] = 0
        np.fill_diagonal(x, 0)
    A = table(*shape)
    rate = rate.reshape(*batch, -1)
    return DiscreteCase(name, POISSON, {"rate": rate}, A, A @ x.ravel())


ZEROS = case_of("zeros", (4, 4), True)
BATCH = case_of("batch", (4, 3), False, (2,))
CASES = (
    case_of("tall", (5, 2), False),
    case_of("empty", (4, 2), False, sums=[0, 3, 0, 1]),
    ZEROS,
    BATCH,
)


@each_law(CASES, (ZEROS,))
def test_quantities(backend, case, always):
    law = backend.law(case, validate_args=False)
    assert plan_of(law).trellis.deals or case.name == "empty"  # has no units to deal out
    for what in ("mean", "variance"):
        expected = case.expected(lambda p, what=what: getattr(p, what), event_shape=(case.n,))
        assert_close(backend.value(law, what), expected, TIGHT)
    for what, oracle in (("constraint_log_prob", "log_partition"), ("entropy", "entropy")):
        expected = case.expected(lambda p, oracle=oracle: getattr(p, oracle))
        assert_close(backend.value(law, what), expected, TIGHT)
    expected = case.expected(lambda p: p.covariance, event_shape=(case.n, case.n))
    assert_close(backend.value(law, "covariance"), expected, TIGHT)
    found = np.exp(backend.value(law, "marginal_log_prob"))
    expected = case.expected(
        lambda p: p.marginals(found.shape[-1]), event_shape=(case.n, found.shape[-1])
    )
    assert_close(found, expected, TIGHT)
    draws = backend.draws(law, 0, (200,))
    for index, problem in case.problems.items():
        drawn = draws[(slice(None), *index)]
        np.testing.assert_array_equal(drawn @ problem.A.T, np.tile(problem.k, (200, 1)))
        gap = np.abs(drawn.mean(0) - problem.mean)
        assert (gap <= 5 * np.sqrt(problem.variance / 200) + 1e-12).all()


@each_quick_backend
def test_derivatives(backend, always):
    """Also in rates of zero, which stay in the plan of a traced law."""
    (problem,) = ZEROS.problems.values()
    points = problem.points

    def ours(at):
        law = backend.law(ZEROS, **at)
        return (law.mean**2).sum() + law.constraint_log_prob()

    def oracle(rate):
        log_weights = stats.poisson.logpmf(points, rate).sum(-1)
        log_partition = special.logsumexp(log_weights)
        mean = np.exp(log_weights - log_partition) @ points
        return (mean**2).sum() + log_partition

    found = backend.gradients(ours, ZEROS.params)["rate"]
    expected = slope_at(oracle, problem.params)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@each_backend
def test_many_right_hand_sides(backend, always):
    """Their rows have different numbers of units: smaller ones pass."""
    k = np.stack([BATCH.k, BATCH.A @ RNG.poisson(0.5, BATCH.n)])
    case = DiscreteCase("", POISSON, {"rate": BATCH.params["rate"][0]}, BATCH.A, k)
    law = backend.law(case)
    for what in ("mean", "variance"):
        expected = case.expected(lambda p, what=what: getattr(p, what), event_shape=(case.n,))
        assert_close(backend.value(law, what), expected, TIGHT)


def test_counting_the_points_of_such_a_plan(always):
    plan = planner.plan_fiber(ZEROS.A, ZEROS.k, merge=True)
    with pytest.raises(IntractableConstraintError, match="too many to be counted"):
        count_fiber(plan, ZEROS.k)


def test_a_table_past_the_budget_cell_by_cell():
    """It has fewer transitions where a row is dealt out."""
    A = table(5, 5)[:, np.flatnonzero(~np.eye(5, dtype=bool))]
    k = np.array([7, 8, 6, 8, 9, 8, 7, 8, 8, 7])
    plain = planner.plan_fiber(A, k)
    dealt = planner.plan_fiber(A, k, merge=True, max_transitions=150_000)
    assert dealt.trellis.deals and not plain.trellis.deals
    assert dealt.trellis.num_transitions < plain.trellis.num_transitions / 1.5
