"""Scaled rows, the executed basis and the triangle between them."""

import numpy as np
import pytest
from hypothesis import given
from scipy import linalg

from constrained_core import plan_constraint
from constrained_core.linear.plan import DensePlan
from constrained_core.linear.planner import WELL_CONDITIONED
from tests.core.matrices import MATRICES, Known, incidence, scaled_matrices

DENSE = {name: known for name, known in MATRICES.items() if known.rank != 1}
each_dense = pytest.mark.parametrize("known", DENSE.values(), ids=DENSE)


def check_relations(matrix: np.ndarray, plan: DensePlan) -> None:
    np.testing.assert_array_equal(plan.rows, matrix[plan.kept] * plan.row_scale[:, None])
    mantissa, _ = np.frexp(plan.row_scale)
    assert (mantissa == 0.5).all(), "scales are powers of two, so that scaling is exact"
    norms = np.linalg.norm(plan.rows, axis=-1)
    assert ((norms > 1 - 1e-15) & (norms < 2 + 1e-15)).all()
    assert plan.basis.shape == plan.rows.shape
    if plan.triangle is None:
        np.testing.assert_array_equal(plan.basis, plan.rows)
    else:
        assert (np.triu(plan.triangle, 1) == 0).all()
        np.testing.assert_allclose(plan.triangle @ plan.basis, plan.rows, atol=1e-14)
        np.testing.assert_allclose(plan.basis @ plan.basis.T, np.eye(plan.rank), atol=1e-14)


@each_dense
def test_rows_triangle_and_basis(known: Known):
    check_relations(known.matrix, plan_constraint(known.matrix))


@given(matrix=scaled_matrices())
def test_relations_of_random_rows(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if isinstance(plan, DensePlan):
        check_relations(matrix, plan)


@each_dense
def test_the_executed_basis_is_well_conditioned(known: Known):
    plan = plan_constraint(known.matrix)
    if plan.rank:
        assert np.linalg.cond(plan.basis) <= WELL_CONDITIONED * plan.rank


@each_dense
def test_the_basis_spans_the_rows(known: Known):
    plan = plan_constraint(known.matrix)
    if plan.rank:
        norms = np.linalg.norm(known.matrix, axis=-1, keepdims=True)
        rows = known.matrix / np.where(norms > 0, norms, 1.0)
        outside = rows @ linalg.null_space(plan.basis)
        np.testing.assert_allclose(outside, 0.0, atol=1e-14 * len(rows))


@pytest.mark.parametrize("name", ["axes", "margins", "duplicates"])
def test_well_conditioned_rows_are_executed_as_they_are(name: str):
    plan = plan_constraint(MATRICES[name].matrix)
    assert plan.triangle is None
    assert not plan.is_plain or plan.has_full_row_rank


@pytest.mark.parametrize("name", ["nearly parallel", "Vandermonde"])
def test_ill_conditioned_rows_are_orthonormalised(name: str):
    plan = plan_constraint(MATRICES[name].matrix)
    assert plan.triangle is not None
    assert not plan.is_plain


def test_plain_means_all_rows_as_they_are():
    assert plan_constraint(np.eye(3)[:2]).is_plain
    assert not plan_constraint(np.eye(3)[[0, 1, 1]]).is_plain


def test_a_path_is_sparse_in_its_basis():
    """Exact zeros of well conditioned rows survive."""
    plan = plan_constraint(incidence([(0, 1), (1, 2), (2, 3)], 4)[:2])
    assert np.count_nonzero(plan.basis) == 3


@pytest.mark.parametrize("gap", [1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e8, 1e-8)])
def test_nearly_parallel_rows_become_orthonormal(gap: float, scales: tuple[float, float], rng):
    row, step = rng.normal(size=(2, 30))
    plan = plan_constraint(np.stack([row, row + gap * step]) * np.array(scales)[:, None])
    np.testing.assert_allclose(plan.basis @ plan.basis.T, np.eye(2), atol=1e-14)
    direction = step - row * (row @ step) / (row @ row)
    inside = plan.basis @ (direction / np.linalg.norm(direction))
    assert np.linalg.norm(inside) == pytest.approx(1.0, abs=1e-14 / gap)
