"""Derivatives of our own for long vectors: those of PyTorch, in every mode."""

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from pyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal
from pyro_constrained.kernels.arrays import long_vectors
from pyro_constrained.kernels.arrays.long_vectors import LONG, standardised, sum_of_squares


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setattr(long_vectors, "LONG", 4)
    value, loc = torch.randn(2, 5, dtype=torch.float64)
    return value, loc, torch.rand(5, dtype=torch.float64) + 0.5


def names(tensor):
    return type(tensor.grad_fn).__name__


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("moves", [(1, 1, 1), (0, 1, 1), (1, 0, 0), (0, 0, 1)])
def test_derivatives_of_a_quotient(vectors, moves, check):
    arguments = [v.requires_grad_(bool(m)) for v, m in zip(vectors, moves, strict=True)]
    assert names(standardised(*arguments)) == "_StandardisedBackward"
    assert check(standardised, arguments)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_derivatives_of_a_square(vectors, check):
    vector = vectors[0].requires_grad_()
    assert names(sum_of_squares(vector)) == "_SumOfSquaresBackward"
    assert check(sum_of_squares, vector)


def test_vectors_that_differ_in_shape_or_dtype_are_pytorchs(vectors):
    value, loc, scale = (v.requires_grad_() for v in vectors)
    for others in [(loc, scale.float()), (loc[:1], scale), (loc, scale[:1])]:
        assert names(standardised(value, *others)) == "DivBackward0"


@pytest.fixture
def problem():
    """A long law with one sum, scales ``s t`` and means ``loc + t``, and what is expected of its
    log density along t."""
    torch.manual_seed(0)
    loc, scale, noise = (torch.randn(LONG + 1, dtype=torch.float64) for _ in range(3))
    scale = scale.exp()
    x = loc + scale * noise

    def log_prob(t):
        law = ConstrainedNormal(loc + t, scale * t.exp(), torch.ones(LONG + 1), x.sum())
        return law.log_prob(x)

    def by_hand(t):
        # Scales in proportion: the conditional precision is exp(-2 t) times what it was.
        u, weights = (x - loc - t) / scale, scale
        along = weights @ u / (weights @ weights) * weights
        return -0.5 * (-2 * t).exp() * ((u - along) ** 2).sum() - LONG * t

    return log_prob, by_hand


def derivatives_backward(function, t):
    t = t.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(t), t, create_graph=True)
    return first, torch.autograd.grad(first, t)[0]


def derivatives_func(function, t):
    first = torch.func.grad(function)
    return first(t), torch.func.grad(first)(t)


def derivatives_mixed(function, t):
    first = torch.func.grad(function)
    return torch.func.jvp(function, (t,), (torch.ones_like(t),))[1], torch.func.jacfwd(first)(t)


def derivatives_dual(function, t):
    with forward_ad.dual_level():
        found = function(forward_ad.make_dual(t, torch.ones_like(t)))
        return forward_ad.unpack_dual(found).tangent.detach(), derivatives_backward(function, t)[1]


@pytest.mark.parametrize(
    "derivatives",
    [derivatives_backward, derivatives_func, derivatives_mixed, derivatives_dual],
    ids=lambda d: d.__name__.removeprefix("derivatives_"),
)
def test_derivatives_of_a_long_law(problem, derivatives):
    log_prob, by_hand = problem
    t = torch.tensor(0.3, dtype=torch.float64)
    expected = derivatives_backward(by_hand, t)
    for found, right in zip(derivatives(log_prob, t), expected, strict=True):
        np.testing.assert_allclose(found.detach(), right.detach(), rtol=1e-9)


@pytest.mark.parametrize("df", [1.5, 3.5, 30.0])
@pytest.mark.parametrize("recorded", ["trace", "compile", "forward twice"])
def test_slope_in_the_degrees_of_freedom_of_a_recorded_law(recorded, df):
    """As of the law that runs at once: in single precision parts of n / nu cancel."""
    size = 20_000
    x = torch.randn(size) * torch.distributions.Chi2(df).sample().rsqrt()
    x, zeros, ones = x - x.mean(), torch.zeros(size), torch.ones(size)

    def score(t):
        law = ConstrainedMultivariateStudentT(t, zeros, A=np.ones(size), k=0.0, scale=ones)
        return law.log_prob(x)

    t = torch.tensor(df)
    expected = torch.func.grad(score)(t)
    if recorded == "forward twice":
        moved = lambda t: torch.func.jvp(score, (t,), (ones[0],))  # noqa: E731
        (_, found), _ = torch.func.jvp(moved, (t,), (ones[0],))
    else:
        torch._dynamo.reset()
        run = (
            torch.jit.trace(score, (t,), check_trace=False)
            if recorded == "trace"
            else torch.compile(score, backend="aot_eager")
        )
        leaf = t.clone().requires_grad_()
        (found,) = torch.autograd.grad(run(leaf), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
