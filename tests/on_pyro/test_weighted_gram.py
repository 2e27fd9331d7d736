"""A diag(s) A' by blocks: values and derivatives are those of the plain product."""

import numpy as np
import pytest
import torch

from pyro_constrained import ConstrainedNormal
from pyro_constrained.kernels.linear.weighted_gram import _is_wide, weighted_gram

NUM_ROWS, NUM_COLUMNS = 3, 70_001  # the last block is not full


def problem(dtype=torch.float64):
    generator = np.random.default_rng(0)
    matrix = torch.tensor(generator.normal(size=(NUM_ROWS, NUM_COLUMNS))).to(dtype)
    return matrix, torch.tensor(generator.uniform(0.5, 2.0, NUM_COLUMNS)).to(dtype)


def plain(matrix, weights):
    return (matrix * weights) @ matrix.mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values(dtype):
    matrix, weights = problem(dtype)
    assert _is_wide(matrix, weights)
    found, expected = weighted_gram(matrix, weights), plain(matrix.double(), weights.double())
    assert found.dtype == dtype
    size = plain(matrix.double().abs(), weights.double())
    assert ((found - expected).abs() / size).max() <= 32 * torch.finfo(dtype).eps


def test_first_and_second_derivatives():
    matrix, weights = problem()
    inner = torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0], [0.0, 0.2, 1.0]], dtype=torch.float64)

    def derivatives(gram):
        s = weights.clone().requires_grad_()
        (first,) = torch.autograd.grad((gram(matrix, s) ** 2 * inner).sum(), s, create_graph=True)
        (second,) = torch.autograd.grad((first * weights.cos()).sum(), s)
        return first.detach(), second

    for found, expected in zip(derivatives(weighted_gram), derivatives(plain), strict=True):
        # Entries are what terms of the size of the largest leave.
        rounding = 64 * np.finfo(float).eps * float(expected.abs().max())
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=rounding)


def test_forward_derivatives_and_maps():
    matrix, weights = problem()
    tangent = weights.cos()
    function = lambda s: weighted_gram(matrix, s)  # noqa: E731
    _, found = torch.func.jvp(function, (weights,), (tangent,))
    np.testing.assert_allclose(found, plain(matrix, tangent), rtol=1e-11)
    mapped = torch.func.vmap(function)(torch.stack([weights, 2 * weights]))
    np.testing.assert_allclose(mapped[1], 2 * plain(matrix, weights), rtol=1e-11)


@pytest.mark.parametrize("answer", ["mean", "variance", "density"])
def test_a_law_that_is_mapped_over_other_things(answer):
    A, scale = problem()
    locs, sides = torch.randn(2, NUM_COLUMNS).double(), torch.randn(2, NUM_ROWS).double()

    def found(loc, k):
        law = ConstrainedNormal(loc, scale, A, k)
        return law.log_prob(law.mean) if answer == "density" else getattr(law, answer)

    for in_dims, arguments in [((0, None), (locs, sides[0])), ((None, 0), (locs[0], sides))]:
        mapped = torch.func.vmap(found, in_dims)(*arguments)
        one_by_one = [
            found(loc if in_dims[0] is None else loc[i], k if in_dims[1] is None else k[i])
            for loc, k in [arguments]
            for i in range(2)
        ]
        np.testing.assert_allclose(mapped, torch.stack(one_by_one), rtol=1e-9, atol=1e-12)


def test_gradients_that_are_mapped_over():
    A, scale = problem()
    loc, k = torch.zeros(NUM_COLUMNS).double(), A @ scale

    def density(t):
        return ConstrainedNormal(loc + t[0], scale * t[1].exp(), A, k).constraint_log_prob()

    t = torch.tensor([0.1, 0.2], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian
    np.testing.assert_allclose(hessian(density, t, vectorize=True), hessian(density, t), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_zero", [True, False])
def test_a_law_of_many_variables(dtype, is_zero):
    """Against dense algebra in double precision; k = 0 has no size of its own."""
    A, scale = problem(dtype)
    x = torch.zeros(NUM_COLUMNS, dtype=dtype) if is_zero else A.sum(0)
    k = (A.double() @ x.double()).to(dtype)
    loc = torch.zeros(NUM_COLUMNS, dtype=dtype, requires_grad=True)
    scale.requires_grad_()
    law = ConstrainedNormal(loc, scale, A, k)
    draw = law.rsample()
    rows = A.double()
    size = rows.abs() @ draw.detach().double().abs() + k.abs()
    assert ((rows @ draw.detach().double() - k).abs() / size).max() <= 4 * torch.finfo(dtype).eps
    found = law.log_prob(draw.detach())
    exact, s = draw.detach().double(), scale.detach().double()
    gram = plain(rows, s**2)
    gap = k.double()
    free = -0.5 * (exact / s).square().sum() - s.log().sum()
    given = -0.5 * gap @ torch.linalg.solve(gram, gap) - 0.5 * torch.logdet(gram)
    surface = 0.5 * torch.logdet(rows @ rows.mT)
    count = NUM_COLUMNS - NUM_ROWS
    expected = free - given - surface - 0.5 * count * np.log(2 * np.pi)
    relative = 1e-10 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(found.item(), expected.item(), rtol=relative)
    off = draw.detach() + 0.5
    assert ConstrainedNormal(loc, scale, A, k, validate_args=False).log_prob(off) == -torch.inf
