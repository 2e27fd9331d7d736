"""Inclusion probabilities of a subset of exactly k, by the odds of its elements."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedBernoulli

probs = torch.linspace(0.02, 0.98, 40)
plt.plot(probs, probs, "--", color="#808890", label="no constraint (20 expected)")
for k, colour in zip((4, 12, 30), ("#1b9e77", "#7570b3", "#d95f02"), strict=True):
    law = ConstrainedBernoulli(probs, torch.ones(40), k)
    plt.plot(probs, law.mean, color=colour, label=f"exactly {k} of 40")
plt.xlabel("probability of the base law")
plt.ylabel("probability given k")
plt.legend()
