"""One of three dice, given what they show together."""

import matplotlib.pyplot as plt
import torch

from pyro_constrained import ConstrainedCategorical

faces = torch.arange(6)
for place, (total, colour) in enumerate(((5, "#1b9e77"), (10, "#7570b3"), (15, "#d95f02"))):
    law = ConstrainedCategorical(torch.ones(3, 6) / 6, torch.ones(3), total - 3)
    table = law.marginal_log_prob()[0].exp()
    plt.bar(faces + 1 + 0.27 * (place - 1), table, 0.25, color=colour, label=f"{total} in all")
plt.axhline(1 / 6, ls="--", color="#808890", lw=1)
plt.xlabel("what one die shows")
plt.ylabel("probability")
plt.legend(ncols=3, loc="upper center")
plt.ylim(0, 0.62)
