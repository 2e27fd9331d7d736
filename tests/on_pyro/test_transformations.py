"""What runs a law in another way than eagerly: torch.func, autocast.

A step through a law with a concrete A is plain tensor algebra, so that each of them takes it whole.
"""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    LinearEqualityTransform,
)
from tests.on_pyro.concrete import (
    LAWS,
    LOC,
    MVN,
    NORMAL,
    REDUNDANT,
    REDUNDANT_K,
    SCALE,
    STUDENT,
    WEIGHTS,
    A,
    K,
    close,
    covariance,
)
from tests.on_pyro.models import tensor

QUANTITIES = {
    "log_prob": lambda law, x: law.log_prob(x),
    "moments": lambda law, x: (law.mean + law.variance) @ WEIGHTS + law.covariance.sum((-2, -1)),
    "entropy": lambda law, x: law.entropy() + law.constraint_log_prob(),
    "project": lambda law, x: (
        law.project(law.mean + 1) @ WEIGHTS + law.residual(law.mean + 1).sum(-1)
    ),
    "loss": lambda law, x: law.expected_l2(x) @ WEIGHTS,
}
each_law = pytest.mark.parametrize("name", LAWS)
each_quantity = pytest.mark.parametrize("quantity", QUANTITIES)


def evaluated(name, quantity, **kw):
    x = LAWS[name](LOC, SCALE).mean
    return lambda loc, scale: QUANTITIES[quantity](LAWS[name](loc, scale, **kw), x)


@each_law
@each_quantity
@pytest.mark.parametrize("validate", [True, False])
def test_derivatives_of_torch_func(name, quantity, validate):
    function = evaluated(name, quantity, validate_args=validate)
    leaves = LOC.clone().requires_grad_(), SCALE.clone().requires_grad_()
    expected = torch.autograd.grad(function(*leaves), leaves, materialize_grads=True)
    for derivative in (grad, jacrev, jacfwd):
        close(derivative(function, argnums=(0, 1))(LOC, SCALE), expected)


@each_law
@each_quantity
def test_vmap_over_parameters(name, quantity):
    function = evaluated(name, quantity)
    locs, scales = torch.stack([LOC, LOC + 1]), torch.stack([SCALE, 3 * SCALE.flip(0)])
    one_by_one = [function(loc, scale) for loc, scale in zip(locs, scales, strict=True)]
    close(vmap(function)(locs, scales), torch.stack(one_by_one))


@each_law
def test_vmap_over_values_and_draws(name):
    law = LAWS[name](LOC, SCALE)
    values = law.sample((3,))
    close(vmap(law.log_prob)(values), law.log_prob(values))
    draws = vmap(lambda loc: LAWS[name](loc, SCALE).rsample(), randomness="different")
    if not name.startswith("student"):  # whose gamma draws PyTorch does not map over
        found = draws(torch.stack([LOC, LOC]))
        assert law.support.check(found).all()
        assert not torch.equal(found[0], found[1])


@each_law
def test_hessian(name):
    function = evaluated(name, "log_prob")
    expected = torch.autograd.functional.hessian(lambda s: function(LOC, s), SCALE)
    close(hessian(lambda s: function(LOC, s))(SCALE), expected)


@each_law
@each_quantity
def test_forward_mode_twice(name, quantity):
    """Where PyTorch takes derivatives of our own for constants."""
    function = evaluated(name, quantity)
    expected = torch.autograd.functional.hessian(lambda s: function(LOC, s), SCALE)
    close(jacfwd(jacfwd(lambda s: function(LOC, s)))(SCALE), expected)


@pytest.mark.parametrize("matrix", [A, A[0]], ids=["rows", "row"])
def test_second_derivatives_in_a_matrix(matrix):
    """In all orders of modes, mapped too: of PyTorch's solution some are wrong."""

    def spread(matrix):
        return NORMAL(LOC, SCALE, matrix, matrix @ LOC, validate_args=False).variance @ WEIGHTS

    leaf = matrix.clone().requires_grad_()
    expected = torch.autograd.functional.hessian(spread, leaf)
    for outer, inner in product((jacrev, jacfwd), repeat=2):
        second = outer(inner(spread))
        close(second(matrix), expected)
        close(vmap(second)(torch.stack([matrix + 0.1, matrix]))[1], expected)


@pytest.mark.parametrize("name", ["law", "row", "isometry", "elimination", "precision"])
def test_forward_mode_twice_in_other_ways(name):
    """Through a matrix that moves, coordinates of its null space, and an inverse."""
    moves = tensor([[0.3, 0.1, -0.2, 0.5], [0.4, 0.0, 0.2, -0.1]])

    def function(t):
        matrix = A + t * moves
        if name == "precision":
            return MVN(LOC, covariance(SCALE + t), A, K).precision_matrix.sum()
        if name in ("law", "row"):
            matrix = matrix if name == "law" else matrix[0]
            law = NORMAL(LOC, SCALE, matrix, matrix @ LOC, validate_args=False)
            return law.entropy() + law.constraint_log_prob() + (law.mean + law.variance) @ WEIGHTS
        transform = LinearEqualityTransform(matrix, matrix @ LOC, basis=name)
        u = tensor([0.3, 0.7])
        value = transform(u)
        return value @ WEIGHTS + transform.log_abs_det_jacobian(u, value)

    t = tensor(0.3).requires_grad_()
    slope = torch.autograd.grad(function(t), t, create_graph=True)[0]
    (expected,) = torch.autograd.grad(slope, t)
    close(jacfwd(jacfwd(function))(t.detach()), expected)


def test_forward_mode_twice_through_a_sparse_law():
    rows = sparse.csr_array(A.numpy())
    with pytest.raises(ConstraintError, match="forward mode once"):
        jacfwd(jacfwd(lambda s: NORMAL(LOC, s, rows, K).entropy()))(SCALE)


@each_law
def test_gradients_that_are_mapped_over(name):
    """By the map of ``torch.autograd``, which knows PyTorch's own operations only."""
    hessian_of = torch.autograd.functional.hessian
    for quantity in ("log_prob", "moments"):
        function = evaluated(name, quantity)
        expected = hessian_of(lambda s, f=function: f(LOC, s), SCALE)
        close(hessian_of(lambda s, f=function: f(LOC, s), SCALE, vectorize=True), expected)


@pytest.mark.parametrize("answer", ["mean", "draw"])
def test_gradients_that_are_mapped_over_through_a_sparse_law(answer):
    rows = sparse.csr_array(A.numpy())

    def point(scale):
        law = NORMAL(LOC, scale, rows, K)
        return law.mean if answer == "mean" else law.rsample()

    with pytest.raises(ConstraintError, match="one gradient at a time"):
        torch.autograd.functional.jacobian(point, SCALE, vectorize=True)


@each_law
def test_second_derivatives(name):
    """Of all figures and a draw, by ``torch.func`` and by autograd, against differences of the
    gradient."""
    x = LAWS[name](LOC, SCALE).mean
    n, along = len(LOC), torch.arange(2.0 * len(LOC)).sin()

    def all_figures(parameters):
        law = LAWS[name](parameters[:n], parameters[n:])
        draw = law._conditional.draw(torch.arange(1.0, law._conditional.noise_size + 1).cos())
        figures = law.log_prob(x) + law.entropy() + law.constraint_log_prob()
        return figures + (law.mean + law.variance + draw.square() + law.covariance[0]) @ WEIGHTS

    def gradient(parameters):
        leaf = parameters.detach().requires_grad_()
        return torch.autograd.grad(all_figures(leaf), leaf)[0]

    parameters, step = torch.cat([LOC, SCALE]), 1e-4
    ahead, behind = (gradient(parameters + s * along) for s in (step, -step))
    expected = (ahead - behind) / (2 * step)
    leaf = parameters.clone().requires_grad_()
    slope = torch.autograd.grad(all_figures(leaf), leaf, create_graph=True)[0]
    (reverse,) = torch.autograd.grad(slope @ along, leaf)
    whole = {
        "forward over reverse": hessian(all_figures)(parameters),
        "reverse over forward": jacrev(jacfwd(all_figures))(parameters),
        "forward over forward": jacfwd(jacfwd(all_figures))(parameters),
    }
    mapped = vmap(hessian(all_figures))(torch.stack([parameters + 0.1, parameters]))
    whole["mapped"] = mapped[1]
    for way, found in {"reverse": reverse, **{w: h @ along for w, h in whole.items()}}.items():
        torch.testing.assert_close(
            found, expected, rtol=1e-5, atol=1e-5, msg=lambda why, way=way: f"{way}: {why}"
        )


def test_vmap_over_k():
    """A mapped k cannot be looked at: right where rows agree, NaN where they do not."""
    ks = torch.stack([REDUNDANT_K, tensor([1.0, 0.5, 1.6])])
    x = NORMAL(LOC, SCALE, REDUNDANT, REDUNDANT_K).mean
    found = vmap(lambda k: NORMAL(LOC, SCALE, REDUNDANT, k, validate_args=False).log_prob(x))(ks)
    close(found[0], NORMAL(LOC, SCALE, REDUNDANT, REDUNDANT_K).log_prob(x))
    assert not found[1].isfinite()
    means = vmap(lambda k: NORMAL(LOC, SCALE, REDUNDANT, k).mean)(ks)
    assert means[0].isfinite().all() and means[1].isnan().all()


@pytest.mark.parametrize("matrix", [A, REDUNDANT], ids=["independent", "redundant"])
def test_derivative_in_a_mapped_A(matrix):
    """Right also where rows are redundant, of which no plan is made."""
    k = matrix @ LOC

    def log_volume(A):
        return NORMAL(LOC, SCALE, A, k, validate_args=False).entropy()

    close(vmap(log_volume)(torch.stack([matrix, 2 * matrix])), log_volume(matrix).expand(2))


def test_transform_under_vmap():
    transform = LinearEqualityTransform(A, K)
    u = torch.randn(5, 2)
    close(vmap(transform)(u), transform(u))
    close(vmap(transform.inv)(transform(u)), u)


# Precision


def dense_A(matrix):
    return torch.as_tensor(matrix.to_dense() if isinstance(matrix, GroupSum) else matrix)


AUTOCAST = {
    "diagonal": lambda loc, scale, A, k: NORMAL(loc, scale, A, k),
    "dense": lambda loc, scale, A, k: MVN(loc, torch.diag_embed(scale.square()), A, k),
    "low rank": lambda loc, scale, A, k: ConstrainedLowRankMultivariateNormal(
        loc, loc[..., None].expand(*loc.shape, 2), scale, A, k
    ),
    "student": lambda loc, scale, A, k: STUDENT(5.0, loc, A=A, k=k, scale=scale),
}


@pytest.mark.parametrize("name", AUTOCAST)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name, half):
    """Parameters come from a layer that computes in half precision; the law does not."""
    torch.manual_seed(1)
    matrix, k = torch.randn(4, 20), torch.randn(8, 4)
    net = nn.Linear(3, 40).float()
    with torch.autocast("cpu", dtype=half):
        loc, raw = net(torch.randn(8, 3, dtype=torch.float32)).chunk(2, -1)
        assert loc.dtype == half
        law = AUTOCAST[name](loc, nn.functional.softplus(raw), matrix, k)
        draw = law.rsample()
        inside = [law.log_prob(draw), law.mean, law.variance, law.entropy(), law.project(draw + 1)]
    assert draw.dtype == torch.float32
    eps = torch.finfo(torch.float32).eps
    size = draw.detach().double().abs() @ matrix.double().abs().mT + k.abs()
    gap = (draw.detach().double() @ matrix.float().double().mT - k.float().double()).abs()
    assert (gap <= 4 * eps * size).all()
    outside = [law.log_prob(draw), law.mean, law.variance, law.entropy(), law.project(draw + 1)]
    for one, other in zip(inside, outside, strict=True):
        assert torch.equal(one, other)


DISCRETE = {
    "bernoulli": lambda raw, A, k: ConstrainedBernoulli(logits=raw, A=A, k=k),
    "poisson": lambda raw, A, k: ConstrainedPoisson(raw.abs(), A, k),
    "categorical": lambda raw, A, k: ConstrainedCategorical(
        logits=torch.stack([raw, 0 * raw, -raw], -1), A=A, k=k
    ),
}


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("is_table", [False, True])
def test_autocast_changes_no_discrete_law(name, is_table):
    torch.manual_seed(1)
    table = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 2]])
    matrix, k = (table, torch.tensor([1, 2])) if is_table else (torch.ones(6), torch.tensor(3))
    net = nn.Linear(3, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = net(torch.randn(8, 3, dtype=torch.float32))
        assert raw.dtype == torch.bfloat16
        law = DISCRETE[name](raw, matrix, k)
        draw = law.sample()
        inside = [law.log_prob(draw), law.mean, law.variance, law.entropy()]
    law = DISCRETE[name](raw.float(), matrix, k)
    outside = [law.log_prob(draw), law.mean, law.variance, law.entropy()]
    for one, other in zip(inside, outside, strict=True):
        assert one.dtype == torch.float32 and torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_autocast_changes_no_transform():
    transform, matrix = LinearEqualityTransform(A, K), A.numpy()
    free = torch.randn(5, 2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = LinearEqualityTransform(matrix, K.float())
        x = single(free)
        assert x.dtype == torch.float32 and single.codomain.check(x).all()
        torch.testing.assert_close(single.inv(x), free, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.double(), transform(free.double()), rtol=1e-5, atol=1e-5)


def test_python_numbers_keep_their_digits():
    law = NORMAL([0.1, 0.2, 0.3], torch.ones(3), [1, 0.1, 1], 0.7)
    assert law.loc.tolist() == [0.1, 0.2, 0.3] and law.A.tolist() == [1, 0.1, 1]
    assert law.k.item() == 0.7


def test_a_law_keeps_its_own_copy_of_arrays():
    matrix, k = A.numpy().copy(), K.numpy().copy()
    law = NORMAL(LOC, SCALE, matrix, k)
    before = law.mean, copy.deepcopy(law.A), law.k.clone()
    matrix[:], k[:] = 9.0, 9.0
    assert torch.equal(law.A, before[1]) and torch.equal(law.k, before[2])
    assert torch.equal(NORMAL(LOC, SCALE, before[1], before[2]).mean, before[0])


def test_complex_tensors_are_refused():
    with pytest.raises(ConstraintError, match="real numbers"):
        NORMAL(LOC, SCALE, A.to(torch.complex128), K)
    with pytest.raises(ConstraintError, match="real numbers"):
        NORMAL(LOC, SCALE, np.asarray([1.0, 1j, 0, 0]), 0.0)


@each_quantity
@each_law
def test_answers_first_asked_for_without_a_gradient_have_one_later(name, quantity):
    def slopes(is_looked_at: bool) -> tuple[torch.Tensor, ...]:
        at = LOC.clone().requires_grad_(), SCALE.clone().requires_grad_()
        law = LAWS[name](*at)
        x = law.project(LOC).detach()
        if is_looked_at:
            with torch.no_grad():
                QUANTITIES[quantity](law, x)
        total = QUANTITIES[quantity](law, x).sum()
        return torch.autograd.grad(total, at, materialize_grads=True)

    torch.testing.assert_close(slopes(True), slopes(False))
