"""A law of two variables given their sum, beside the Euclidean projection of its draws."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.gridspec import GridSpec

from pyro_constrained import ConstrainedMultivariateNormal

torch.manual_seed(0)
loc = torch.tensor([0.6, 0.2])
Sigma = torch.tensor([[0.35, 0.55], [0.55, 1.6]])
law = ConstrainedMultivariateNormal(loc, Sigma, torch.ones(2), 2.0)

figure = plt.figure(figsize=(7.2, 3.4))
grid = GridSpec(1, 2, figure, width_ratios=(1, 1.25))
plane, line = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])

axis = torch.linspace(-2.2, 3.4, 160)
points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
density = law.base_dist.log_prob(points).exp()
levels = density.max() * torch.linspace(0.03, 1, 8)
plane.contourf(axis, axis, density, levels=levels, cmap="Blues", alpha=0.55)
plane.plot([-1.4, 3.4], [3.4, -1.4], color="#808890", lw=1)
draws = law.sample((120,))
plane.plot(*draws.T, ".", color="#d95f02", ms=4, alpha=0.6)
plane.set(xlim=(-2.2, 3.4), ylim=(-2.2, 3.4), xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
plane.set_title("draws of x given $x_1 + x_2 = 2$")

# Along the line, t is the distance from its middle (1, 1).
t = torch.linspace(-2.6, 2.6, 400)
along = torch.stack([1 + t / 2**0.5, 1 - t / 2**0.5], -1)
line.plot(t, law.log_prob(along).exp(), color="#d95f02", label="conditional law")
direction = torch.tensor([1.0, -1.0]) / 2**0.5
mean, variance = direction @ (loc - 1), direction @ Sigma @ direction
projected = (-0.5 * (t - mean) ** 2 / variance).exp() / (2 * np.pi * variance) ** 0.5
line.plot(t, projected, "--", color="#1b9e77", label="projected draws")
line.set(xlabel="place on the line", yticks=[], ylim=(0, None))
line.spines["left"].set_visible(False)
line.set_title("density along the line")
line.legend(loc="upper left")
