# %% [markdown]
# # Diffusion on a subspace
#
# A sensor reads four numbers of a digit: the sums of its quarters. After this story you can run a
# diffusion within the images that have these sums, and say what an ordinary one does with them.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_digits
from torch import nn

from pyro_constrained import ConstrainedNormal, GroupSum

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
pyro.set_rng_seed(0)

# %% [markdown]
# ## Digits and their sums
#
# Pixels between -1 and 1, and the sums of quarters. Of the last 64 images only the sums are used.

# %%
images = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
quarter = np.kron([[0, 1], [2, 3]], np.ones((4, 4), int)).ravel()
A = GroupSum(quarter, 4)
sums = images @ torch.tensor(A.to_dense(), dtype=torch.float32).T
x, k, given = images[:-64], sums[:-64], sums[-64:]

# %% [markdown]
# ## Noise that keeps the sums
#
# A diffusion forgets an image in steps: `x_t` is normal about `c + signal_t (x_0 - c)`, with scale
# `noise_t`. Ordinary noise moves the sums. Let it be normal *given* `A x = k` instead, and the
# centre `c` the flat image with these sums: every `x_t` has them, and nothing else changes.

# %%
STEPS = 40
angle = 0.5 * torch.pi * torch.arange(STEPS + 1) / STEPS
signal, noise = angle.cos(), angle.sin()


def law_of(mean, scale, k, is_free=False):
    free = dist.Normal(mean, scale).to_event(1)
    return free if is_free else ConstrainedNormal(mean, scale, A, k)


def noised(x, t, k, is_free=False):
    centre = k[:, quarter] * (0.0 if is_free else 1 / 16)
    mean = centre + signal[t, None] * (x - centre)
    return law_of(mean, noise[t, None], k, is_free).sample()


# %%
def tiles(images, columns):
    rows = np.pad(np.asarray(images).reshape(-1, columns, 8, 8), [(0, 0)] * 2 + [(0, 1)] * 2)
    return np.vstack([np.hstack(row) for row in rows])


times, (one, its_sums) = torch.tensor([1, 8, 16, 24, 32, 40]), (x[:1].expand(6, 64), k[:1])
paths = [noised(one, times, its_sums.expand(6, 4), is_free) for is_free in (False, True)]
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
axis.imshow(tiles(torch.cat(paths), 6), cmap="Greys", interpolation="nearest")
axis.set(yticks=[4, 13], yticklabels=["given the sums", "ordinary"], xticks=[])
plt.show()
for path in paths:
    print("sums off:", law_of(one, 1.0, its_sums).residual(path).abs().amax(-1).numpy().round(6))

# %% [markdown]
# ## Learning to undo it
#
# A small network sees `x_t`, sums and time, and guesses `x_0`; one for each kind of noise.


# %%
def train(is_free):
    torch.manual_seed(0)
    middle = nn.SiLU(), nn.Linear(256, 256), nn.SiLU()
    network = nn.Sequential(nn.Linear(70, 256), *middle, nn.Linear(256, 64))
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(5 if SHORT else 2500):
        rows, t = torch.randint(len(x), (128,)), torch.randint(1, STEPS + 1, (128,))
        state = noised(x[rows], t, k[rows], is_free)
        known = torch.cat([state, k[rows] / 16, signal[t, None], noise[t, None]], -1)
        loss = (network(known) - x[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


# %% [markdown]
# ## Drawing: the same law, backwards
#
# A step back is the law given the sums: mean and draw have them, whatever the network guesses.


# %%
@torch.no_grad()
def draw(network, k, is_free):
    centre = k[:, quarter] * (0.0 if is_free else 1 / 16)
    state = law_of(centre, 1.0, k, is_free).sample()
    for t in range(STEPS, 0, -1):
        time = torch.stack([signal[t], noise[t]]).expand(len(k), 2)
        guess = network(torch.cat([state, k / 16, time], -1))
        kept = signal[t] / signal[t - 1]  # of x_(t-1), in x_t
        weight, pull = kept * noise[t - 1] ** 2, signal[t - 1] * (1 - kept**2)
        mean = centre + (weight * (state - centre) + pull * (guess - centre)) / noise[t] ** 2
        scale = (noise[t - 1] / noise[t]) * (1 - kept**2).sqrt()
        step = law_of(mean, scale.clamp_min(1e-6), k, is_free)
        state = step.sample() if t > 1 else step.mean
    return state


ours, free = (draw(train(is_free), given, is_free) for is_free in (False, True))
target = law_of(free, 1.0, given)

# %% [markdown]
# ## What was drawn
#
# Each image was drawn for the sums of a real one. The ordinary diffusion was told the sums too, and
# misses them. A projection repairs its images; the steps that led to them had other sums.

# %%
everything = {"real": images[-64:], "given the sums": ours, "ordinary": free}
everything["repaired"] = target.project(free)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
for axis, (name, drawn) in zip(axes, everything.items(), strict=True):
    miss, outside = target.residual(drawn).abs().max(), (drawn.abs() - 1).clamp_min(0).mean()
    axis.imshow(tiles(drawn[:16], 4), cmap="Greys", vmin=-1, vmax=1, interpolation="nearest")
    axis.set(title=f"{name}\nsums off by {miss:.1g}", xticks=[], yticks=[])
    print(f"{name:14} sums off by {miss:.1g}; pixels outside [-1, 1] by {outside:.3f}")
    assert (miss > 0.1) if name == "ordinary" else (miss < 1e-4)
plt.show()

# %% [markdown]
# ## What to try next
#
# - Other sums, one or sixteen; sums read with an error: sample them first, then the image.
# - A bound on the density of an image: the divergences of the steps are known in closed form.
# - Thirteen ways to keep to the sums, on larger images: `experiments/diffusion`.
