# %% [markdown]
# # Exactly k of n: which ten pixels tell the digits apart?
#
# A camera may keep 10 of its 64 pixels. After this story you can put the exact law of a subset
# into a model, pass a gradient through its draws, and say what that costs: bias or noise.

# %%
import os
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from jax import lax, random
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from numpyro_constrained import ConstrainedBernoulli

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
keys = iter(random.split(random.key(0, impl="rbg"), 9))  # a generator that compiles fast

# %% [markdown]
# ## The law of a subset
#
# Independent coins, *given* that exactly two of four show heads: every draw has two ones, and the
# mass of the six subsets sums to one. The usual shortcuts are no such law. `2 softmax` adds up, but
# includes an item with a probability above one; free coins are right on average only.

# %%
logits = jnp.array([2.0, 1.0, 0.0, -1.0])
law = ConstrainedBernoulli(logits=logits, A=np.ones(4), k=2)
coins = random.bernoulli(next(keys), jax.nn.sigmoid(logits), (9, 4))
print("draws:", *law.sample(next(keys), (4,)).tolist(), " heads of coins:", coins.sum(-1))
print("included:", law.mean.round(2), " by 2 softmax:", (2 * jax.nn.softmax(logits)).round(2))
mass = jnp.exp(law.log_prob(law.enumerate_support()))
assert len(mass) == 6 and abs(mass.sum() - 1) < 1e-5 and 2 * jax.nn.softmax(logits)[0] > 1

# %% [markdown]
# ## Gradients through a subset, and the truth
#
# Five of ten, and the loss `|z - target|^2`: its gradient is a sum over all 252 subsets.

# %%
start, target = jnp.asarray(np.random.default_rng(3).normal(size=(2, 10)))
law = ConstrainedBernoulli(logits=start, A=np.ones(10), k=5)
subsets = law.enumerate_support()
mass, losses = jnp.exp(law.log_prob(subsets)), jnp.square(subsets - target).sum(-1)
exact = (mass * (losses - mass @ losses)) @ subsets  # the covariance of loss and subset

# %% [markdown]
# Three estimates from one draw. The *score function* weights the gradient of `log_prob` by how far
# the loss is above average. The *marginal expectation* draws exactly, and differentiates the exact
# mean (Ahmed et al. 2023). *Straight-through* takes the draw for the logits themselves.


# %%
def objective(name, key, logits, k, loss, shape=()):
    estimator = "marginal_expectation" if name == "marginal expectation" else "score_function"
    A = np.ones(logits.shape[-1])
    law = ConstrainedBernoulli(logits=logits, A=A, k=k, gradient_estimator=estimator)
    draw = law.sample(key, shape)
    if name == "straight-through":
        draw = draw + logits - lax.stop_gradient(logits)
    if name != "score function":
        return loss(draw)
    value, log_prob = loss(draw), law.log_prob(draw)
    above = lax.stop_gradient(value - value.mean())
    return value + above * (log_prob - lax.stop_gradient(log_prob))  # the value, with its gradient


# %% [markdown]
# 5,000 estimates of one draw each: how far their mean is from the truth (bias), and how far a
# single one (error), over its length. The score function has no bias but chance, and is mostly
# noise. The marginal expectation trades a bias for much less noise. Straight-through is too long.

# %%
NAMES = ["score function", "marginal expectation", "straight-through"]
bias, error, rows = {}, {}, jnp.tile(start, (500, 1))
for name, key in zip(NAMES, keys, strict=False):
    total = partial(objective, name, k=5, loss=lambda z: jnp.square(z - target).sum(-1))
    gradient = partial(jax.grad(lambda x, key, t=total: t(key, x).sum()), rows)
    found = lax.map(gradient, random.split(key, 1 if SHORT else 10)).reshape(-1, 10)
    off = (found - exact) / jnp.linalg.norm(exact)
    bias[name], error[name] = jnp.linalg.norm(off.mean(0)), jnp.linalg.norm(off, axis=-1).mean()
    print(f"{name:20}  bias {bias[name]:.2f}  error of one draw {error[name]:.2f}")
assert bias["score function"] < 0.3 and bias["straight-through"] > 1
assert error["marginal expectation"] < 0.6 * error["score function"]

# %% [markdown]
# ## Ten pixels of sixty-four
#
# A subset of pixels is drawn anew for every image; a linear classifier names the digit from what
# is left. Its weights and the logits of the pixels are trained together.

# %%
images, labels = load_digits(return_X_y=True)
seen, test, label, test_label = train_test_split(images / 16, labels, test_size=500, random_state=0)
x, digit, optimiser = jnp.asarray(seen), jnp.asarray(label), numpyro.optim.Adam(0.05)
TRAINED, accuracy = {}, {}


def total(weights, name, key):
    rows = random.randint(random.fold_in(key, 0), (128,), 0, len(x))

    def loss(z):
        log_prob = jax.nn.log_softmax(jnp.concatenate([x[rows] * z, z], -1) @ weights["classifier"])
        return -jnp.take_along_axis(log_prob, digit[rows, None], -1)[:, 0]

    return objective(name, key, weights["pixels"], 10, loss, (128,)).mean(), None


for name in NAMES:
    step = jax.jit(
        lambda s, key, n=name: optimiser.eval_and_update(partial(total, name=n, key=key), s)
    )
    state = optimiser.init({"classifier": jnp.zeros((128, 10)), "pixels": jnp.zeros(64)})
    for key in random.split(random.key(0, impl="rbg"), 5 if SHORT else 600):
        _, state = step(state, key)
    logits = optimiser.get_params(state)["pixels"]
    TRAINED[name] = ConstrainedBernoulli(logits=logits, A=np.ones(64), k=10)

# %% [markdown]
# A logistic regression on the ten likeliest pixels judges, on images not seen. To beat: the ten
# that vary most, neighbours that repeat each other. Straight-through is the least sure of its ten.

# %%
masks = {"largest variance": np.argsort(seen.var(0))[-10:]}
masks |= {name: np.argsort(law.mean)[-10:] for name, law in TRAINED.items()}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
for axis, (name, pixels) in zip(axes, masks.items(), strict=True):
    judge = LogisticRegression(max_iter=2000).fit(seen[:, pixels], label)
    accuracy[name] = judge.score(test[:, pixels], test_label)
    axis.imshow(seen.mean(0).reshape(8, 8), cmap="Greys", alpha=0.5)
    axis.plot(pixels % 8, pixels // 8, "rs", ms=8, mfc="none", mew=2)
    axis.set(title=f"{name}\n{accuracy[name]:.1%} right", xticks=[], yticks=[])
plt.show()
kept = {name: law.mean[masks[name]].sum().item() for name, law in TRAINED.items()}
print("of the ten likeliest, a draw holds", {name: round(n, 1) for name, n in kept.items()})
assert SHORT or all(accuracy[n] > accuracy["largest variance"] for n in NAMES[:2])
assert SHORT or kept["straight-through"] < min(kept[n] for n in NAMES[:2])

# %% [markdown]
# ## What to try next
#
# - Pixels that cost: `A=costs, k=budget`, in whole numbers. In a guide: with `TraceGraph_ELBO`.
# - Bias and noise of more estimators: `experiments/gradient_estimators`.
