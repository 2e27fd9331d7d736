"""A draw of an intrinsic field on a lattice, and its marginal deviations."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedGMRF, fields

torch.manual_seed(3)
field = fields.lattice((40, 60))
law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8))
for ax, values, title in (
    (axes[0], law.sample(), "a draw, which sums to zero"),
    (axes[1], law.stddev, "standard deviations, exact"),
):
    image = ax.imshow(values.reshape(40, 60), cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=ax, shrink=0.85)
