# %% [markdown]
# # A VAE whose images obey a law
#
# A sensor of 2 x 2 cells sees a digit of 8 x 8 pixels; each cell reads the sum of its 16. After
# this story you can put a hard law on what a network puts out, and know what the usual cures cost.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from scipy.linalg import null_space
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

from pyro_constrained import GroupSum, constrain

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
epochs = 2 if SHORT else 80

# %% [markdown]
# ## Digits and what the sensor reads
#
# Pixels are whole numbers from 0 to 16; noise makes them continuous. A `GroupSum` is `A`, not
# written out: it says which cell sees which pixel.

# %%
rng = np.random.default_rng(0)
pixels = load_digits().data[rng.permutation(1797)]
images = torch.tensor((pixels + rng.uniform(size=pixels.shape)) / 17, dtype=torch.float32)
train_images, held_out = images[:1400], images[1400:]
cell = 2 * (np.arange(64) // 32) + np.arange(64) % 8 // 4
sensor, A = GroupSum(cell, num_groups=4), torch.eye(4)[cell].T
k = held_out @ A.T

# %% [markdown]
# ## One network, and what its pixels are
#
# The decoder sees a code `z` and the reading `k`, and ends in 64 free normals, or in the same
# normals given `A x = k`. The usual cure is a penalty on the expected squared miss.


# %%
def layers(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 128), nn.SiLU(), nn.Linear(128, outputs))


class VAE(nn.Module):
    def __init__(self, obeys, penalty=0.0):
        super().__init__()
        self.obeys, self.penalty = obeys, penalty
        self.encoder, self.decoder = layers(64, 2 * 8), layers(8 + 4, 2 * 64)

    def encode(self, x):
        loc, raw = self.encoder(4 * x - 1).chunk(2, -1)
        return dist.Normal(loc, softplus(raw) + 1e-3).to_event(1)

    def decode(self, z, k):
        loc, raw = self.decoder(torch.cat([z, k / 3 - 1.6], -1)).chunk(2, -1)
        return dist.Normal(0.3 + 0.3 * loc, 0.01 + 0.2 * softplus(raw)).to_event(1)

    def law(self, z, k):
        pixels = self.decode(z, k)
        return constrain(pixels, sensor, k) if self.obeys else pixels

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(8), 1.0).to_event(1))
            pixels = self.decode(z, x @ A.T)
            miss = ((pixels.mean - x) @ A.T) ** 2 + pixels.variance @ A.T
            pyro.factor("penalty", -self.penalty * miss.sum(-1))
            pyro.sample("x", self.law(z, x @ A.T), obs=x)

    def guide(self, x):
        with pyro.plate("images", len(x)):
            pyro.sample("z", self.encode(x))


# %%
def train(obeys, penalty=0.0):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    vae = VAE(obeys, penalty)
    svi = SVI(vae.model, vae.guide, pyro.optim.ClippedAdam({"lr": 3e-3}), TraceMeanField_ELBO())
    for _ in range(epochs):
        for batch in train_images[torch.randperm(1400)].split(100):
            svi.step(batch)
    return vae.requires_grad_(False)


vaes = {"free": train(False), "penalty": train(False, penalty=30.0), "law": train(True)}

# %% [markdown]
# ## Do new digits obey, drawn from a reading alone?

# %%
z = torch.randn(len(k), 8)
drawn = {name: vae.law(z, k).sample() for name, vae in vaes.items()}
misses = {name: (x @ A.T - k).abs().max().item() for name, x in drawn.items()}
print("largest miss of a reading:", {name: f"{miss:.1e}" for name, miss in misses.items()})
assert misses["law"] < 1e-5 < 1e-1 < misses["penalty"]

figure, axes = plt.subplots(5, 10, figsize=(8, 4.2), layout="constrained")
rows = {"sensor": (k / 16)[:, cell], "digit": held_out} | drawn
for line, name in zip(axes, rows, strict=True):
    for axis, image in zip(line, rows[name], strict=False):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## What does it cost?
#
# The others could be projected: each draw moved to the nearest image that obeys. How likely are
# held-out digits then, in nats, as densities on the subspace of 60 dimensions where they lie? Our
# `log_prob` is one, a projected normal is normal there, and the encoder gives bounds.


# %%
def bound(vae):
    code = vae.encode(held_out)
    z = code.sample((10,))
    law = vae.law(z, k.expand(10, -1, -1))
    if vae.obeys:
        fit = law.log_prob(held_out)
    else:
        basis = torch.tensor(null_space(A))
        covariance = basis.T @ (law.variance[..., None] * basis)
        fit = dist.MultivariateNormal(law.mean @ basis, covariance).log_prob(held_out @ basis)
    prior = dist.Normal(torch.zeros(8), 1.0).to_event(1)
    return (fit + prior.log_prob(z) - code.log_prob(z)).mean().item()


bounds = {name: bound(vae) for name, vae in vaes.items()}
print({name: round(value, 1) for name, value in bounds.items()})
assert SHORT or bounds["law"] > max(bounds["free"], bounds["penalty"])

# %% [markdown]
# ## What to try next
#
# - Raise the penalty: the misses fall, and so does the bound.
# - Train with more steps and score with importance weights: `make demo` does.
# - Read on: counts that obey (05); layers for plain torch, flax and equinox (11).
