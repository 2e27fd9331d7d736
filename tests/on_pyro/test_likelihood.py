"""The constrained law as likelihood: plates, batches, mask, to_event, expand, subsampling."""

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstraintError,
    GroupSum,
)
from tests.on_pyro.models import fit, tensor

ROWS = 5
A = tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]])
GROUPS = GroupSum([0, 0, 1, 1], num_groups=2)
TOTALS = tensor([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.2], [3.0, 0.0]])
LOC, SCALE = tensor([0.1, -0.2, 0.3, 0.0]), tensor([1.0, 0.5, 2.0, 1.0])

LAWS = {
    "dense": lambda k: ConstrainedMultivariateNormal(LOC, SCALE.diag() + 0.2, A, k),
    "diagonal": lambda k: ConstrainedNormal(LOC, SCALE, A, k),
    "groups": lambda k: ConstrainedNormal(LOC, SCALE, GROUPS, k),
    "low_rank": lambda k: ConstrainedLowRankMultivariateNormal(LOC, LOC[:, None], SCALE, A, k),
    "student": lambda k: ConstrainedMultivariateStudentT(4.0, LOC, A=A, k=k, scale=SCALE),
}
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


def scores(law) -> tuple[torch.Tensor, torch.Tensor]:
    """Data of one batched law, and the score of each row by a law of its own."""
    data = law(TOTALS).sample()
    return data, torch.stack([law(k).log_prob(x) for k, x in zip(TOTALS, data, strict=True)])


def score(model) -> torch.Tensor:
    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    return trace.nodes["x"]["log_prob_sum"]


@each_law
def test_plate(law):
    data, expected = scores(law)

    def model():
        with pyro.plate("rows", ROWS):
            pyro.sample("x", law(TOTALS), obs=data)

    torch.testing.assert_close(score(model), expected.sum())


@each_law
def test_plate_expands_one_law(law):
    shared = law(TOTALS[0])
    data = shared.sample((2, ROWS))

    def model():
        with pyro.plate("outer", 2, dim=-2), pyro.plate("rows", ROWS, dim=-1):
            pyro.sample("x", shared, obs=data)

    torch.testing.assert_close(score(model), shared.log_prob(data).sum())


@each_law
def test_sequential_plate(law):
    data, expected = scores(law)
    trace = poutine.trace(
        lambda: [
            pyro.sample(f"x_{i}", law(TOTALS[i]), obs=data[i]) for i in pyro.plate("rows", ROWS)
        ]
    ).get_trace()
    torch.testing.assert_close(trace.log_prob_sum(), expected.sum())


@each_law
def test_to_event(law):
    data, expected = scores(law)
    joint = law(TOTALS).to_event(1)
    assert joint.event_shape == (ROWS, 4)
    assert joint.support.event_dim == 2
    assert joint.support.check(data)
    torch.testing.assert_close(score(lambda: pyro.sample("x", joint, obs=data)), expected.sum())


MASK = torch.tensor([True, False, True, True, False])


@each_law
def test_mask(law):
    data, expected = scores(law)
    hidden = torch.where(MASK[:, None], data, law(TOTALS).sample())
    masked = law(TOTALS).mask(MASK)

    def handled():
        with pyro.plate("rows", ROWS), poutine.mask(mask=MASK):
            pyro.sample("x", law(TOTALS), obs=hidden)

    torch.testing.assert_close(masked.log_prob(hidden), expected * MASK)
    torch.testing.assert_close(score(handled), expected[MASK].sum())


@each_law
def test_masked_rows_give_no_gradient(law):
    """Rows that are hidden because they are off the support must not spoil the others."""
    data, expected = scores(law)
    spoiled = torch.where(MASK[:, None], data, 7.0).requires_grad_()
    unvalidated = law(TOTALS)
    unvalidated._validate_args = False
    total = unvalidated.mask(MASK).log_prob(spoiled).sum()
    torch.testing.assert_close(total, expected[MASK].sum())
    (gradient,) = torch.autograd.grad(total, spoiled)
    assert gradient.isfinite().all()
    assert (gradient[~MASK] == 0).all()


@each_law
def test_scale(law):
    data, expected = scores(law)

    def model():
        with pyro.plate("rows", ROWS), poutine.scale(scale=0.5):
            pyro.sample("x", law(TOTALS), obs=data)

    torch.testing.assert_close(score(model), 0.5 * expected.sum())


@each_law
def test_subsampling_is_unbiased(law):
    """The mean over all pairs of rows of the scaled score is the full score."""
    data, expected = scores(law)

    def model(rows):
        with pyro.plate("rows", ROWS, subsample=rows) as index:
            pyro.sample("x", law(TOTALS[index]), obs=data[index])

    pairs = torch.combinations(torch.arange(ROWS), 2)
    found = torch.stack([score(lambda rows=rows: model(rows)) for rows in pairs])
    torch.testing.assert_close(found.mean(), expected.sum())


@each_law
def test_off_support_data_are_refused(law):
    data, _ = scores(law)
    with pytest.raises((ConstraintError, ValueError), match=r"project\(value\)"):
        score(lambda: pyro.sample("x", law(TOTALS).to_event(1), obs=data + 0.1))
    projected = law(TOTALS).project(data + 0.1)
    assert score(lambda: pyro.sample("x", law(TOTALS).to_event(1), obs=projected)).isfinite()


def test_maximum_likelihood():
    """Only the part of loc along the subspace is seen; it becomes that of the mean of the data."""
    law = ConstrainedNormal(LOC, 1.0, A, TOTALS[0])
    data = law.sample((200,))

    def model():
        loc = pyro.param("loc", torch.zeros(4))
        with pyro.plate("rows", 200):
            pyro.sample("x", ConstrainedNormal(loc, 1.0, A, TOTALS[0]), obs=data)

    fit(model, lambda: None, steps=200, elbo=Trace_ELBO(), decay=1e-3)
    found = ConstrainedNormal(pyro.param("loc").detach(), 1.0, A, TOTALS[0]).mean
    torch.testing.assert_close(found, data.mean(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [2, ROWS])
def test_learning_from_minibatches(size):
    data, _ = scores(LAWS["groups"])

    def model():
        scale = pyro.param(
            "scale", torch.ones(4), constraint=torch.distributions.constraints.positive
        )
        with pyro.plate("rows", ROWS, subsample_size=size) as index:
            pyro.sample("x", ConstrainedNormal(LOC, scale, GROUPS, TOTALS[index]), obs=data[index])

    svi = SVI(model, lambda: None, Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step() for _ in range(40)]
    assert np.isfinite(losses).all()
    assert not torch.equal(pyro.param("scale"), torch.ones(4))
