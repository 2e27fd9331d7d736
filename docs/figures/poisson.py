"""Marginal laws of one cell of a table, before and after the margins are known."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedPoisson

margins = torch.cat([torch.eye(2).repeat_interleave(3, 1), torch.eye(3).repeat(1, 2)])
rate = torch.tensor([4.0, 2.0, 3.0, 3.0, 6.0, 2.0])
law = ConstrainedPoisson(rate, margins, torch.tensor([8.0, 12.0, 9.0, 6.0, 5.0]))
table = law.marginal_log_prob()[0].exp()
values = torch.arange(len(table), dtype=torch.float32)
before = torch.distributions.Poisson(rate[0]).log_prob(values).exp()
plt.bar(values - 0.2, before, 0.4, color="#808890", label="Poisson(4)")
plt.bar(values + 0.2, table, 0.4, color="#d95f02", label="given both margins of the 2 x 3 table")
plt.xlabel("count in the first cell")
plt.ylabel("probability")
plt.xlim(-0.6, 15)
plt.legend()
