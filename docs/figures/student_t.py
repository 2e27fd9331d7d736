"""A normal law is as narrow however surprising the sum is; a t law is not."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal

n, A = 5, torch.ones(5)
k = torch.linspace(0.0, 30.0, 100)
for df, colour in zip((3.0, 6.0, 20.0), ("#d95f02", "#7570b3", "#1b9e77"), strict=True):
    scale = torch.ones(n)
    law = ConstrainedMultivariateStudentT(df, torch.zeros(n), A=A, k=k, scale=scale)
    plt.plot(k, law.stddev[:, 0], color=colour, label=f"t, {df:.0f} degrees of freedom")
normal = ConstrainedNormal(torch.zeros(n), 1.0, A, k)
plt.plot(k, normal.stddev[:, 0], "--", color="#808890", label="normal")
plt.xlabel("k, the sum of five variables of mean 0 and scale 1")
plt.ylabel("deviation of $x_1$ given k")
plt.legend()
