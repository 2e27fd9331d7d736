"""A constant A means the same inside of torch.func, which wraps all that is made there, as outside;
an A that moves does not pass for a constant."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.autograd import forward_ad
from torch.distributions import biject_to
from torch.func import grad, jvp, vjp, vmap

from pyro_constrained import (
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstraintError,
    GroupSum,
    LinearEqualityTransform,
)
from pyro_constrained.reparam import auto_reparam
from tests.on_pyro.concrete import close

A = torch.tensor([[1.5, 2.0, 3.0, 4.0], [1.0, 0.0, -1.0, 1.0]], dtype=torch.float64)
ARRAY = A.numpy()
K = torch.tensor([2.0, 1.0], dtype=torch.float64)
LOC = torch.arange(4, dtype=torch.float64)
ONES = torch.ones(4, dtype=torch.float64)
U = torch.tensor([0.3, -0.7], dtype=torch.float64)
MATRICES = {
    "array": lambda: ARRAY,
    "tensor": lambda: A,
    "whole numbers": lambda: torch.tensor([[1, 2, 3, 4], [1, 0, -1, 1]]),
    "half": lambda: A.half(),
    "made inside": lambda: torch.stack([LOC + 2, LOC.flip(0) ** 2]),
    "sparse": lambda: A.to_sparse(),
}


def values_backward(function, u):
    return function(u), torch.autograd.functional.jacobian(function, u)


def values_vjp(function, u):
    found, pullback = vjp(function, u)
    return found, torch.stack([pullback(e)[0] for e in torch.eye(len(found), dtype=u.dtype)])


def values_jvp(function, u):
    pushed = [jvp(function, (u,), (e,)) for e in torch.eye(len(u), dtype=u.dtype)]
    return pushed[0][0], torch.stack([tangent for _, tangent in pushed], -1)


def values_nested(function, u):
    """In a gradient, mapped, of a point that forward mode moves."""
    size = len(function(u))

    def entry(u, e):
        return grad(lambda one: one * (function(u) @ e))(torch.ones_like(u[0]))

    units = torch.eye(size, dtype=u.dtype)
    found = vmap(lambda e: entry(u, e))(units)
    return found, torch.stack([grad(entry)(u, e) for e in units])


def values_dual(function, u):
    with forward_ad.dual_level():
        duals = [function(forward_ad.make_dual(u, e)) for e in torch.eye(len(u), dtype=u.dtype)]
        parts = [forward_ad.unpack_dual(dual) for dual in duals]
        return parts[0].primal, torch.stack([part.tangent for part in parts], -1)


each_way = pytest.mark.parametrize(
    "values",
    [values_vjp, values_jvp, values_nested, values_dual],
    ids=lambda way: way.__name__.removeprefix("values_"),
)


@each_way
@pytest.mark.parametrize("basis", ["isometry", "elimination", None])
@pytest.mark.parametrize("name", MATRICES)
def test_coordinates_are_the_same(name, basis, values):
    if name == "sparse" and basis == "isometry":
        basis = None  # a sparse A has none
    matrix = MATRICES[name]

    def point(u):
        return LinearEqualityTransform(matrix(), K, basis=basis)(u)

    expected = values_backward(point, U)
    for found, right in zip(values(point, U), expected, strict=True):
        close(found, right)

    def back(x):
        return LinearEqualityTransform(matrix(), K, basis=basis).inv(x)

    close(values(back, expected[0])[0], U)


@each_way
def test_a_row_as_a_matrix(values):
    row, k = A[:1], K[:1]
    u = torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)

    def point(u):
        return LinearEqualityTransform(row, k)(u)

    for found, right in zip(values(point, u), values_backward(point, u), strict=True):
        close(found, right)


def test_a_potential_by_the_support_of_a_law():
    def potential(u):
        law = ConstrainedNormal(LOC, ONES, A, K)
        return -law.log_prob(biject_to(law.support)(u))

    leaf = U.clone().requires_grad_()
    close(grad(potential)(U), torch.autograd.grad(potential(leaf), leaf)[0])


@pytest.mark.parametrize("name", ["array", "tensor", "whole numbers"])
@pytest.mark.parametrize("is_dense", [False, True])
def test_a_reparametrised_model(name, is_dense):
    matrix = MATRICES[name]

    def model():
        if is_dense:
            law = ConstrainedMultivariateNormal(LOC, torch.eye(4, dtype=LOC.dtype), matrix(), K)
        else:
            law = ConstrainedNormal(LOC, ONES, matrix(), K)
        x = pyro.sample("x", law)
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=ONES)

    reparametrised = poutine.reparam(model, config=auto_reparam())
    size = len(poutine.trace(reparametrised).get_trace().nodes["x_base"]["value"])
    u = torch.linspace(-0.5, 0.7, size, dtype=torch.float64)

    def potential(u):
        conditioned = poutine.condition(reparametrised, data={"x_base": u})
        return -poutine.trace(conditioned).get_trace().log_prob_sum()

    leaf = u.clone().requires_grad_()
    close(grad(potential)(u), torch.autograd.grad(potential(leaf), leaf)[0])


# What moves


def means(t):
    change = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    return ConstrainedNormal(LOC, ONES, A + t * change, K).mean


def moved_backward(function, t):
    return torch.autograd.functional.jacobian(function, t)


def moved_jvp(function, t):
    return jvp(function, (t,), (torch.ones_like(t),))[1]


def moved_under_a_gradient(function, t):
    """By forward mode outside, where what runs inside is a gradient in something else."""

    def scaled(t, e):
        return grad(lambda s: s * (function(t) @ e))(torch.ones_like(t))

    return torch.stack(
        [
            jvp(lambda t, e=e: scaled(t, e), (t,), (torch.ones_like(t),))[1]
            for e in torch.eye(4, dtype=t.dtype)
        ]
    )


def moved_under_forward_mode(function, t):
    """By a gradient outside, where forward mode runs inside."""

    def scaled(t, e):
        one = torch.ones_like(t)
        return jvp(lambda s: s * (function(t) @ e), (one,), (one,))[1]

    return torch.stack([grad(scaled)(t, e) for e in torch.eye(4, dtype=t.dtype)])


def moved_dual(function, t):
    with forward_ad.dual_level():
        found = function(forward_ad.make_dual(t, torch.ones_like(t)))
        return forward_ad.unpack_dual(found).tangent


@pytest.mark.parametrize(
    "moved",
    [moved_backward, moved_jvp, moved_under_a_gradient, moved_under_forward_mode, moved_dual],
    ids=lambda way: way.__name__.removeprefix("moved_"),
)
def test_an_A_that_moves_is_no_constant(moved):
    t, step = torch.tensor(0.2, dtype=torch.float64), 1e-5
    expected = (means(t + step) - means(t - step)) / (2 * step)
    np.testing.assert_allclose(moved(means, t), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("moved", [moved_jvp, moved_dual], ids=["jvp", "dual"])
def test_weights_of_groups_that_move_are_refused(moved):
    def law(t):
        return ConstrainedNormal(LOC, ONES, GroupSum([0, 0, 1, 1], 2, t * ONES), K).mean

    with pytest.raises(ConstraintError, match="expected weights that are known"):
        moved(law, torch.tensor(1.0, dtype=torch.float64))
