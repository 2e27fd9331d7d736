# %% [markdown]
# # A VAE whose images obey a law
#
# A sensor of 2 x 2 cells sees a digit of 8 x 8 pixels; each cell reads the sum of its 16. After
# this story you can put a hard law on what a network puts out, and know what the usual cures cost.

# %%
import os

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import jit, lax, random
from jax.nn import silu, softplus
from numpyro.infer import SVI, TraceMeanField_ELBO
from scipy.linalg import null_space
from sklearn.datasets import load_digits

from numpyro_constrained import GroupSum, constrain

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
images = jnp.array((pixels + rng.uniform(size=pixels.shape)) / 17, jnp.float32)
known, held_out = images[:1400], images[1400:]
cell = 2 * (np.arange(64) // 32) + np.arange(64) % 8 // 4
sensor, A = GroupSum(cell, num_groups=4), jnp.eye(4)[cell].T
k = held_out @ A.T

# %% [markdown]
# ## One network, and what its pixels are
#
# The decoder sees a code `z` and the reading `k`, and ends in 64 free normals, or in the same
# normals given `A x = k`. The usual cure is a penalty on the expected squared miss.


# %%
def layers(key, inputs, outputs):
    sizes = zip(random.split(key), [(inputs + 1, 128), (128 + 1, outputs)], strict=True)
    return [random.normal(k, shape) / shape[0] ** 0.5 for k, shape in sizes]


def apply(weights, x):
    hidden = silu(x @ weights[0][1:] + weights[0][0])
    return jnp.split(hidden @ weights[1][1:] + weights[1][0], 2, -1)


def encode(vae, x):
    loc, raw = apply(vae["encoder"], 4 * x - 1)
    return dist.Normal(loc, softplus(raw) + 1e-3).to_event(1)


def law_of(vae, obeys, z, k):
    loc, raw = apply(vae["decoder"], jnp.concatenate([z, k / 3 - 1.6], -1))
    pixels = dist.Normal(0.3 + 0.3 * loc, 0.01 + 0.2 * softplus(raw)).to_event(1)
    return constrain(pixels, sensor, k) if obeys else pixels


def model(x, initial, obeys, penalty):
    vae = numpyro.param("vae", initial)
    with numpyro.plate("images", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(8), 1.0).to_event(1))
        pixels = law_of(vae, False, z, x @ A.T)
        miss = ((pixels.mean - x) @ A.T) ** 2 + pixels.variance @ A.T
        numpyro.factor("penalty", -penalty * miss.sum(-1))
        numpyro.sample("x", law_of(vae, obeys, z, x @ A.T), obs=x)


def guide(x, initial, obeys, penalty):
    with numpyro.plate("images", len(x)):
        numpyro.sample("z", encode(numpyro.param("vae", initial), x))


# %%
def train(obeys, penalty=0.0):
    keys = random.split(random.key(0), 2 + epochs)
    initial = {"encoder": layers(keys[0], 64, 2 * 8), "decoder": layers(keys[1], 8 + 4, 2 * 64)}
    options = {"initial": initial, "obeys": obeys, "penalty": penalty}
    svi = SVI(model, guide, numpyro.optim.ClippedAdam(3e-3), TraceMeanField_ELBO(), **options)
    state = svi.init(keys[0], known[:100])
    epoch = jit(lambda state, batches: lax.scan(svi.update, state, batches))
    for key in keys[2:]:
        state, _ = epoch(state, random.permutation(key, known).reshape(14, 100, 64))
    return svi.get_params(state)["vae"]


vaes = {"free": train(False), "penalty": train(False, penalty=30.0), "law": train(True)}

# %% [markdown]
# ## Do new digits obey, drawn from a reading alone?

# %%
z = random.normal(random.key(1), (len(k), 8))
drawn = {n: law_of(vae, n == "law", z, k).sample(random.key(2)) for n, vae in vaes.items()}
misses = {name: jnp.abs(x @ A.T - k).max() for name, x in drawn.items()}
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
def bound(vae, obeys):
    code = encode(vae, held_out)
    z = code.sample(random.key(3), (10,))
    law = law_of(vae, obeys, z, jnp.broadcast_to(k, (10, *k.shape)))
    if obeys:
        fit = law.log_prob(held_out)
    else:
        basis = null_space(A)
        covariance = basis.T @ (law.variance[..., None] * basis)
        fit = dist.MultivariateNormal(law.mean @ basis, covariance).log_prob(held_out @ basis)
    return (fit - dist.kl_divergence(code, dist.Normal(jnp.zeros(8), 1).to_event(1))).mean().item()


bounds = {name: bound(vae, name == "law") for name, vae in vaes.items()}
print({name: round(value, 1) for name, value in bounds.items()})
assert SHORT or bounds["law"] > max(bounds["free"], bounds["penalty"])

# %% [markdown]
# ## What to try next
#
# - Raise the penalty: the misses fall, and so does the bound.
# - Train with more steps and score with importance weights: `make demo` does.
# - Read on: counts that obey (05); layers for plain torch, flax and equinox (11).
