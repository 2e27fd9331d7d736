"""How the conditional density moves and narrows with the correlation."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedMultivariateNormal

t = torch.linspace(-3, 3, 300)
along = torch.stack([1 + t / 2**0.5, 1 - t / 2**0.5], -1)
for correlation, colour in zip((-0.8, 0.0, 0.8), ("#7570b3", "#1b9e77", "#d95f02"), strict=True):
    Sigma = torch.tensor([[0.5, correlation * 0.7], [correlation * 0.7, 1.0]])
    law = ConstrainedMultivariateNormal(torch.zeros(2), Sigma, torch.ones(2), 2.0)
    plt.plot(along[:, 0], law.log_prob(along).exp(), color=colour, label=f"{correlation:+.1f}")
plt.xlabel("$x_1$, where $x_2 = 2 - x_1$")
plt.ylabel("density on the line")
plt.legend(title="correlation")
