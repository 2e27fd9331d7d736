import torch
from torch.distributions import kl_divergence

from pyro_constrained import ConstrainedMultivariateNormal

A = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]])  # a total and a balance
k = torch.tensor([6.0, 0.0])
Sigma = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.0]])
law = ConstrainedMultivariateNormal(torch.zeros(3), Sigma, A, k)

torch.manual_seed(0)
x = law.rsample((1000,))  # every draw obeys both rows
print(bool(abs(law.residual(x)).max() < 1e-5))  # True
print(law.rank)  # 2
print(law.mean)  # tensor([2.2129, 2.2129, 1.5742])
print(law.variance)  # tensor([0.1466, 0.1466, 0.5864])
print(f"{law.log_prob(law.mean):.4f} {law.entropy():.4f}")  # -0.8548 1.3548
print(f"{law.constraint_log_prob():.4f}")  # -6.3848

wider = ConstrainedMultivariateNormal(torch.zeros(3), 4 * Sigma, A, k)
print(f"{kl_divergence(law, wider):.4f}")  # 0.3181
