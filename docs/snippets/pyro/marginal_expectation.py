import pyro
import torch

from pyro_constrained import ConstrainedBernoulli, MarginalExpectationReparam

logits = torch.tensor([0.5, 0.0, -0.5, 1.0], requires_grad=True)


def guide():
    return pyro.sample("x", ConstrainedBernoulli(logits=logits, A=torch.ones(4), k=2))


pyro.set_rng_seed(0)
with pyro.poutine.reparam(config={"x": MarginalExpectationReparam()}):
    x = guide()
cost = (x * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum()
(slope,) = torch.autograd.grad(cost, logits)
print(int(x.sum()), slope)  # 2 tensor([-0.4387, -0.1062, 0.1516, 0.3932])
