"""Sums over the groups of long vectors, which take a path of their own."""

import copy
import pickle

import numpy as np
import pytest
import torch

from pyro_constrained import ConstrainedNormal, GroupSum
from pyro_constrained.kernels.arrays.groups import LONG, Groups

SIZE = 300


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


@pytest.fixture
def groups():
    index = torch.randint(0, SIZE - 1, (LONG + 1,))  # unordered, the last group is empty
    return Groups(index, SIZE)


def test_totals_are_those_of_bincount(groups, dtype):
    """Each to the rounding of a sum of its members, in whatever order."""
    vector = torch.randn(LONG + 1, dtype=dtype)
    members = np.bincount(groups.index.numpy(), minlength=SIZE)
    exact = np.bincount(groups.index.numpy(), vector.double().numpy(), minlength=SIZE)
    size = np.bincount(groups.index.numpy(), vector.double().abs().numpy(), minlength=SIZE)
    gap = np.abs(groups.totals(vector).double().numpy() - exact)
    assert (gap <= members * torch.finfo(dtype).eps * size).all()


def test_a_row_of_a_batch_has_the_totals_of_the_vector(groups):
    vectors = torch.randn(2, LONG + 1, dtype=torch.float64)
    one_by_one = torch.stack([groups.totals(vector) for vector in vectors])
    torch.testing.assert_close(groups.totals(vectors), one_by_one, rtol=1e-13, atol=1e-13)


def test_members_and_totals_are_adjoint_and_differentiable_twice(groups):
    vector = torch.randn(LONG + 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad((groups.totals(vector) ** 3).sum(), vector, create_graph=True)
    totals = groups.totals(vector)
    torch.testing.assert_close(slope, 3 * groups.members(totals) ** 2)
    (curvature,) = torch.autograd.grad(slope.sum(), vector)
    members = torch.bincount(groups.index, minlength=SIZE).double()
    torch.testing.assert_close(curvature, groups.members(6 * totals * members))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda law: pickle.loads(pickle.dumps(law))])
def test_a_law_of_long_groups_is_copied(groups, copied):
    index = groups.index.numpy()
    k = torch.zeros(SIZE)
    law = ConstrainedNormal(0.0, torch.ones(len(index)), GroupSum(index, SIZE), k)
    value = law.sample()
    torch.testing.assert_close(copied(law).log_prob(value), law.log_prob(value))
