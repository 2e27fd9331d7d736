"""The block reflector: orthogonal, with the null space in its last n - r columns."""

import numpy as np
import pytest
from hypothesis import given
from scipy import linalg

from constrained_core import plan_constraint
from constrained_core.plan import DensePlan
from constrained_core.structure import block_reflector, first_members, reflection_signs
from tests.core.matrices import MATRICES, Known, scaled_matrices

DENSE = {name: known for name, known in MATRICES.items() if known.rank != 1}


def reflector(plan: DensePlan) -> np.ndarray:
    vectors, kernel = plan.reflector_vectors, plan.reflector_kernel
    assert vectors.shape == (plan.num_variables, plan.rank)
    assert kernel.shape == (plan.rank, plan.rank)
    return np.eye(plan.num_variables) - vectors @ kernel @ vectors.T


def check_reflector(plan: DensePlan) -> None:
    matrix, rank = reflector(plan), plan.rank
    tolerance = 1e-14 * max(4, plan.num_variables)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(len(matrix)), atol=tolerance)
    basis, null_space = matrix[:, :rank], matrix[:, rank:]
    np.testing.assert_allclose(plan.rows @ null_space, 0.0, atol=tolerance)
    np.testing.assert_allclose(plan.rows @ basis @ basis.T, plan.rows, atol=tolerance)
    np.testing.assert_allclose(plan.null_basis, null_space, atol=tolerance)


@pytest.mark.parametrize("known", DENSE.values(), ids=DENSE)
def test_reflector(known: Known):
    check_reflector(plan_constraint(known.matrix))


@given(matrix=scaled_matrices())
def test_reflector_of_random_rows(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if isinstance(plan, DensePlan):
        check_reflector(plan)


@pytest.mark.parametrize("known", DENSE.values(), ids=DENSE)
def test_shortest_steps(known: Known):
    """They change one row each, and are shortest: inside the row space."""
    plan = plan_constraint(known.matrix)
    steps, gram = plan.right_inverse, plan.basis @ plan.basis.T
    np.testing.assert_allclose(gram @ plan.gram_inverse, np.eye(plan.rank), atol=1e-8)
    size = np.abs(plan.rows) @ np.abs(steps) + 1
    np.testing.assert_allclose((plan.rows @ steps - np.eye(plan.rank)) / size, 0.0, atol=1e-10)
    inside = plan.basis.T @ linalg.lstsq(plan.basis.T, steps)[0]
    np.testing.assert_allclose(steps, inside, atol=1e-12 * (1 + np.abs(steps).max(initial=0.0)))


AXES = {
    "first": [0, 1, 2],
    "last": [3, 4, 5],
    "reversed": [2, 1, 0],
    "mixed": [5, 0, 3],
    "all": [0, 1, 2, 3, 4, 5],
    "all reversed": [5, 4, 3, 2, 1, 0],
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rows_along_axes(axes: list[int], sign: float):
    """A product of plain Householder reflections would divide by zero here."""
    plan = plan_constraint(sign * np.eye(6)[axes])
    check_reflector(plan)
    free = np.setdiff1d(np.arange(6), axes)
    null_space = reflector(plan)[:, len(axes) :]
    assert (null_space[axes] == 0).all(), "exact zeros where the constraint holds a variable"
    np.testing.assert_allclose(null_space[free] @ null_space[free].T, np.eye(len(free)), atol=1e-15)


def test_no_rows_reflect_nothing():
    plan = plan_constraint(np.zeros((0, 4)))
    np.testing.assert_array_equal(reflector(plan), np.eye(4))


def test_the_reflector_is_made_once():
    plan = plan_constraint(MATRICES["random"].matrix)
    assert plan.reflector is plan.reflector


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (4, 4), (10, 200)])
def test_signs_allow_elimination_without_pivoting(shape: tuple[int, int], rng):
    rank, num_variables = shape
    orthonormal, _ = linalg.qr(rng.normal(size=(num_variables, rank)), mode="economic")
    top = orthonormal[:rank]
    signs = reflection_signs(top)
    assert (np.abs(signs) == 1).all()
    reduced = top - np.diag(signs)
    for i in range(rank):
        assert abs(reduced[i, i]) >= 1 - 1e-14
        reduced[i + 1 :] -= np.outer(reduced[i + 1 :, i] / reduced[i, i], reduced[i])


def test_signs_of_a_batch_are_those_of_its_members(rng):
    top = np.stack([linalg.qr(rng.normal(size=(8, 3)), mode="economic")[0][:3] for _ in range(6)])
    batched = reflection_signs(top.reshape(2, 3, 3, 3))
    np.testing.assert_array_equal(batched.reshape(6, 3), [reflection_signs(one) for one in top])


def test_kernel_is_well_conditioned(rng):
    for _ in range(20):
        reflected = block_reflector(rng.normal(size=(8, 12)))
        assert np.linalg.cond(reflected.kernel) < 100


def test_first_members_skip_zero_weights():
    index, weights = np.array([1, 0, 1, 0]), np.array([0.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(first_members(index, None, 2), [1, 0])
    np.testing.assert_array_equal(first_members(index, weights, 2), [1, 2])
