"""Conditioning by kriging: a draw is moved along Sigma A' onto the subspace, not along A'."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedMultivariateNormal

torch.manual_seed(1)
Sigma = torch.tensor([[0.35, 0.55], [0.55, 1.6]])
A, k = torch.ones(2), 2.0
law = ConstrainedMultivariateNormal(torch.zeros(2), Sigma, A, k)
draws = law.base_dist.sample((14,))
gain = Sigma @ A / (A @ Sigma @ A)
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
steps = (("kriging: along $\\Sigma A'$", gain), ("projection: along $A'$", A / 2))
for ax, (title, step) in zip(axes, steps, strict=True):
    moved = draws + (k - draws @ A)[:, None] * step
    ax.plot([-1.2, 3.2], [3.2, -1.2], color="#808890", lw=1)
    for start, end in zip(draws, moved, strict=True):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#d95f02", "lw": 0.8})
    ax.plot(*draws.T, ".", color="#808890")
    ax.set(title=title, xlim=(-2, 3), ylim=(-3, 3.6), xlabel="$x_1$", aspect="equal")
axes[0].set_ylabel("$x_2$")
