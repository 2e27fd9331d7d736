"""Draws of the walk beside the exact law, where the fiber is small enough for both."""

import matplotlib.pyplot as plt
import pyro.distributions as dist
import torch

from pyro_constrained import ConstrainedPoisson, FiberSampler

torch.manual_seed(0)
A = torch.tensor([[1, 1, 0, 2], [0, 1, 1, 1]])
rate, k = torch.tensor([3.0, 5.0, 4.0, 2.0]), torch.tensor([18, 14])
draws = FiberSampler(dist.Poisson(rate).to_event(1), A, k).run(500, num_chains=2, warmup=50)
exact = ConstrainedPoisson(rate, A, k).marginal_log_prob()[1].exp()
values = torch.arange(len(exact))
found = torch.bincount(draws[..., 1].long().flatten(), minlength=len(exact)) / draws[..., 1].numel()
plt.bar(values, found, color="#d95f02", alpha=0.6, label="1,000 steps of the walk")
plt.plot(values, exact, "o", color="#808890", label="exact law")
plt.xlim(-0.6, 14.6)
plt.xlabel("$x_2$")
plt.ylabel("probability")
plt.legend()
