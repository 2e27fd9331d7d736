"""The usual cures against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from constrained_core import ConstraintError, GroupSum
from rivals import layers_torch

ROWS = np.array([[1.0, 2.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 1.0, 3.0]])
K = np.array([1.5, -0.5])
GROUPS = GroupSum([0, 1, 0, 1, 1], 2)
WEIGHED = GroupSum([0, 1, 0, 1, 1], 2, [1.0, 2.0, -1.0, 0.5, 3.0])
CASES = {"dense": torch.tensor(ROWS), "groups": GROUPS, "weighed": WEIGHED}
POINTS = np.random.default_rng(0).normal(size=(3, 5))


def dense(A):
    return A.to_dense() if isinstance(A, GroupSum) else A.numpy()


@pytest.fixture(params=CASES)
def A(request):
    return CASES[request.param]


def test_projection_is_the_nearest_point(A):
    found = layers_torch.projected(torch.tensor(POINTS), A, torch.tensor(K)).numpy()
    law = {"type": "eq", "fun": lambda x: dense(A) @ x - K}
    for point, nearest in zip(POINTS, found, strict=True):
        best = minimize(lambda x, p=point: ((x - p) ** 2).sum(), point, constraints=law, tol=1e-12)
        np.testing.assert_allclose(nearest, best.x, atol=1e-6)
    np.testing.assert_allclose(found @ dense(A).T, np.tile(K, (3, 1)), atol=1e-13)


def test_completion_keeps_the_free_variables(A):
    order = [4, 0, 3, 1, 2]
    matrix = A if isinstance(A, GroupSum) else dense(A)
    dependent = layers_torch.last_of_each_row(matrix, order)
    assert len(set(dependent)) == 2
    found = layers_torch.complete(
        torch.tensor(POINTS), A, torch.tensor(K), torch.tensor(dependent)
    ).numpy()
    free = np.setdiff1d(range(5), dependent)
    np.testing.assert_array_equal(found[:, free], POINTS[:, free])
    np.testing.assert_allclose(found @ dense(A).T, np.tile(K, (3, 1)), atol=1e-13)


def test_last_of_each_row():
    np.testing.assert_array_equal(layers_torch.last_of_each_row(GROUPS, [4, 3, 2, 1, 0]), [0, 1])
    # Row 0 ends with variable 3; with it removed from row 1, that one ends with 4.
    np.testing.assert_array_equal(layers_torch.last_of_each_row(ROWS, [0, 1, 2, 4, 3]), [3, 4])
    with pytest.raises(ConstraintError, match="row 1"):
        layers_torch.last_of_each_row(np.array([[1.0, 2.0], [2.0, 4.0]]), [0, 1])
    with pytest.raises(ConstraintError, match="empty group"):
        layers_torch.last_of_each_row(GroupSum([0, 0], 2), [0, 1])


def test_gradients_of_projection_and_completion(A):
    point, k = torch.tensor(POINTS[0], requires_grad=True), torch.tensor(K)
    assert torch.autograd.gradcheck(lambda x: layers_torch.projected(x, A, k), point)
    matrix = A if isinstance(A, GroupSum) else dense(A)
    dependent = torch.tensor(layers_torch.last_of_each_row(matrix, range(5)))
    assert torch.autograd.gradcheck(lambda x: layers_torch.complete(x, A, k, dependent), point)


def test_penalties(A):
    miss = POINTS @ dense(A).T - K
    found = layers_torch.soft_penalty(torch.tensor(POINTS), A, torch.tensor(K))
    np.testing.assert_allclose(found, np.abs(miss))
    found = layers_torch.squared_penalty(torch.tensor(POINTS), A, torch.tensor(K))
    np.testing.assert_allclose(found, miss**2)


def test_semantic_loss_is_the_density_of_the_law(A):
    scale = np.array([0.5, 1.0, 0.7, 2.0, 1.3])
    found = layers_torch.semantic_loss(
        torch.tensor(POINTS[0]), torch.tensor(scale), A, torch.tensor(K)
    )
    rows = dense(A)
    law = multivariate_normal(rows @ POINTS[0], rows @ np.diag(scale**2) @ rows.T)
    np.testing.assert_allclose(found, -law.logpdf(K))
