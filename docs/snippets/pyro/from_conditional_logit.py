import torch

from pyro_constrained import ConstrainedBernoulli, GroupSum

# Two strata with one case each: the likelihood is a softmax within each stratum.
eta = torch.tensor([0.2, -0.5, 1.0, 0.3, 0.4])  # x' beta; intercepts of strata cancel
stratum, y = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
softmax = eta[:3].log_softmax(0)[2] + eta[3:].log_softmax(0)[0]
law = ConstrainedBernoulli(logits=eta, A=GroupSum(stratum, num_groups=2), k=[1, 1])
print(f"{softmax:.4f} {law.log_prob(y):.4f}")  # -1.2587 -1.2587

# Several cases in a stratum, where a softmax no longer does: 20 of 200.
many = torch.linspace(-1.0, 1.0, 200).requires_grad_()
y = torch.zeros(200)
y[::10] = 1.0
law = ConstrainedBernoulli(logits=many, A=torch.ones(200), k=20)
(score,) = torch.autograd.grad(law.log_prob(y), many)
print(bool(torch.allclose(score, y - law.mean, atol=1e-5)))  # True
