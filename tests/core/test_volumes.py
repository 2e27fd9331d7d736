"""``log_volume`` and ``log_range_volume``, also where rows differ by orders of magnitude."""

import numpy as np
import pytest
from hypothesis import given

from constrained_core import GroupSum, plan_constraint
from constrained_core.linear.plan import GroupPlan, Plan, RowPlan
from tests.core import exact
from tests.core.matrices import MATRICES, Known, integer_matrices, scaled_matrices

POSITIVE = {name: known for name, known in MATRICES.items() if known.rank}
BADLY_SCALED = {"badly scaled rows", "badly scaled and redundant", "axes", "one row thrice"}


def executed_rows(plan: Plan) -> np.ndarray:
    """B, dense."""
    if isinstance(plan, RowPlan):
        return np.ones((1, plan.num_variables)) if plan.weights is None else plan.weights[None]
    if isinstance(plan, GroupPlan):
        return GroupSum(plan.index, plan.rank, plan.weights).to_dense()
    return plan.basis


@pytest.mark.parametrize("name", POSITIVE)
def test_volume_of_the_executed_rows(name: str):
    plan = plan_constraint(MATRICES[name].matrix)
    rows = executed_rows(plan)
    _, log_det = np.linalg.slogdet(rows @ rows.T)
    assert plan.log_volume == pytest.approx(0.5 * log_det, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in POSITIVE if name not in BADLY_SCALED])
def test_range_volume_is_that_of_the_svd(name: str):
    """The SVD itself is right only where rows are comparable; the others are below."""
    known = MATRICES[name]
    values = np.linalg.svd(known.matrix, compute_uv=False)[: known.rank]
    expected, found = np.log(values).sum(), plan_constraint(known.matrix).log_range_volume
    assert found == pytest.approx(expected, abs=max(1e-12, known.rounding))


@given(matrix=integer_matrices())
def test_range_volume_of_integers(matrix: np.ndarray):
    check_range_volume(matrix)


@given(matrix=scaled_matrices())
def test_range_volume_of_badly_scaled_rows(matrix: np.ndarray):
    check_range_volume(matrix)


def check_range_volume(matrix: np.ndarray) -> None:
    expected = exact.half_log_pdet(matrix) if exact.rank(matrix) else 0.0
    assert plan_constraint(matrix).log_range_volume == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_range_volume_scales_with_the_rank(scale: float):
    for known in POSITIVE.values():
        one, other = (plan_constraint(known.matrix * factor) for factor in (1.0, scale))
        change, tolerance = known.rank * np.log(scale), max(1e-12, known.rounding)
        assert other.log_range_volume - one.log_range_volume == pytest.approx(change, abs=tolerance)


def test_range_volume_of_duplicates_is_that_of_their_norm():
    """d copies of a row are one row of sqrt(d) times its length."""
    row = np.array([1.0, 2.0, -2.0])
    plan = plan_constraint(np.stack([row, row, row, row]))
    assert plan.log_range_volume == pytest.approx(np.log(6.0), rel=1e-15)


def test_a_tiny_copy_of_a_large_row_counts_as_nothing():
    row = np.random.default_rng(0).normal(size=6)
    both = plan_constraint(np.stack([1e-8 * row, 1e8 * row])).log_range_volume
    assert both == pytest.approx(np.log(1e8 * np.linalg.norm(row)), rel=1e-14)


def test_volume_does_not_depend_on_the_order_of_rows(rng):
    matrix = MATRICES["badly scaled and redundant"].matrix
    expected = plan_constraint(matrix).log_range_volume
    for _ in range(10):
        shuffled = plan_constraint(rng.permutation(matrix))
        assert shuffled.log_range_volume == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("known", [Known(np.zeros((0, 3)), 0), Known(np.zeros((4, 3)), 0)])
def test_volume_of_nothing_is_one(known: Known):
    plan = plan_constraint(known.matrix)
    assert (plan.log_volume, plan.log_range_volume) == (0.0, 0.0)
