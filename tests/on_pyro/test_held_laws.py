"""A law that is kept while something else moves, repeats, compiles or looks through it."""

import copy
import gc
import pickle
from multiprocessing.reduction import ForkingPickler
from weakref import ref

import numpy as np
import pyro
import pytest
import torch
import torch.multiprocessing  # teaches the pickler to send tensors
from pyro.infer.inspect import get_dependencies
from torch import nn
from torch.utils.checkpoint import checkpoint

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    NoBaseLawError,
    SparseMatrix,
    fields,
)
from tests.on_pyro.concrete import LAWS, LOC, SCALE, A, K, close

ISLANDS = fields.besag(np.array([[0, 1], [1, 2], [2, 3], [4, 5], [5, 6]]))


def field(tau):
    precision = ISLANDS.precision.with_values(tau * torch.tensor(ISLANDS.precision.values))
    return ConstrainedGMRF(0.0, precision, ISLANDS.A, ISLANDS.k)


SENT = {name: lambda make=make: make(LOC, SCALE) for name, make in LAWS.items()} | {
    "field": lambda: field(1.0),
    "sparse": lambda: ConstrainedNormal(LOC, SCALE, A.to_sparse(), K),
    "poisson": lambda: ConstrainedPoisson(SCALE, torch.ones(4), torch.tensor(3)),
    "trellis": lambda: ConstrainedPoisson(
        SCALE, torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1]]), torch.tensor([3, 2])
    ),
    "bernoulli": lambda: ConstrainedBernoulli(logits=LOC, A=torch.ones(4), k=2),
}


QUANTITIES = {
    "log_prob": lambda law, x, t: law.log_prob(x) * t,
    "moments": lambda law, x, t: (law.mean * t + law.variance * t).sum(),
    "entropy": lambda law, x, t: law.entropy() * t,
}
FIRST = {
    "grad of grad": lambda f, t: torch.func.grad(torch.func.grad(f))(t),
    "hessian": lambda f, t: torch.func.hessian(f)(t),
    "grad of jvp": lambda f, t: torch.func.grad(
        lambda t: torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]
    )(t),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", SENT)
def test_what_one_transform_makes_of_a_law_is_not_for_the_next(name, quantity, first):
    """A level of torch.func wraps what is made in it, and is gone when the next one runs."""
    x, t = SENT[name]().sample(), torch.tensor(1.3)
    law = SENT[name]()
    FIRST[first](lambda t: QUANTITIES[quantity](law, x, t), t)
    for later in QUANTITIES.values():
        for transform in (torch.func.grad, lambda f: torch.func.vmap(torch.func.grad(f))):
            at = t if transform is torch.func.grad else t.expand(2)
            found = transform(lambda t, later=later: later(law, x, t))(at)
            close(found, transform(lambda t, later=later: later(SENT[name](), x, t))(at))
        close(later(law, x, t), later(SENT[name](), x, t))


@pytest.mark.parametrize("name", SENT)
def test_an_expanded_law_shares_nothing_that_a_transform_made(name):
    """Both had written to one place: figures of the one had the batch of the other."""
    law, x = SENT[name](), SENT[name]().sample()
    expected = law.log_prob(x), law.mean, law.entropy()

    def figures(t):
        large = law.expand((4,))
        asked = large.log_prob(x), large.mean, large.entropy(), large.variance
        assert [one.shape[:1] for one in asked] == [(4,)] * 4
        own = law.log_prob(x), law.mean, law.entropy()
        return tuple(one + t for one in own)

    with_first = torch.func.vmap(lambda t: law.mean + law.entropy() + t)
    with_first(torch.zeros(2))
    found = torch.func.vmap(figures, randomness="different")(torch.zeros(2))
    close(found, tuple(one.expand(2, *one.shape) for one in expected))


def test_the_gradient_of_a_law_that_was_made_inside_of_a_transform():
    """Parameters that are made there are wrapped, and hid that their gradient is recorded."""
    p, laws = torch.tensor([0.2, 0.5, 0.7, 0.4], requires_grad=True), []

    def make(t):
        laws.append(ConstrainedBernoulli(p, torch.ones(4), 2))
        return t

    torch.func.jvp(make, (torch.zeros(()),), (torch.zeros(()),))
    weights = torch.arange(16.0).reshape(4, 4)
    found, expected = (
        torch.autograd.grad((law.covariance * weights).sum(), p)
        for law in (laws[0], ConstrainedBernoulli(p, torch.ones(4), 2))
    )
    close(found, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda law: pickle.loads(pickle.dumps(law))])
@pytest.mark.parametrize("name", SENT)
def test_a_law_is_copied_after_a_transform(name, copied):
    law = SENT[name]()
    x, t = law.sample(), torch.tensor(1.3)
    for quantity in QUANTITIES.values():
        torch.func.hessian(lambda t, quantity=quantity: quantity(law, x, t))(t)
    close(copied(law).log_prob(x), law.log_prob(x))


@pytest.mark.parametrize("name", SENT)
def test_laws_made_inside_of_a_transform_are_given_back(name):
    """Nothing keeps them, though what they make there may know of them."""
    x, t = SENT[name]().sample(), torch.tensor(1.3)
    laws = []

    def score(t):
        law = SENT[name]()
        laws.append(ref(law))
        return sum(quantity(law, x, t) for quantity in QUANTITIES.values())

    torch.func.hessian(score)(t)
    gc.collect()
    assert [law() for law in laws] == [None] * len(laws)


@pytest.mark.parametrize("name", SENT)
def test_a_law_that_was_sent_to_another_process(name):
    """That moves the memory of its tensors, and gives back what they had: nothing of ours may be
    a view of it, here or in a law made later."""
    law = SENT[name]()
    x = law.sample()
    expected = law.log_prob(x), law.mean, law.variance
    kept = ForkingPickler.dumps(law)
    noise = [torch.full((size,), -1) for size in (2, 4, 5, 7, 8, 14) * 50]  # where it had been
    for other in (law, SENT[name]()):
        close((other.log_prob(x), other.mean, other.variance), expected)
    assert kept and noise


def test_other_laws_of_a_field_that_was_sent():
    x = torch.zeros(7)
    expected = [field(tau).log_prob(x) for tau in (2.0, 3.0)]
    kept = ForkingPickler.dumps(field(1.0))
    close([field(tau).log_prob(x) for tau in (2.0, 3.0)], expected)
    assert kept


@pytest.mark.parametrize("is_asked", [False, True])
@pytest.mark.parametrize("name", LAWS)
def test_a_law_that_was_made_outside_of_a_checkpoint(name, is_asked):
    """What is checkpointed runs twice: parts of the law that the first run makes are there in the
    second."""
    loc, scale = LOC.clone().requires_grad_(), SCALE.clone().requires_grad_()
    x = LAWS[name](LOC, SCALE).mean
    (expected,) = torch.autograd.grad(LAWS[name](loc, scale).log_prob(x), scale)
    law = LAWS[name](loc, scale)
    if is_asked:
        law.log_prob(x)
    score = checkpoint(law.log_prob, x, use_reentrant=False)
    close(torch.autograd.grad(score, scale)[0], expected)


DISCRETE = {
    "poisson": lambda p: ConstrainedPoisson(p.exp(), torch.ones(4), 2),
    "subset": lambda p: ConstrainedBernoulli(logits=p, A=torch.ones(4), k=2),
    "categorical": lambda p: ConstrainedCategorical(
        logits=p[:, None] * torch.arange(3.0), A=torch.ones(4), k=torch.tensor(2)
    ),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", DISCRETE)
def test_a_compiled_step_makes_its_discrete_law(name):
    """Where its graph breaks, tensors that nothing changed are not taken for changed ones."""
    torch._dynamo.reset()
    x = torch.tensor([1.0, 0.0, 1.0, 0.0])
    score = torch.compile(lambda p: DISCRETE[name](p).log_prob(x), backend="eager")
    close(score(LOC.clone().requires_grad_()), DISCRETE[name](LOC).log_prob(x))


INDEX = torch.tensor([0, 0, 1, 1])
MADE_INSIDE = {
    "groups": lambda scale: GroupSum(INDEX, 2),
    "groups made there": lambda scale: GroupSum(torch.tensor([0, 0, 1, 1]), 2),
    "pattern": lambda scale: SparseMatrix(INDEX, torch.arange(4), torch.ones(4), (2, 4)),
    "coo": lambda scale: A.to_sparse(),
}


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.hessian, torch.func.jacfwd])
@pytest.mark.parametrize("name", MADE_INSIDE)
def test_indices_of_torch_inside_of_what_differentiates(name, transform):
    def score(scale):
        return ConstrainedNormal(LOC, scale, MADE_INSIDE[name](scale), K).mean.square().sum()

    matrix = MADE_INSIDE[name](SCALE)
    outside = transform(lambda scale: ConstrainedNormal(LOC, scale, matrix, K).mean.square().sum())
    close(transform(score)(SCALE), outside(SCALE))


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap, lambda f: f])
def test_what_is_known_when_a_constraint_is_made_has_no_gradient(transform):
    """Nor is it mapped over: an error, and no constant."""
    weights = torch.ones(4, 4).requires_grad_()
    weights = weights if transform is torch.func.vmap else weights[0]

    def score(weights):
        law = ConstrainedNormal(LOC, SCALE, GroupSum(INDEX, 2, weights=weights), K)
        return law.constraint_log_prob()

    with pytest.raises(ConstraintError, match="weights that are known numbers"):
        transform(score)(weights)
    rows = torch.zeros(3, 4, dtype=torch.long)
    with pytest.raises(ConstraintError, match="mapped"):
        torch.func.vmap(lambda row: GroupSum(row, 2).index)(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: ConstrainedNormal(LOC, -SCALE * t, A, K),
        lambda t: ConstrainedNormal(LOC * t / 0, SCALE, A, K),
        lambda t: ConstrainedMultivariateStudentT(-3 * t, LOC, A=A, k=K, scale=SCALE),
        lambda t: ConstrainedPoisson(-SCALE * t, torch.ones(4), 2),
        lambda t: ConstrainedBernoulli(probs=2 * t.expand(4), A=torch.ones(4), k=2),
    ],
)
def test_errors_inside_of_what_differentiates(make):
    """They are those of the same program outside."""
    messages = []
    for run in (make, torch.func.grad(lambda t: make(t).constraint_log_prob())):
        with pytest.raises(torch.linalg.LinAlgError) as caught:
            run(torch.tensor(1.0))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_law_without_a_base_law_is_seen_to_have_none():
    """By what asks every distribution for what it wraps: autoguides with structure, drawings."""
    each = ConstrainedMultivariateStudentT(
        5.0, LOC, A=GroupSum([0, 0, 1, 1], 2), k=K, scale=SCALE, per_group=True
    )
    for law, error in ((field(1.0), "as the law without"), (each, "a law per group")):
        assert not hasattr(law, "base_dist")
        with pytest.raises(NoBaseLawError, match=error):
            law.base_dist  # noqa: B018

    def model():
        x = pyro.sample("x", field(1.0))
        pyro.sample("y", pyro.distributions.Normal(x[:2], 1).to_event(1), obs=torch.zeros(2))

    assert get_dependencies(model)["prior_dependencies"]["y"].keys() == {"x", "y"}


class Held(nn.Module):
    """A module whose data loader draws in other processes."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(LOC.clone())
        self.law = ConstrainedNormal(self.loc, SCALE, A, K)


def test_sharing_the_memory_of_a_parameter_changes_nothing():
    held = Held()
    expected = held.law.mean
    held.share_memory()
    close(held.law.mean, expected)
    held.loc.data = 2 * held.loc.data
    with pytest.raises(ValueError, match=r"^loc: .* make it again"):
        held.law.mean  # noqa: B018
