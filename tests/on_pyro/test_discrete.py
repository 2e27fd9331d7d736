"""What Pyro and PyTorch ask of any distribution, of the discrete laws."""

import inspect
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import TorchDistribution

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    GroupSum,
    constraints,
)
from tests.chance import assert_likely, of_means
from tests.on_pyro.models import tensor

A, K = tensor([[1, 1, 1, 0], [0, 1, 1, 2]]), tensor([3, 4])
BATCH_K = tensor([[3, 4], [2, 2], [1, 3]])
RATE, LOGITS = tensor([0.5, 1.0, 2.0, 0.7]), tensor([0.3, -0.2, 0.8, 0.1])
GROUPS = GroupSum([0, 0, 1, 1], num_groups=2)
TABLE3 = tensor(np.random.default_rng(0).normal(size=(4, 3)))
ONE = tensor([1, 2])

TABLE = {
    "poisson": (ConstrainedPoisson, {"rate": RATE, "A": A, "k": BATCH_K}),
    "poisson_row": (
        ConstrainedPoisson,
        {"rate": RATE, "A": torch.ones(4), "k": tensor([3.0, 1.0, 0.0])},
    ),
    "poisson_groups": (ConstrainedPoisson, {"rate": RATE, "A": GROUPS, "k": K}),
    "bernoulli": (ConstrainedBernoulli, {"probs": RATE / 3, "A": A, "k": tensor([2, 3])}),
    "bernoulli_row": (ConstrainedBernoulli, {"logits": LOGITS, "A": A[0] + A[1], "k": tensor(3)}),
    "bernoulli_groups": (
        ConstrainedBernoulli,
        {"logits": torch.stack([LOGITS, -LOGITS]), "A": GROUPS, "k": ONE},
    ),
    "categorical": (ConstrainedCategorical, {"logits": TABLE3, "A": A, "k": K}),
    "categorical_probs": (
        ConstrainedCategorical,
        {"probs": TABLE3.exp(), "A": torch.ones(4), "k": ONE},
    ),
}
each_law = pytest.mark.parametrize("name", TABLE)


def build(name: str, **changed) -> TorchDistribution:
    law, arguments = TABLE[name]
    return law(**(arguments | changed))


@each_law
def test_shapes(name):
    law = build(name)
    for sample_shape in ((), (2,), (2, 3)):
        x = law(sample_shape)
        assert x.shape == law.shape(torch.Size(sample_shape))
        assert law.log_prob(x).shape == sample_shape + law.batch_shape
        assert law.support.check(x).all()
    assert law.mean.shape == law.variance.shape == law.stddev.shape == law.shape()
    assert law.entropy().shape == law.constraint_log_prob().shape == law.batch_shape
    assert law.marginal_log_prob().shape[:-1] == law.shape()
    assert law.support.event_dim == law.event_dim == 1
    assert law.support.is_discrete


@each_law
def test_infer_shapes(name):
    law, arguments = TABLE[name]
    shapes = {key: value.shape for key, value in arguments.items()}
    built = build(name)
    assert law.infer_shapes(**shapes) == (built.batch_shape, built.event_shape)


@each_law
def test_arg_constraints(name):
    law = build(name)
    arguments = inspect.signature(type(law)).parameters
    for key, constraint in type(law).arg_constraints.items():
        assert key in arguments
        if not torch.distributions.constraints.is_dependent(constraint):
            value = getattr(law, key)
            assert value.shape[: value.ndim - constraint.event_dim] == law.batch_shape
            assert constraint.check(value).all()


@each_law
def test_repr(name):
    law, text = build(name), repr(build(name))
    assert text.startswith(type(law).__name__ + "(")
    for key in TABLE[name][1]:
        assert f"{key}: {tuple(getattr(law, key).shape)}" in text
    assert "rank: " in text
    assert "integer_linear_equality(" in repr(law.support)


@each_law
@pytest.mark.parametrize("default", [False, True], ids=["own", "default"])
def test_expand(name, default):
    small = build(name)
    shape = (2, 3, *small.batch_shape)
    large = TorchDistribution.expand(small, shape) if default else small.expand(shape)
    assert large.batch_shape == shape
    x = large.sample((50,))
    assert (x[:, 0] != x[:, 1]).any()
    torch.testing.assert_close(small.log_prob(x), large.log_prob(x))
    torch.testing.assert_close(small.mean.expand(large.shape()), large.mean)
    if default:  # Pyro's own wrapper has no more
        return
    torch.testing.assert_close(small.entropy().expand(shape), large.entropy())
    for key in TABLE[name][1].keys() - {"A", "k"}:
        event_dim = type(small).arg_constraints[key].event_dim
        value = getattr(large, key)
        assert value.shape[: value.ndim - event_dim] == shape


def test_expand_of_inner_dimensions():
    law = ConstrainedPoisson(RATE, A, BATCH_K[:1])
    before = law.mean
    for shape in ((5,), (2, 5), (1, 2, 5)):
        larger = law.expand(shape)
        x = larger.sample()
        assert x.shape == (*shape, 4)
        torch.testing.assert_close(law.log_prob(x), larger.log_prob(x))
        torch.testing.assert_close(larger.mean, before.expand(larger.shape()))
    draws = law.expand((4000,)).sample()
    assert_likely(of_means(draws, law.mean[0].numpy()))


def test_expanding_computes_nothing_anew():
    small = build("poisson")
    assert small._parts is small.expand([1000, 3])._parts


class Pairs(ConstrainedBernoulli):
    """A subclass with an attribute and a constructor of its own."""

    def __init__(self, size):
        super().__init__(torch.full((size,), 0.5), torch.ones(size), 2)
        self.remark = "mine"


def test_expand_of_a_subclass():
    law = Pairs(3).expand([2])
    assert isinstance(law, Pairs)
    assert law.remark == "mine"
    assert law.sample().shape == (2, 3)


@each_law
def test_to_event_and_mask(name):
    law = build(name).expand([2, *build(name).batch_shape])
    joint = law.to_event(len(law.batch_shape))
    assert joint.log_prob(joint.sample()).shape == ()
    masked = law.mask(False)
    assert (masked.log_prob(masked.sample()) == 0).all()
    assert law.mask(torch.tensor(True)).has_enumerate_support


@each_law
def test_pickle(name):
    law = build(name)
    law.mean  # noqa: B018  (what is kept must not stand in the way)
    again = pickle.loads(pickle.dumps(law))
    x = law.sample((5,))
    torch.testing.assert_close(again.log_prob(x), law.log_prob(x))
    torch.testing.assert_close(again.mean, law.mean)
    assert again.sample().shape == law.shape()


@each_law
@pytest.mark.parametrize("validate_args", [True, False])
def test_validate_args(name, validate_args):
    arguments = TABLE[name][1]
    wrong = {
        key: -tensor(1) * float("nan") + arguments[key] for key in arguments.keys() - {"A", "k"}
    }
    with pyro.validation_enabled(validate_args):
        law = build(name)
        assert law._validate_args is validate_args
        off = torch.full((4,), 7.0)
        if validate_args:
            with pytest.raises(ValueError):
                build(name, **wrong)
            with pytest.raises(ValueError):
                law.log_prob(off)
        else:
            assert (law.log_prob(off) == -torch.inf).all()


@each_law
def test_wrong_data_are_an_error(name):
    law = build(name)
    with pytest.raises(ValueError):
        law.log_prob(torch.ones(*law.shape(), 1))
    if law.batch_shape:
        with pytest.raises(ValueError):
            law.log_prob(torch.ones(law.batch_shape[0] + 1, *law.shape()[1:]))


@each_law
def test_estimators(name):
    for estimator, has in (("score_function", False), ("marginal_expectation", True)):
        law = build(name, gradient_estimator=estimator)
        assert law.has_rsample is has
        assert law.expand([2, *law.batch_shape]).has_rsample is has
    with pytest.raises(NotImplementedError):
        build(name).rsample()


@each_law
def test_second_derivatives(name):
    _, arguments = TABLE[name]
    (key,) = arguments.keys() - {"A", "k"}

    def total(value):
        law = build(name, **{key: value})
        return law.constraint_log_prob().sum() + (law.mean**2).sum() + law.entropy().sum()

    value = arguments[key].clone().requires_grad_()
    assert torch.autograd.gradcheck(total, (value,))
    assert torch.autograd.gradgradcheck(total, (value,))


@each_law
def test_single_precision(name):
    law, arguments = TABLE[name]
    single = {
        key: value.float() if isinstance(value, torch.Tensor) else value
        for key, value in arguments.items()
    }
    low, high = law(**single), build(name)
    x = low.sample()
    assert x.dtype == low.mean.dtype == low.marginal_log_prob().dtype == torch.float32
    np.testing.assert_allclose(low.log_prob(x), high.log_prob(x.double()), rtol=1e-4, atol=1e-4)


@each_law
def test_law_made_without_gradients_first(name):
    """What is kept per plan in inference mode must serve a later step of training."""
    _, arguments = TABLE[name]
    (key,) = arguments.keys() - {"A", "k"}
    with torch.inference_mode():
        law = build(name)
        law.log_prob(law.sample())
        assert law.mean.isfinite().all()
        assert law.variance.isfinite().all()
    value = arguments[key].clone().requires_grad_()
    law = build(name, **{key: value})
    (law.log_prob(law.sample()).sum() + law.mean.sum()).backward()
    assert value.grad.isfinite().all()


@each_law
def test_no_graph_without_gradients(name):
    law = build(name)
    for value in (law.mean, law.variance, law.entropy(), law.constraint_log_prob()):
        assert not value.requires_grad


def test_support_of_the_constraint_itself():
    support = constraints.integer_linear_equality(A, K, upper=2)
    x = tensor([[1, 0, 2, 1], [1, 2, 0, 1], [0, 3, 0, 0.5], [0.5, 1.5, 1, 0.75]])
    assert support.check(x).tolist() == [True, True, False, False]
    assert support.is_discrete
    assert (support.A == A).all()
    with pytest.raises(ValueError):
        constraints.integer_linear_equality(2 * A, K + 1)


def test_A_or_k_with_a_gradient_is_refused():
    for changed in ({"A": A.clone().requires_grad_()}, {"k": K.clone().requires_grad_()}):
        with pytest.raises(ValueError, match="gradient"):
            build("categorical", **changed)
    with pytest.raises(ValueError, match="batch of matrices"):
        build("categorical", A=torch.stack([A, A]))


def test_integers_are_promoted():
    law = ConstrainedPoisson(torch.tensor([1, 2, 3]), torch.tensor([1, 1, 1]), 4)
    assert law.sample().dtype == torch.get_default_dtype()
    assert ConstrainedBernoulli(0.5, torch.ones(4, dtype=torch.bool), 2).sample().sum() == 2


def test_base_law():
    for name in TABLE:
        law = build(name)
        base = law.base_dist
        assert base.event_shape == law.event_shape
        assert base.batch_shape == law.batch_shape
        x = law.sample()
        expected = base.log_prob(x) - law.constraint_log_prob()
        torch.testing.assert_close(law.log_prob(x), expected)
    assert isinstance(build("poisson").base_dist, dist.Independent)


@each_law
@pytest.mark.parametrize("member", ["mean", "variance", "covariance", "entropy", "log_prob"])
def test_answers_first_asked_for_without_a_gradient_have_one_later(name, member):
    law, arguments = TABLE[name]
    key = next(iter(arguments))

    def slope(is_looked_at: bool) -> torch.Tensor:
        parameter = arguments[key].clone().requires_grad_()
        made = law(**(arguments | {key: parameter}))
        x = made.sample()

        def total() -> torch.Tensor:
            found = getattr(made, member)
            found = found(x) if member == "log_prob" else found() if callable(found) else found
            return found.sin().sum()

        if is_looked_at:
            with torch.no_grad():
                total()
        (found,) = torch.autograd.grad(total(), parameter)
        return found

    torch.manual_seed(3)
    expected = slope(False)
    torch.manual_seed(3)
    torch.testing.assert_close(slope(True), expected)
