import torch

from pyro_constrained import ConstrainedBernoulli

# Exactly two of four, of unequal odds.
law = ConstrainedBernoulli(torch.tensor([0.1, 0.3, 0.5, 0.9]), torch.ones(4), 2)
print(law.mean, f"{law.mean.sum():.4f}")  # tensor([0.0802, 0.3000, 0.6604, 0.9593]) 2.0000
print(f"{law.log_prob(torch.tensor([0.0, 0.0, 1.0, 1.0])):.4f}")  # -0.4731
print(f"{law.constraint_log_prob():.4f} {law.entropy():.4f}")  # -0.7875 0.9929

# 10 of 100, with the gradient of the log probability that exactly 10 are chosen.
logits = torch.linspace(-4.0, 0.0, 100).requires_grad_()
subset = ConstrainedBernoulli(logits=logits, A=torch.ones(100), k=10)
torch.manual_seed(0)
print(int(subset.sample().sum()))  # 10
(slope,) = torch.autograd.grad(subset.constraint_log_prob(), logits)
print(slope[[0, 99]])  # tensor([-0.0091, -0.1617])
