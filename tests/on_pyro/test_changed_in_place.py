"""A law whose tensors are changed in place, or learned when they were not, says so: it is half what
it was, half what they are."""

import copy
import pickle

import pytest
import torch
from pyro.optim.adagrad_rmsprop import AdagradRMSProp
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.dct_adam import DCTAdam
from scipy import sparse
from torch import nn
from torch.distributions import biject_to

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    LinearEqualityTransform,
    constraints,
)

N = 4
ONES = torch.ones(N)


def made(law, **parameters):
    """A law, and its tensors by name."""
    tensors = {"A": ONES.clone(), "k": torch.tensor(2.0), **parameters}
    tensors = {name: tensor.double() for name, tensor in tensors.items()}  # nothing is cast again
    return law(**tensors), tensors


def zeros():
    return torch.zeros(N)


LAWS = {
    "normal": lambda: made(ConstrainedNormal, loc=zeros(), scale=ONES.clone()),
    "uniform": lambda: made(ConstrainedNormal, loc=zeros(), scale=torch.tensor(1.0)),
    "covariance": lambda: made(
        ConstrainedMultivariateNormal, loc=zeros(), covariance_matrix=torch.eye(N)
    ),
    "precision": lambda: made(
        ConstrainedMultivariateNormal, loc=zeros(), precision_matrix=torch.eye(N)
    ),
    "tril": lambda: made(ConstrainedMultivariateNormal, loc=zeros(), scale_tril=torch.eye(N)),
    "low rank": lambda: made(
        ConstrainedLowRankMultivariateNormal,
        loc=zeros(),
        cov_factor=torch.ones(N, 1),
        cov_diag=ONES.clone(),
    ),
    "student": lambda: made(
        ConstrainedMultivariateStudentT, df=torch.tensor(5.0), loc=zeros(), scale=ONES.clone()
    ),
    "poisson": lambda: made(ConstrainedPoisson, rate=ONES.clone()),
    "bernoulli": lambda: made(ConstrainedBernoulli, logits=zeros()),
    "probabilities": lambda: made(ConstrainedBernoulli, probs=0.5 * ONES),
    "categorical": lambda: made(ConstrainedCategorical, logits=torch.zeros(N, 2)),
}
COPIED = ("categorical", "logits")
"""Made into other logits: the law stays what it was."""
ANSWERS = {
    "draw": lambda law, x: law.sample(),
    "score": lambda law, x: law.log_prob(x),
    "mean": lambda law, x: law.mean,
    "variance": lambda law, x: law.variance,
    "entropy": lambda law, x: law.entropy(),
    "evidence": lambda law, x: law.constraint_log_prob(),
}


def multiply(tensor):
    tensor.mul_(1.0)


def replace_data(tensor):
    """As ``vector_to_parameters`` and ``Module.to`` do."""
    tensor.data = tensor.data.clone()


@pytest.mark.parametrize("change", [multiply, replace_data])
@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("name", LAWS)
def test_every_answer_is_refused(name, is_used, change):
    """It names what was changed; the same law made again answers."""
    for changed in LAWS[name]()[1]:
        law, tensors = LAWS[name]()
        x = LAWS[name]()[0].sample()
        if is_used:
            for answer in ANSWERS.values():
                answer(law, x)
        change(tensors[changed])
        for answer in ANSWERS.values():
            if (name, changed) == COPIED:
                answer(law, x)
                continue
            with pytest.raises(ConstraintError, match=f"^{changed}: .* make it again"):
                answer(law, x)
        again = type(law)(**tensors)
        again.log_prob(again.sample())


def test_values_of_a_sparse_precision():
    precision = sparse.csr_array(torch.eye(N).numpy())
    law = ConstrainedGMRF(zeros(), precision, ONES, 2.0)
    law.loc.add_(1.0)
    with pytest.raises(ConstraintError, match=r"^loc: "):
        law.sample()


@pytest.mark.parametrize("name", LAWS)
def test_copies_are_of_their_own_tensors(name):
    law, _ = LAWS[name]()
    law.mean  # noqa: B018  # kept
    with torch.no_grad():
        for other in (copy.deepcopy(law), pickle.loads(pickle.dumps(law)), law.expand([3])):
            assert other.log_prob(other.sample()).isfinite().all()


@pytest.mark.parametrize("changed", ["A", "k"])
@pytest.mark.parametrize("basis", ["isometry", "elimination"])
def test_constraints_and_transforms(changed, basis):
    tensors = {"A": torch.ones(2, N) + torch.eye(2, N), "k": torch.ones(2)}
    support = constraints.linear_equality(**tensors)
    onto = LinearEqualityTransform(**tensors, basis=basis)
    u = torch.ones(2)
    assert support.check(onto(u))
    tensors[changed].mul_(1.0)
    for answer in (
        lambda: support.check(torch.ones(N)),
        lambda: onto(u),
        lambda: onto.inv(torch.ones(N)),
    ):
        with pytest.raises(ConstraintError, match=f"^{changed}: .* make it again"):
            answer()


def pickled(law):
    return pickle.loads(pickle.dumps(law))


def frozen(name):
    """A law of tensors that are learned only after it was made."""
    law, tensors = LAWS[name]()
    for key in learned_of(law, tensors):
        tensors[key].requires_grad_()
    return law


def learned_of(law, tensors):
    """Of integer laws, neither A nor k."""
    is_discrete = law.support.is_discrete
    return [name for name in tensors if not (is_discrete and name in ("A", "k"))]


def learned(name, mode=torch.enable_grad):
    """A law of parameters that are learned, made in a mode."""
    law, tensors = LAWS[name]()
    tensors |= {key: nn.Parameter(tensors[key]) for key in learned_of(law, tensors)}
    with mode():
        return type(law)(**tensors)


def expanded(name):
    law = learned(name)
    with torch.no_grad():
        return law.expand([3])


WITHOUT_GRADIENT = {
    "no_grad": lambda name: learned(name, torch.no_grad),
    "inference_mode": lambda name: learned(name, torch.inference_mode),
    "frozen": frozen,
    "pickled": lambda name: pickled(learned(name)),
    "expanded": expanded,
}


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("how", WITHOUT_GRADIENT)
@pytest.mark.parametrize("name", LAWS)
def test_no_answer_has_a_part_of_a_gradient(name, how, is_used):
    """That of a law that was made where nothing was recorded is refused, or there is none."""
    x = LAWS[name]()[0].sample()
    law = WITHOUT_GRADIENT[how](name)
    if is_used:
        with torch.no_grad():
            for answer in ANSWERS.values():
                answer(law, x)
    refused, is_constant = [], how == "pickled" and name == COPIED[0]
    for key, answer in ANSWERS.items():
        try:
            assert is_constant or not answer(law, x).requires_grad, key
        except ConstraintError as error:
            refused.append(str(error))
    assert refused or (name, "logits") == COPIED
    assert all("make it again where gradients are recorded" in text for text in refused)
    assert learned(name).log_prob(x).requires_grad


@pytest.mark.parametrize("how", ["no_grad", "frozen", "in place"])
@pytest.mark.parametrize("name", ["normal", "covariance", "precision", "low rank", "student"])
def test_what_is_made_of_some_of_them_alone(name, how):
    """The nearest point and the transform, of A and k; the base law of a covariance."""
    x = torch.ones(N)
    if how == "in place":
        law, tensors = LAWS[name]()
        law.project(x)
        for tensor in tensors.values():
            tensor.mul_(1.0)
    else:
        law = WITHOUT_GRADIENT[how](name)
    asked = [lambda: law.project(x), lambda: biject_to(law.support)(x[1:])]
    if name in ("covariance", "precision"):
        asked.append(lambda: law.base_dist)
    for ask in asked:
        with pytest.raises(ConstraintError, match="make it again"):
            ask()
    if how != "in place":  # no answer with a derivative
        assert law.support.check(x).shape == ()


@pytest.mark.parametrize("name", LAWS)
def test_copies_of_what_a_network_made_are_constants(name):
    """They answer as the law does, and nothing that they have can be learned."""
    given, tensors = LAWS[name]()
    learns = learned_of(given, tensors)
    law = type(given)(
        **{k: t.requires_grad_() * 1 if k in learns else t for k, t in tensors.items()}
    )
    twin, x = pickled(law), law.sample()
    torch.testing.assert_close(twin.log_prob(x), law.log_prob(x), rtol=0, atol=0)
    torch.testing.assert_close(twin.mean, law.mean, rtol=0, atol=0)
    made = [twin.A, twin.k, *(getattr(twin, key) for key in learns)]
    assert not any(tensor.requires_grad for tensor in made)
    assert all(getattr(copy.copy(law), key).requires_grad for key in learns)


class Prior(nn.Module):
    """Keeps a law of parameters."""

    def __init__(self, scale):
        super().__init__()
        self.loc, self.scale = nn.Parameter(zeros()), nn.Parameter(scale * ONES)
        self.law = ConstrainedNormal(self.loc, self.scale, ONES, 2.0)


def test_a_module_that_keeps_a_law():
    one, other = Prior(1.0), Prior(2.0)
    one.load_state_dict(other.state_dict())
    with pytest.raises(ConstraintError, match="forward pass"):
        one.law.sample()
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1)
    other.law.mean.square().sum().backward()
    optimiser.step()
    with pytest.raises(ConstraintError, match="forward pass"):
        other.law.mean  # noqa: B018


STEPS = {
    "fused adam": lambda learned: torch.optim.Adam(learned, fused=True),
    "fused adamw": lambda learned: torch.optim.AdamW(learned, fused=True),
    "fused sgd": lambda learned: torch.optim.SGD(learned, lr=0.1, fused=True),
    "fused adagrad": lambda learned: torch.optim.Adagrad(learned, fused=True),
    "clipped adam": lambda learned: ClippedAdam(learned, lr=0.1),
    "adagrad rmsprop": lambda learned: AdagradRMSProp(learned, eta=0.1),
    "dct adam": lambda learned: DCTAdam(learned, lr=0.1),
}
LEARNED = {
    "normal": lambda p: ConstrainedNormal(p, p.abs() + 1, ONES, 2.0),
    "a part": lambda p: ConstrainedNormal(p[1:], 1.0, ONES[1:], 2.0),
    "sparse": lambda p: ConstrainedNormal(p, 1.0, sparse.csr_array(ONES[None]), [2.0]),
    "student": lambda p: ConstrainedMultivariateStudentT(5.0, p, scale=ONES, A=ONES, k=2.0),
    "k": lambda p: ConstrainedNormal(torch.zeros_like(p), 1.0, ONES.to(p), p[0]),
    "bernoulli": lambda p: ConstrainedBernoulli(logits=p, A=ONES, k=2),
    "poisson": lambda p: ConstrainedPoisson(p, ONES, 2),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", LEARNED)
def test_steps_that_change_no_version(name, step):
    """Draws were off the plane, densities half those of other parameters, without a word."""
    learned, other = nn.Parameter(ONES * 0.5), nn.Parameter(ONES.clone())
    law, kept = LEARNED[name](learned), ConstrainedNormal(other, 1.0, ONES, 2.0)
    x = law.sample()
    before = kept.log_prob(ONES / 2).item()
    learned.square().sum().backward()
    STEPS[step]([learned, other]).step()  # the other one has no gradient
    for ask in (lambda: law.log_prob(x), law.sample, lambda: law.mean):
        with pytest.raises(ConstraintError, match="optimiser's step"):
            ask()
    assert kept.log_prob(ONES / 2).item() == before
    assert LEARNED[name](learned).sample().isfinite().all()


def refuses(law, x):
    with torch.no_grad():
        for ask in (lambda: law.log_prob(x), law.sample, lambda: law.mean):
            with pytest.raises(ConstraintError, match="optimiser's step"):
                ask()


def moved(parameter, step):
    parameter.square().sum().backward()
    STEPS[step]([parameter]).step()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", LEARNED)
def test_steps_under_a_law_of_values_without_a_gradient(name, step):
    """Of the old policy, a frozen part, what is frozen to be evaluated: all are the same data."""
    learned, x = nn.Parameter(ONES * 0.5), LEARNED[name](ONES * 0.5).sample()
    laws = [LEARNED[name](values) for values in (learned, learned.detach(), learned.detach()[:])]
    copied = LEARNED[name](learned.detach().clone())
    learned.requires_grad_(False)
    laws.append(LEARNED[name](learned))
    learned.requires_grad_(True)
    moved(learned, step)
    learned.requires_grad_(False)
    for law in laws:
        refuses(law, x)
    assert copied.log_prob(x).isfinite()


@pytest.mark.parametrize("step", ["fused adam", "clipped adam"])
def test_a_law_made_after_steps_may_be_frozen(step):
    learned = nn.Parameter(ONES * 0.5)
    kept = [LEARNED["normal"](learned)]
    moved(learned, step)
    law = LEARNED["normal"](learned)
    before = law.log_prob(ONES / 2).item()
    learned.requires_grad_(False)
    assert law.log_prob(ONES / 2).item() == before
    frozen = LEARNED["normal"](learned)
    learned.requires_grad_(True)
    with torch.no_grad():
        assert frozen.log_prob(ONES / 2).item() == before
    refuses(kept[0], ONES / 2)


def test_steps_after_which_gradients_are_cleared():
    learned = nn.Parameter(ONES * 0.5)
    law, optimiser = LEARNED["normal"](learned), torch.optim.Adam([learned], fused=True)
    optimiser.register_step_post_hook(lambda optimiser, *_: optimiser.zero_grad())
    learned.square().sum().backward()
    optimiser.step()
    refuses(law, ONES / 2)


def test_steps_that_are_skipped():
    """Gradients that are not finite: a scaler of them takes no step."""
    learned = nn.Parameter(ONES * 0.5)
    law, optimiser = LEARNED["normal"](learned), torch.optim.Adam([learned], fused=True)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((learned * torch.inf).sum()).backward()
    scaler.step(optimiser)
    scaler.update()
    with torch.no_grad():
        assert law.log_prob(ONES / 2).isfinite()
    scaler.scale(learned.sum()).backward()
    learned.grad.fill_(1.0)
    scaler.step(optimiser)
    refuses(law, ONES / 2)


@pytest.mark.parametrize("step", STEPS)
def test_steps_under_what_is_made_of_a_learned_k(step):
    k = nn.Parameter(torch.tensor([2.0]))
    transform = LinearEqualityTransform(ONES[None], k)
    support = constraints.linear_equality(ONES[None], k)
    k.sum().backward()
    STEPS[step]([k]).step()
    with torch.no_grad():
        for ask in (transform, support.check):
            with pytest.raises(ConstraintError, match=r"k: .*optimiser's step"):
                ask(torch.zeros(3 if ask is transform else 4))


def test_inference_mode():
    with torch.inference_mode():
        law = ConstrainedNormal(zeros(), ONES.clone(), ONES.clone(), 2.0)
        assert law.log_prob(law.sample()).isfinite()
