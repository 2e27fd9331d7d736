"""Coordinates of the plane x1 + x2 + x3 = 1: an isometry, and an elimination."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import LinearEqualityTransform

figure = plt.figure(figsize=(7.2, 3.2))
axis = torch.linspace(-1.0, 1.0, 9)
for place, basis in enumerate(("isometry", "elimination")):
    transform = LinearEqualityTransform(torch.ones(3), torch.tensor(1.0), basis)
    ax = figure.add_subplot(1, 2, place + 1, projection="3d")
    fine = torch.linspace(-1.0, 1.0, 20)
    for value in axis:
        for u in (
            torch.stack([torch.full_like(fine, value), fine], -1),
            torch.stack([fine, torch.full_like(fine, value)], -1),
        ):
            ax.plot(*transform(u).T, color="#d95f02", lw=0.8)
    ax.set_title(f"{basis}: a grid of u")
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[-1, 0, 1])
    ax.view_init(elev=24, azim=20)
    ax.patch.set_alpha(0)
    for side in (ax.xaxis, ax.yaxis, ax.zaxis):
        side.set_pane_color((0, 0, 0, 0))
