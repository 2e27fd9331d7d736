"""Correlations of a factor law before and after a weighted sum is known."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedLowRankMultivariateNormal


def correlation(covariance):
    scale = covariance.diagonal().sqrt()
    return covariance / scale[:, None] / scale


n = 24
place = torch.linspace(0, 3.14, n)
factors = torch.stack([place.cos(), place.sin()], -1)
law = ConstrainedLowRankMultivariateNormal(
    torch.zeros(n), 1.5 * factors, 0.3 * torch.ones(n), torch.ones(n), 0.0
)
figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.0))
titles = "$W W' + d$", "given a sum of zero"
for ax, matrix, title in zip(axes, (law.covariance_matrix, law.covariance), titles, strict=True):
    image = ax.imshow(correlation(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, label="correlation", shrink=0.85)
