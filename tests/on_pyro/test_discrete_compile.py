"""Discrete laws inside of torch.compile: planning and recursions run as they are, beside it."""

import pytest
import torch

from pyro_constrained import ConstrainedBernoulli, ConstrainedPoisson, GroupSum

A = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1]])
LAWS = {
    "groups": lambda p: ConstrainedPoisson(
        p.exp(), GroupSum([0, 1, 0, 1], 2), torch.tensor([3, 2])
    ),
    "trellis": lambda p: ConstrainedPoisson(p.exp(), A, torch.tensor([3, 2])),
    "subset": lambda p: ConstrainedBernoulli(logits=p, A=torch.ones(4), k=torch.tensor(2)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated")
@pytest.mark.parametrize("name", LAWS)
def test_compiled_step(name):
    """A step that builds, draws, scores and asks for moments: the same values and gradients."""
    torch._dynamo.reset()
    x = LAWS[name](torch.zeros(4)).sample()

    def step(parameter):
        law = LAWS[name](parameter)
        value = law.log_prob(x) + law.constraint_log_prob() + law.mean.square().sum()
        return value, law.sample((2,))

    compiled = torch.compile(step, backend="aot_eager")
    for start in (torch.tensor([0.1, -0.4, 0.3, 0.8]), torch.tensor([-1.0, 0.2, 0.0, 0.5])):
        found = []
        for function in (step, compiled):
            parameter = start.clone().requires_grad_()
            value, draws = function(parameter)
            found.append((value.detach(), torch.autograd.grad(value, parameter)[0]))
            assert LAWS[name](start).support.check(draws).all()
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
