"""What Pyro and PyTorch ask of any distribution, and torch's own machinery around a law.

Pyro's goodness of fit is left out: in two dimensions it rejects Pyro's own MultivariateNormal far
more often than its level says. The laws have a calibrated one in coordinates of the subspace.
"""

import inspect
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import nn
from torch.distributions import biject_to, transform_to

import pyro_constrained
from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
    LinearEqualityTransform,
)
from tests.on_pyro.models import tensor

A, K = tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), tensor([1.0, 0.5])
BATCH_K = tensor([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
LOC, SCALE = tensor([0.1, -0.2, 0.3, 0.0]), tensor([1.0, 0.5, 2.0, 1.0])
GROUPS = GroupSum([0, 0, 1, 1], num_groups=2)
COV = SCALE.square().diag() + 0.2
FACTOR = tensor([[1.0, 0.0], [0.5, 0.3], [0.0, -1.0], [0.2, 0.2]])

Dense, Diagonal = ConstrainedMultivariateNormal, ConstrainedNormal
LowRank, StudentT = ConstrainedLowRankMultivariateNormal, ConstrainedMultivariateStudentT

# Class and arguments, all by name as Pyro's own table has them.
TABLE = {
    "dense": (Dense, {"loc": LOC, "covariance_matrix": COV, "A": A, "k": K}),
    "precision": (Dense, {"loc": LOC, "precision_matrix": COV, "A": A, "k": BATCH_K}),
    "tril": (Dense, {"loc": LOC, "scale_tril": torch.linalg.cholesky(COV), "A": A, "k": K}),
    "diagonal": (Diagonal, {"loc": LOC, "scale": SCALE, "A": A, "k": BATCH_K}),
    "row": (Diagonal, {"loc": LOC, "scale": SCALE, "A": A[0], "k": BATCH_K}),
    "groups": (Diagonal, {"loc": LOC, "scale": SCALE, "A": GROUPS, "k": K}),
    "batched_loc": (
        Diagonal,
        {"loc": LOC * tensor([[1.0], [2.0]]), "scale": SCALE, "A": A, "k": K},
    ),
    "batched_A": (Diagonal, {"loc": LOC, "scale": SCALE, "A": torch.stack([A, 2 * A]), "k": K}),
    "low_rank": (
        LowRank,
        {"loc": LOC, "cov_factor": FACTOR, "cov_diag": SCALE, "A": A, "k": BATCH_K},
    ),
    "student": (StudentT, {"df": tensor(5.0), "loc": LOC, "scale": SCALE, "A": A, "k": BATCH_K}),
    "student_tril": (
        StudentT,
        {"df": tensor([5.0, 9.0]), "loc": LOC, "scale_tril": SCALE.diag(), "A": A, "k": K},
    ),
    "student_groups": (
        partial(StudentT, per_group=True),
        {"df": tensor(5.0), "loc": LOC, "scale": SCALE, "A": GROUPS, "k": BATCH_K},
    ),
    "broadcast": (
        Diagonal,
        {"loc": LOC.expand(2, 1, 4), "scale": SCALE, "A": A, "k": BATCH_K},
    ),
}
each_law = pytest.mark.parametrize("name", TABLE)


def build(name: str, **changed) -> TorchDistribution:
    law, arguments = TABLE[name]
    return law(**(arguments | changed))


# Pyro's tests of every distribution.


@each_law
def test_support_shape(name):
    law = build(name)
    x = law.sample((3,))
    assert law.support.event_dim == law.event_dim == 1
    assert not law.support.is_discrete
    ok = law.support.check(x)
    assert ok.shape == (3, *law.batch_shape)
    assert ok.all()


@each_law
def test_infer_shapes(name):
    _, arguments = TABLE[name]
    shapes = {key: value.shape for key, value in arguments.items()}
    built = build(name)
    assert type(built).infer_shapes(**shapes) == (built.batch_shape, built.event_shape)


@each_law
def test_shapes(name):
    law = build(name)
    assert law.shape((2,)) == (2, *law.batch_shape, 4)
    for sample_shape in ((), (2,), (2, 3)):
        x = law(sample_shape)
        assert x.shape == law.shape(torch.Size(sample_shape))
        assert law.log_prob(x).shape == sample_shape + law.batch_shape
    assert law.mean.shape == law.variance.shape == law.stddev.shape == law.shape()
    assert law.entropy().shape == law.constraint_log_prob().shape == law.batch_shape


@each_law
def test_wrong_data_are_an_error(name):
    law = build(name)
    with pytest.raises(ValueError):
        law.log_prob(torch.ones(*law.shape(), 1))
    if law.batch_shape:
        with pytest.raises(ValueError):
            law.log_prob(torch.ones(law.batch_shape[0] + 1, *law.shape()[1:]))


def check_expanded(small, large):
    x = small.sample()
    torch.testing.assert_close(small.log_prob(x).expand(large.batch_shape), large.log_prob(x))
    x = large.sample()
    assert x.shape == large.shape()
    torch.testing.assert_close(small.log_prob(x), large.log_prob(x))
    torch.testing.assert_close(small.mean.expand(large.shape()), large.mean)
    torch.testing.assert_close(small.entropy().expand(large.batch_shape), large.entropy())
    for key, value in large.__dict__.items():
        if key in large.arg_constraints:
            event_dim = large.arg_constraints[key].event_dim
            assert value.shape[: value.ndim - event_dim] == large.batch_shape


each_shape_type = pytest.mark.parametrize("shape_type", [torch.Size, tuple, list])
each_way = pytest.mark.parametrize("default", [False, True], ids=["own", "default"])


@each_law
@each_shape_type
@pytest.mark.parametrize("sample_shape", [(), (2,), (2, 3)])
def test_expand_by(name, sample_shape, shape_type):
    small = build(name)
    large = small.expand_by(shape_type(sample_shape))
    assert large.batch_shape == sample_shape + small.batch_shape
    check_expanded(small, large)


def expanded(law, shape, default: bool):
    return TorchDistribution.expand(law, shape) if default else law.expand(shape)


@each_law
@each_shape_type
@each_way
def test_expand_new_dim(name, shape_type, default):
    small = build(name)
    large = expanded(small, shape_type((2, 3) + small.batch_shape), default)
    assert large.batch_shape == (2, 3) + small.batch_shape
    torch.testing.assert_close(small.log_prob(x := large.sample()), large.log_prob(x))


@each_way
def test_expand_existing_and_subsequent(default):
    law = build("diagonal", k=BATCH_K[:1])
    for shape in ((5,), (2, 5), (1, 2, 5), (4, 2, 5)):
        larger = expanded(law, shape, default)
        assert larger.batch_shape == shape
        torch.testing.assert_close(law.log_prob(x := larger.sample()), larger.log_prob(x))
        law = larger


@each_law
@each_way
def test_expand_error(name, default):
    small = build(name)
    large = expanded(small, (2, 1) + small.batch_shape, default)
    for shape in ((4, 3), (1,)):
        with pytest.raises((RuntimeError, ValueError)):
            large.expand(shape + (3, 2) + small.batch_shape[:-1])


class Zeroed(ConstrainedNormal):
    """A subclass with an attribute and a constructor of its own."""

    def __init__(self, size):
        super().__init__(torch.zeros(size), 1.0, torch.ones(size), 0.0)
        self.remark = "mine"


def test_expand_of_a_subclass():
    law = Zeroed(3).expand([2])
    assert isinstance(law, Zeroed)
    assert law.remark == "mine"
    assert law.sample().shape == (2, 3)
    assert law.expand([5, 2]).remark == "mine"
    assert Zeroed(3).expand([2], _instance=Zeroed.__new__(Zeroed)).remark == "mine"


def test_expanding_computes_nothing_anew():
    small = build("dense")
    assert small.expand([1000])._conditional is small._conditional


@each_law
def test_to_event_and_mask(name):
    law = build(name).expand([2, *build(name).batch_shape])
    joint = law.to_event(1) if len(law.batch_shape) == 1 else law.to_event(2)
    assert joint.log_prob(joint.sample()).shape == law.batch_shape[: -joint.event_dim + 1]
    masked = law.mask(False)
    assert (masked.log_prob(masked.sample()) == 0).all()


@each_law
@pytest.mark.parametrize("validate_args", [True, False])
def test_validate_args(name, validate_args):
    scale = {
        "scale": -1.0, "covariance_matrix": -COV, "precision_matrix": -COV, "cov_diag": -1.0,
        "scale_tril": -SCALE.diag(),
    }  # fmt: skip
    wrong = {key: tensor(scale[key]) for key in TABLE[name][1] if key in scale}
    with pyro.validation_enabled(validate_args):
        assert build(name)._validate_args is validate_args
        if validate_args:
            with pytest.raises(ValueError):
                build(name, **wrong)


@each_law
def test_arg_constraints(name):
    """Every constraint holds for its parameter, and names an argument of the constructor."""
    law = build(name)
    arguments = inspect.signature(type(law)).parameters
    for key, constraint in type(law).arg_constraints.items():
        assert key in arguments
        if key in law.__dict__ and not torch.distributions.constraints.is_dependent(constraint):
            value = getattr(law, key)
            event_dim = constraint.event_dim
            assert constraint.check(value).shape == value.shape[: value.ndim - event_dim]
            assert constraint.check(value).all()


@each_law
def test_repr(name):
    law = build(name)
    text = repr(law)
    assert text.startswith(type(law).__name__ + "(loc" if name[:7] != "student" else "Constrained")
    for key in TABLE[name][1]:
        assert f"{key}: {tuple(getattr(law, key).shape)}" in text
    assert "rank: 2" in text or "rank: 1" in text
    assert "linear_equality(rank=" in repr(law.support)


@each_law
def test_has_rsample_follows_the_estimator(name):
    for estimator, has in (("pathwise", True), ("score_function", False)):
        law = build(name, gradient_estimator=estimator)
        assert law.has_rsample is has
        assert law.expand([2, *law.batch_shape]).has_rsample is has
        assert law().requires_grad is False


@each_law
def test_transforms_of_the_support(name):
    """PyTorch's contract of biject_to and transform_to."""
    law = build(name)
    x = law.sample((3,))
    for registry in (biject_to, transform_to):
        transform = registry(law.support)
        assert transform.bijective
        assert transform.codomain is law.support or transform.codomain.check(x).all()
        u = transform.inv(x)
        assert u.shape == transform.inverse_shape(x.shape)
        assert x.shape == transform.forward_shape(u.shape)
        torch.testing.assert_close(transform(u), x)
        cached = transform.with_cache()
        assert cached.inv(cached(u)) is u
    independent = biject_to(law.expand([2, *law.batch_shape]).to_event(1).support)
    assert independent.log_abs_det_jacobian(u, x).ndim == x.ndim - 2
    assert transform == transform.with_cache(1)


def test_transformed_distribution():
    """Noise on R^2 pushed onto the subspace: the density is unchanged."""
    transform = LinearEqualityTransform(A, K)
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [transform])
    expected = ConstrainedNormal(transform(torch.zeros(2)), 1.0, A, K)
    x = law.sample((5,))
    assert law.event_shape == (4,)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))


# torch's machinery.


@pytest.mark.parametrize("name", ["dense", "diagonal", "row", "groups", "low_rank", "student"])
def test_second_derivatives_of_log_prob(name):
    _, arguments = TABLE[name]
    free = [key for key in arguments if key not in ("A",)]
    x = build(name).sample().detach()
    values = tuple(arguments[key].clone().requires_grad_() for key in free)

    def score(*given):
        changed = dict(zip(free, given, strict=True))
        if "covariance_matrix" in changed:
            matrix = changed["covariance_matrix"]
            changed["covariance_matrix"] = (matrix + matrix.mT) / 2  # one triangle is read
        law = build(name, **changed, validate_args=False)
        return law.log_prob(law.project(x)).sum()

    assert torch.autograd.gradgradcheck(score, values)


def test_second_derivative_in_A():
    x = build("diagonal").sample()[0]

    def score(matrix):
        law = ConstrainedNormal(LOC, SCALE, matrix, K, validate_args=False)
        return law.log_prob(law.project(x))

    assert torch.autograd.gradgradcheck(score, (A.clone().requires_grad_(),))


class Head(nn.Module):
    """A network whose output obeys the law; everything it holds moves with `to`."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 4)
        self.register_buffer("A", A.clone())

    def forward(self, inputs, k):
        return ConstrainedNormal(self.linear(inputs), 1.0, self.A, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_move_between_types(dtype):
    head = Head().to(dtype)
    law = head(torch.ones(3, 2, dtype=dtype), BATCH_K.to(dtype))
    x = law.rsample()
    assert x.dtype == law.mean.dtype == law.log_prob(x).dtype == law.covariance.dtype == dtype
    size = x.abs() @ law.A.abs().mT + law.k.abs()
    assert (law.residual(x).abs() <= 4 * torch.finfo(dtype).eps * size).all()
    law.log_prob(x.detach()).sum().backward()
    assert head.linear.weight.grad.dtype == dtype


@each_law
def test_single_precision(name):
    law, arguments = TABLE[name]
    single = {
        key: value.float() if isinstance(value, torch.Tensor) else value
        for key, value in arguments.items()
    }
    low, high = law(**single), build(name)
    x = low.sample()
    assert x.dtype == torch.float32
    found, expected = low.log_prob(x), high.log_prob(high.project(x.double()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


UNSEEN = {  # by any other test
    "dense": A + 0.125,
    "redundant": torch.stack([A[0] + 0.375, 2 * A[0] + 0.75]),
    "row": A[0] + 0.625,
    "groups": GroupSum([0, 1, 0, 1], 2, weights=[1.125, 2.0, 3.0, 1.0]),
    "a group without a row": GroupSum([0, 1, 0, 1], 2, weights=[1.375, 0.0, 3.0, 0.0]),
}
OF_SIDE = {"redundant": torch.tensor([1.0, 2.0]), "row": 1.0, "a group without a row": [1.0, 0.0]}


@pytest.mark.parametrize("scale", [SCALE, 0.5], ids=["scales", "one scale"])
@pytest.mark.parametrize("kind", UNSEEN)
def test_law_made_without_gradients_first(kind, scale):
    """What is kept per plan in inference mode must serve a later step of training."""
    matrix, k = UNSEEN[kind], OF_SIDE.get(kind, K)
    with torch.inference_mode():
        law = ConstrainedNormal(LOC, scale, matrix, k)
        law.log_prob(law.sample())
        biject_to(law.support).inv(law.sample())
    loc = LOC.clone().requires_grad_()
    law = ConstrainedNormal(loc, scale, matrix, k)
    x = biject_to(law.support)(biject_to(law.support).inv(law.rsample()))
    (gradient,) = torch.autograd.grad(law.log_prob(x), loc)
    assert gradient.isfinite().all()


def test_public_names_are_documented():
    for name in pyro_constrained.__all__:
        assert inspect.getdoc(getattr(pyro_constrained, name))
