# %% [markdown]
# # Diffusion on a subspace
#
# A sensor reads four numbers of a digit: the sums of its quarters. After this story you can run a
# diffusion within the images that have these sums, and say what an ordinary one does with them.

# %%
import os
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from sklearn.datasets import load_digits

from numpyro_constrained import ConstrainedNormal, GroupSum

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs

# %% [markdown]
# ## Digits and their sums
#
# Pixels between -1 and 1, and the sums of quarters. Of the last 64 images only the sums are used.

# %%
images = jnp.asarray(load_digits().data / 8 - 1)
quarter = np.kron([[0, 1], [2, 3]], np.ones((4, 4), int)).ravel()
A = GroupSum(quarter, 4)
sums = images @ A.to_dense().T
x, k, given = images[:-64], sums[:-64], sums[-64:]

# %% [markdown]
# ## Noise that keeps the sums
#
# A diffusion forgets an image in steps: `x_t` is normal about `c + signal_t (x_0 - c)`, with scale
# `noise_t`. Ordinary noise moves the sums. Let it be normal *given* `A x = k` instead, and the
# centre `c` the flat image with these sums: every `x_t` has them, and nothing else changes.

# %%
STEPS = 40
angle = jnp.linspace(0, np.pi / 2, STEPS + 1)
signal, noise = jnp.cos(angle), jnp.sin(angle)


def law_of(mean, scale, k, is_free=False):
    free = dist.Normal(mean, scale).to_event(1)
    return free if is_free else ConstrainedNormal(mean, scale, A, k)


def noised(key, x, t, k, is_free=False):
    centre = k[:, quarter] * (0.0 if is_free else 1 / 16)
    return law_of(centre + signal[t, None] * (x - centre), noise[t, None], k, is_free).sample(key)


# %%
def tiles(images, columns):
    rows = np.pad(np.asarray(images).reshape(-1, columns, 8, 8), [(0, 0)] * 2 + [(0, 1)] * 2)
    return np.vstack([np.hstack(row) for row in rows])


times, one, its_sums = jnp.array([1, 8, 16, 24, 32, 40]), x[:1], k[:1]
paths = [noised(random.key(1), one, times, its_sums, is_free) for is_free in (False, True)]
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
axis.imshow(tiles(np.concatenate(paths), 6), cmap="Greys", interpolation="nearest")
axis.set(yticks=[4, 13], yticklabels=["given the sums", "ordinary"], xticks=[])
plt.show()
print("sums off:", *(abs(law_of(one, 1.0, its_sums).residual(path)).max(-1) for path in paths))

# %% [markdown]
# ## Learning to undo it
#
# A small network sees `x_t`, sums and time, and guesses `x_0`; one for each kind of noise.


# %%
def network(weights, *known):
    hidden = jax.nn.silu(jnp.concatenate(known, -1) @ weights[0])
    return jax.nn.silu(hidden @ weights[1]) @ weights[2]


def train(is_free):
    optimiser, layers = numpyro.optim.Adam(2e-3), ((70, 256), (256, 256), (256, 64))
    weights = [random.normal(random.key(n), (m, n)) / np.sqrt(m) for m, n in layers]

    def loss(weights, i):
        key, other = random.split(random.fold_in(random.key(0), i))
        rows, t = random.randint(other, (2, 128), *jnp.array([[[0], [1]], [[len(x)], [STEPS + 1]]]))
        noisy = noised(key, x[rows], t, k[rows], is_free)
        guess = network(weights, noisy, k[rows] / 16, signal[t, None], noise[t, None])
        return jnp.square(guess - x[rows]).mean(), None

    step = jax.jit(lambda i, state: optimiser.eval_and_update(partial(loss, i=i), state)[1])
    state = jax.lax.fori_loop(0, 5 if SHORT else 2500, step, optimiser.init(weights))
    return optimiser.get_params(state)


# %% [markdown]
# ## Drawing: the same law, backwards
#
# A step back is the law given the sums: mean and draw have them, whatever the network guesses.


# %%
def draw(key, weights, k, is_free):
    centre = k[:, quarter] * (0.0 if is_free else 1 / 16)
    start = law_of(centre, 1.0, k, is_free).sample(key)

    def step(state, t):
        time = jnp.tile(jnp.stack([signal[t], noise[t]]), (len(k), 1))
        guess = network(weights, state, k / 16, time)
        kept = signal[t] / signal[t - 1]  # of x_(t-1), in x_t
        weight, pull = kept * noise[t - 1] ** 2, signal[t - 1] * (1 - kept**2)
        mean = centre + (weight * (state - centre) + pull * (guess - centre)) / noise[t] ** 2
        scale = (noise[t - 1] / noise[t]) * jnp.sqrt(1 - kept**2)
        law = law_of(mean, jnp.maximum(scale, 1e-6), k, is_free)
        return jnp.where(t > 1, law.sample(random.fold_in(key, t)), law.mean), None

    return jax.lax.scan(step, start, jnp.arange(STEPS, 0, -1))[0]


ours, free = (draw(random.key(2), train(is_free), given, is_free) for is_free in (False, True))
# %% [markdown]
# ## What was drawn
#
# Each image was drawn for the sums of a real one. The ordinary diffusion was told the sums too, and
# misses them. A projection repairs its images; the steps that led to them had other sums.

# %%
everything = {"real": images[-64:], "given the sums": ours, "ordinary": free}
everything["repaired"] = (target := law_of(free, 1.0, given)).project(free)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
for axis, (name, drawn) in zip(axes, everything.items(), strict=True):
    miss, outside = abs(target.residual(drawn)).max(), jnp.maximum(abs(drawn) - 1, 0).mean()
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
