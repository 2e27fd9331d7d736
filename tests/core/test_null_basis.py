"""Bases of the null space: orthonormal, inside it, continuous in the followers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from scipy import linalg

from constrained_core import GroupSum, plan_constraint
from constrained_core.linear.plan import DensePlan
from constrained_core.linear.structure import BlockReflector, complementary_basis, first_members
from tests.core.matrices import MATRICES, Known, scaled_matrices

DENSE = {name: known for name, known in MATRICES.items() if known.rank != 1}


def basis_matrix(followers: np.ndarray) -> np.ndarray:
    """The basis ``(n, n - r)`` in the order of pivots, then the others."""
    basis = complementary_basis(followers)
    if isinstance(basis, BlockReflector):
        size = sum(followers.shape)
        return (np.eye(size) - basis.vectors @ basis.kernel @ basis.vectors.T)[:, len(followers) :]
    return basis


def null_space(plan: DensePlan) -> np.ndarray:
    return basis_matrix(plan.followers)[plan.place]


def check_basis(plan: DensePlan) -> None:
    basis, tolerance = null_space(plan), 1e-14 * max(4, plan.num_variables)
    assert basis.shape == (plan.num_variables, plan.free_size)
    np.testing.assert_allclose(basis.T @ basis, np.eye(plan.free_size), atol=tolerance)
    np.testing.assert_allclose(plan.rows @ basis, 0.0, atol=tolerance)


@pytest.mark.parametrize("known", DENSE.values(), ids=DENSE)
def test_basis(known: Known):
    check_basis(plan_constraint(known.matrix))


@given(matrix=scaled_matrices())
def test_basis_of_random_rows(matrix: np.ndarray):
    plan = plan_constraint(matrix)
    if isinstance(plan, DensePlan):
        check_basis(plan)


ALL = {name: known.matrix for name, known in MATRICES.items()}
ALL |= {"groups": GroupSum([1, 0, 1, 0], 2), "weighted": GroupSum([1, 0, 1, 0], 2, [2, 0, 3, 4])}


@pytest.mark.parametrize("matrix", ALL.values(), ids=ALL)
def test_elimination(matrix):
    """One free variable is 1, the others 0, and the rows hold."""
    plan = plan_constraint(matrix)
    basis = plan.elimination
    dense = matrix.to_dense() if isinstance(matrix, GroupSum) else matrix
    np.testing.assert_array_equal(basis[plan.free], np.eye(plan.free_size))
    size = np.abs(dense) @ np.abs(basis)
    assert (np.abs(dense @ basis) <= 1e-13 * size + 1e-300).all()


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
    plan = plan_constraint(sign * np.eye(6)[axes])
    check_basis(plan)
    free = np.setdiff1d(np.arange(6), axes)
    basis = null_space(plan)
    assert (basis[axes] == 0).all(), "exact zeros where the constraint holds a variable"
    np.testing.assert_allclose(basis[free] @ basis[free].T, np.eye(len(free)), atol=1e-15)


def test_no_rows_leave_everything():
    plan = plan_constraint(np.zeros((0, 4)))
    np.testing.assert_array_equal(null_space(plan), np.eye(4))


def test_the_basis_is_made_once():
    plan = plan_constraint(MATRICES["random"].matrix)
    assert plan.null_basis is plan.null_basis


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (2, 3), (3, 2), (5, 1), (3, 20)])
def test_the_basis_is_continuous_in_the_followers(shape: tuple[int, int], rng):
    """Also where they are large, or change their sign."""
    first, last = rng.normal(size=(2, *shape)) * 10.0 ** rng.uniform(-3, 3, shape)
    steps = np.linspace(0, 1, 400)
    path = [basis_matrix(first + t * (last - first)) for t in steps]
    coarse = max(np.abs(b - a).max() for a, b in itertools.pairwise(path))
    for start in np.argsort([np.abs(b - a).max() for a, b in itertools.pairwise(path)])[-3:]:
        low, high = steps[start], steps[start + 1]
        for _ in range(40):  # where a jump would stay
            middle = (low + high) / 2
            ends = [basis_matrix(first + t * (last - first)) for t in (low, middle, high)]
            left, right = (np.abs(b - a).max() for a, b in itertools.pairwise(ends))
            low, high = (low, middle) if left > right else (middle, high)
        assert max(left, right) < 1e-6 * max(1.0, coarse)


def test_first_members_skip_zero_weights():
    index, weights = np.array([1, 0, 1, 0]), np.array([0.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(first_members(index, None, 2), [1, 0])
    np.testing.assert_array_equal(first_members(index, weights, 2), [1, 2])
