# %% [markdown]
# # A constrained output layer
#
# A network that sharpens an image must not invent ink: the pixels of a block have the sum that the
# coarse image says. After this story you can end any network in a law, train it in half precision,
# save it, and spread it over devices.

# %%
import os
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax import random
from sklearn.datasets import load_digits

from numpyro_constrained import ConstrainedNormal, GroupSum

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
key = random.key(0)

# %% [markdown]
# ## Fine and coarse
#
# Digits of 8 x 8 pixels, and the 16 sums of their 2 x 2 blocks. The last 297 images are held out.

# %%
fine = jnp.array(load_digits().data / 16)
block = np.kron(np.arange(16).reshape(4, 4), np.ones((2, 2), int)).ravel()
A = GroupSum(block, 16)
coarse = fine @ jnp.array(A.to_dense()).T
x, y, x_test, y_test = coarse[:1500], fine[:1500], coarse[1500:], fine[1500:]

# %% [markdown]
# ## The layer
#
# Two heads, location and scale; the last line is the law given the sums, another k for each image.


# %%
class Sharpen(eqx.Module):
    body: eqx.nn.MLP

    def __init__(self, key):
        self.body = eqx.nn.MLP(16, 128, 256, 1, jax.nn.silu, key=key)

    def __call__(self, coarse):
        loc, scale = jnp.split(jax.vmap(self.body)(coarse.astype(jnp.bfloat16)), 2, -1)
        return ConstrainedNormal(loc, 0.01 + jax.nn.softplus(scale), A, coarse)


# %% [markdown]
# ## Training, in half precision
#
# By likelihood, which is the density of the 48 dimensions that the sums leave open. The layers
# compute in bfloat16; the law promotes what it gets, and its mean has the sums in float32.


# %%
def half(network):
    return jax.tree.map(lambda w: w.astype(jnp.bfloat16) if eqx.is_array(w) else w, network)


def train(network, loss):
    optimiser = optax.adam(2e-3)

    @eqx.filter_jit
    def step(network, state, rows):
        gradient = eqx.filter_grad(lambda each: loss(half(each), rows))(network)
        change, state = optimiser.update(gradient, state)
        return eqx.apply_updates(network, change), state

    state = optimiser.init(eqx.filter(network, eqx.is_array))
    for step_key in random.split(key, 5 if SHORT else 1000):
        network, state = step(network, state, random.randint(step_key, (128,), 0, len(x)))
    return half(network)


network = train(Sharpen(key), lambda network, rows: -network(x[rows]).log_prob(y[rows]).mean())
law = eqx.filter_jit(network)(x_test)
print("a network in", network.body.layers[0].weight.dtype, "and a law in", law.mean.dtype)
assert law.mean.dtype == jnp.float32 and abs(law.residual(law.mean)).max() < 1e-5

# %% [markdown]
# ## Beside a penalty, and rescaling
#
# The same network without the law, with a penalty for missed sums, misses them. Its blocks rescaled
# have them, but the law, which was trained to have them, is nearer to the truth than either.


# %%
def penalty(body, rows):
    guess = jax.vmap(body)(x[rows].astype(jnp.bfloat16)).astype(jnp.float32)
    missed = guess @ A.to_dense().T - x[rows]
    return jnp.square(guess - y[rows]).mean() + jnp.square(missed).mean()


body = train(eqx.nn.MLP(16, 64, 256, 1, jax.nn.silu, key=key), penalty)
penalised = jax.vmap(body)(x_test.astype(jnp.bfloat16)).astype(jnp.float32)
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
    eqx.tree_serialise_leaves(f"{folder}/sharpen.eqx", network)
    again = eqx.tree_deserialise_leaves(f"{folder}/sharpen.eqx", network)
assert (eqx.filter_jit(again)(x_test).mean == law.mean).all()

# %% [markdown]
# ## Several devices
#
# A batch is laid over all devices of a mesh, one or many, and `jit` does the rest: draws and
# densities stay where their images are. `jax.config.update("jax_num_cpu_devices", 4)` tries it.

# %%
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("images",))
rows = jax.device_put(x_test[:256], jax.NamedSharding(mesh, jax.P("images")))
on_all = eqx.filter_jit(network)(rows).mean
print(f"a mean on {len(on_all.sharding.device_set)} of {jax.device_count()} devices")
assert jnp.allclose(on_all, law.mean[:256], atol=1e-2)

# %% [markdown]
# ## What to try next
#
# - Train by `law.expected_l2(y)` or `law.crps(y)`, which are exact, in place of the likelihood.
# - flax: `nnx.Module` in place of `eqx.Module`; the last line stays as it is.
# - Nine ways to end a network, on process data and images: `experiments/chemical_units`, `vae`.
