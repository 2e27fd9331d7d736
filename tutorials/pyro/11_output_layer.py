# %% [markdown]
# # A constrained output layer
#
# A network that sharpens an image must not invent ink: the pixels of a block have the sum that the
# coarse image says. After this story you can end any network in a law, train it in half precision,
# save it, and spread it over devices.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as distributed
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pyro_constrained import ConstrainedNormal, GroupSum

torch.manual_seed(0)
SHORT = "SHORT" in os.environ  # a few steps, to see that it runs

# %% [markdown]
# ## Fine and coarse
#
# Digits of 8 x 8 pixels, and the 16 sums of their 2 x 2 blocks. The last 297 images are held out.

# %%
fine = torch.tensor(load_digits().data / 16, dtype=torch.float32)
block = np.kron(np.arange(16).reshape(4, 4), np.ones((2, 2), int)).ravel()
A = GroupSum(block, 16)
coarse = fine @ torch.tensor(A.to_dense(), dtype=torch.float32).T
x, y, x_test, y_test = coarse[:1500], fine[:1500], coarse[1500:], fine[1500:]

# %% [markdown]
# ## The layer
#
# Two heads, location and scale; the last line is the law given the sums, another k for each image.


# %%
class Sharpen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 256), nn.SiLU(), nn.Linear(256, 128))

    def forward(self, coarse):
        loc, scale = self.body(coarse).chunk(2, -1)
        return ConstrainedNormal(loc, 0.01 + nn.functional.softplus(scale), A, coarse)


# %% [markdown]
# ## Training, in half precision
#
# By likelihood, which is the density of the 48 dimensions that the sums leave open. The layers
# compute in bfloat16; the law promotes what it gets, and its mean has the sums in float32.


# %%
def train(network, loss):
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(5 if SHORT else 1000):
        rows = torch.randint(len(x), (128,))
        with torch.autocast("cpu", torch.bfloat16):
            total = loss(network, rows)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return network


network = train(Sharpen(), lambda network, rows: -network(x[rows]).log_prob(y[rows]).mean())
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    law = network(x_test)
print("weights in", network.body[2].weight.dtype, "and a law in", law.mean.dtype)
assert law.mean.dtype == torch.float32 and law.residual(law.mean).abs().max() < 1e-5

# %% [markdown]
# ## Beside a penalty, and rescaling
#
# The same network without the law, with a penalty for missed sums, misses them. Its blocks rescaled
# have them, but the law, which was trained to have them, is nearer to the truth than either.


# %%
def penalty(body, rows):
    guess = body(x[rows])
    missed = guess @ torch.tensor(A.to_dense(), dtype=torch.float32).T - x[rows]
    return (guess - y[rows]).square().mean() + missed.square().mean()


body = train(nn.Sequential(nn.Linear(16, 256), nn.SiLU(), nn.Linear(256, 64)), penalty)
penalised = body(x_test).detach()
rescaled = penalised * ((x_test + 1e-6) / (x_test + law.residual(penalised) + 1e-6))[:, block]

guesses, error = {"law": law.mean, "penalty": penalised, "rescaled": rescaled}, {}
for name, guess in guesses.items():
    error[name] = float(((guess - y_test) ** 2).mean()) ** 0.5
    miss = float(abs(law.residual(guess)).max())
    print(f"{name:9} error {error[name]:.4f}, sums missed by {miss:.0e}")
    assert SHORT or ((miss > 0.01) if name == "penalty" else (miss < 1e-3))
assert SHORT or min(error, key=error.get) == "law"
shown = {"coarse": x_test[:, block] / 4, **guesses, "truth": y_test}
figure, axes = plt.subplots(1, 5, figsize=(9, 3.6), layout="constrained")
for axis, (name, images) in zip(axes, shown.items(), strict=True):
    tiles = np.pad(np.asarray(images[:6]).reshape(3, 2, 8, 8), [(0, 0)] * 2 + [(0, 2)] * 2)
    axis.imshow(tiles.transpose(0, 2, 1, 3).reshape(30, 20), cmap="Greys", vmin=0, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Saving and loading
#
# The law has no weights of its own: what is saved is the network.

# %%
with tempfile.TemporaryDirectory() as folder:
    torch.save(network.state_dict(), f"{folder}/sharpen.pt")
    again = Sharpen()
    again.load_state_dict(torch.load(f"{folder}/sharpen.pt"))
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    assert torch.equal(again(x_test).mean, law.mean)

# %% [markdown]
# ## Several devices
#
# `DistributedDataParallel` wraps the network like any other; here with one process, so that it runs
# anywhere. Start N of them by `torchrun`, and leave out address, rank and size.

# %%
with tempfile.TemporaryDirectory() as folder:
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=0, world_size=1)
    loss = -DistributedDataParallel(network)(x[:64]).log_prob(y[:64]).mean()
    loss.backward()
    distributed.destroy_process_group()
print("gradients of all weights:", all(each.grad is not None for each in network.parameters()))

# %% [markdown]
# ## What to try next
#
# - Train by `law.expected_l2(y)` or `law.crps(y)`, which are exact, in place of the likelihood.
# - `torch.compile(step, fullgraph=True)` of a training step: A is a constant of the graph.
# - Nine ways to end a network, on process data and images: `experiments/chemical_units`, `vae`.
