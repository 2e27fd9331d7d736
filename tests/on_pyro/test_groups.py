"""Sums over the groups of long vectors, which take a path of their own."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedNormal,
    ConstrainedPoisson,
    GroupSum,
)
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.long_vectors import LONG
from tests.laws.test_long_sums import exact_roundings
from tests.laws.test_support import PROMISED_ROUNDINGS

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


def traced(function, vector):
    return torch.jit.trace(function, (vector,), check_trace=False)(vector)


def compiled(function, vector):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")(vector)


@pytest.mark.parametrize("recorded", [traced, compiled])
@pytest.mark.parametrize("typical", [10.0, -1e-3])
def test_draws_of_a_recorded_step_are_on_the_subspace(recorded, typical, dtype):
    """No sums in parts are planned there; those added in turn miss 4 to 6 eps of float64."""
    index = torch.randint(0, 2, (2 * LONG,))
    groups, k = GroupSum(index, 2), typical * torch.bincount(index).to(dtype)
    scale = torch.rand(2 * LONG, dtype=dtype) + 0.5
    draw = recorded(
        lambda scale: ConstrainedNormal(scale.new_ones(()), scale, groups, k).rsample(), scale
    )
    found = exact_roundings(np.eye(2)[:, index], k.numpy(), draw.numpy(), str(dtype)[6:])
    assert found.max() <= PROMISED_ROUNDINGS


def test_recorded_long_totals_are_those_of_fractions():
    """Also where entries of groups differ by magnitudes and cancel, with derivatives of sums."""
    groups = Groups(torch.randint(0, 3, (LONG,)), 3)
    vector = (torch.randn(LONG, dtype=torch.float64) + 2) * 1e3**groups.index
    recorded = torch.jit.trace(groups.long_totals, (vector,))
    members = [[Fraction(entry) for entry in vector[groups.index == g].tolist()] for g in range(3)]
    exact = np.array([float(sum(group)) for group in members])
    size = np.array([float(sum(map(abs, group))) for group in members])
    assert (abs(recorded(vector).numpy() - exact) <= np.finfo(float).eps * size).all()
    slope = torch.func.grad(lambda vector: (recorded(vector) ** 3).sum())(vector)
    torch.testing.assert_close(slope, 3 * groups.members(groups.totals(vector)) ** 2)


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


DERIVATIVES = {
    "grad": lambda f, s, v: torch.func.grad(f)(s) @ v,
    "jvp": lambda f, s, v: torch.func.jvp(f, (s,), (v,))[1],
    "jvp of grad": lambda f, s, v: torch.func.jvp(torch.func.grad(f), (s,), (v,))[1] @ v,
    "grad of jvp": lambda f, s, v: (
        torch.func.grad(lambda at: torch.func.jvp(f, (at,), (v,))[1])(s) @ v
    ),
}


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("kind", ["a few dozen", "in a row", "scattered", "sparse"])
def test_a_law_that_is_made_inside_of_torch_func_first(name, kind):
    """Long sums, by an index that nothing has read before, against the formula for sums of one."""
    size = 40 if kind == "a few dozen" else LONG + 1
    index = torch.arange(size) // 7 if kind != "scattered" else torch.randperm(size) % (size // 7)
    count = int(index.max()) + 1
    A = GroupSum(index, count)
    if kind == "sparse":
        A = sparse.csr_array((np.ones(size), (index.numpy(), np.arange(size))))
    scale, direction = 0.5 + torch.rand(size).double(), torch.randn(size).double()
    loc, value = torch.randn(2, size).double()
    sums = torch.zeros(count).double().index_add(0, index, value)

    def law(scale):
        return ConstrainedNormal(loc * scale, scale, A, sums).log_prob(value)

    def formula(scale):
        zeros, n_of = torch.zeros(count).double(), torch.bincount(index)
        variance = zeros.index_add(0, index, scale**2)
        gap = zeros.index_add(0, index, value - loc * scale)
        free = ((value - loc * scale) / scale).square() + 2 * scale.log()
        bound = gap**2 / variance + variance.log() - n_of.log()
        return 0.5 * (bound.sum() - free.sum() - (size - count) * np.log(2 * np.pi))

    found = DERIVATIVES[name](law, scale, direction)
    torch.testing.assert_close(
        found, DERIVATIVES[name](formula, scale, direction), rtol=1e-9, atol=1e-7
    )


MAPS = {
    "vmap of vmap": lambda f, t: torch.func.vmap(torch.func.vmap(f))(t.expand(2, 3))[1, 2],
    "vmap of grad": lambda f, t: torch.func.vmap(torch.func.grad(f))(t.expand(2))[1],
    "jacrev of jacrev": lambda f, t: torch.func.jacrev(torch.func.jacrev(f))(t),
    "vmap of hessian": lambda f, t: torch.func.vmap(torch.func.hessian(f))(t.expand(2))[1],
}


@pytest.mark.filterwarnings("ignore:An output with one or more")  # PyTorch's of logsigmoid
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", ["in a row", "scattered", "sparse", "exactly k", "counts"])
def test_maps_of_long_sums(name, kind):
    """Made inside of them first; the same along a line as of one group after another."""
    size = LONG + 1
    index = torch.arange(size) // 7 if kind != "scattered" else torch.randperm(size) % (size // 7)
    count = int(index.max()) + 1
    A = GroupSum(index, count)
    if kind == "sparse":
        A = sparse.csr_array((np.ones(size), (index.numpy(), np.arange(size))))
    level, direction = torch.randn(2, size).double()
    k = torch.ones(count, dtype=torch.float64)

    def law(t):
        if kind == "exactly k":
            return ConstrainedBernoulli(logits=level + t * direction, A=A, k=k)
        if kind == "counts":
            return ConstrainedPoisson((level + t * direction).exp(), A, k)
        return ConstrainedNormal(level, (t * direction).exp(), A, k)

    def totals(entries):
        return torch.zeros(count).double().index_add(0, index, entries)

    def formula(t):
        logits = level + t * direction
        if kind == "exactly k":
            none = torch.nn.functional.softplus(logits).sum()
            return (totals(logits.exp()).log()).sum() - none
        if kind == "counts":
            return (totals(logits.exp()).log() - totals(logits.exp())).sum()
        variance, gap = totals((2 * t * direction).exp()), k - totals(level)
        return -0.5 * (gap**2 / variance + variance.log() + np.log(2 * np.pi)).sum()

    t = torch.tensor(0.3, dtype=torch.float64)
    found = MAPS[name](lambda t: law(t).constraint_log_prob(), t)
    torch.testing.assert_close(found, MAPS[name](formula, t), rtol=1e-9, atol=1e-7)
