"""Who takes up the slack: means and deviations before and after the sum is known."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedNormal

loc = torch.tensor([1.0, 1.5, 0.8, 1.2, 1.0, 0.5])
scale = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.2, 1.8])
law = ConstrainedNormal(loc, scale, torch.ones(6), 12.0)
place = torch.arange(6)
plt.errorbar(place - 0.1, loc, scale, fmt="o", color="#808890", label="before: mean, deviation")
plt.errorbar(place + 0.1, law.mean, law.stddev, fmt="o", color="#d95f02", label="given a sum of 12")
plt.xlabel("variable, by rising deviation")
plt.ylabel("$x_i$")
plt.legend(loc="upper left")
