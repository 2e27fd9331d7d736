# %% [markdown]
# # Exactly k of n: which ten pixels tell the digits apart?
#
# A camera may keep 10 of its 64 pixels. After this story you can put the exact law of a subset
# into a model, pass a gradient through its draws, and say what that costs: bias or noise.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

from pyro_constrained import ConstrainedBernoulli

torch.manual_seed(0)
SHORT = "SHORT" in os.environ  # a few steps, to see that it runs

# %% [markdown]
# ## The law of a subset
#
# Independent coins, *given* that exactly two of four show heads: every draw has two ones, and the
# mass of the six subsets sums to one. The usual shortcuts are no such law. `2 softmax` adds up, but
# includes an item with a probability above one; free coins are right on average only.

# %%
logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
law = ConstrainedBernoulli(logits=logits, A=torch.ones(4), k=2)
coins = torch.distributions.Bernoulli(logits=logits)
print("draws:", *law.sample((4,)).int().tolist(), " heads of coins:", coins.sample((9,)).sum(-1))
print("included, given the sum:", law.mean.numpy().round(2))
print("included, by 2 softmax: ", (2 * logits.softmax(-1)).numpy().round(2))
mass = law.log_prob(law.enumerate_support()).exp()
assert len(mass) == 6 and (mass.sum() - 1).abs() < 1e-5 and 2 * logits.softmax(-1)[0] > 1

# %% [markdown]
# ## Gradients through a subset, and the truth
#
# Five of ten, and the loss `|z - target|^2`: its gradient is a sum over all 252 subsets.

# %%
start, target = torch.tensor(np.random.default_rng(3).normal(size=(2, 10)), dtype=torch.float32)
law = ConstrainedBernoulli(logits=start, A=torch.ones(10), k=5)
subsets = law.enumerate_support()
mass, losses = law.log_prob(subsets).exp(), (subsets - target).square().sum(-1)
exact = (mass * (losses - mass @ losses)) @ subsets  # the covariance of loss and subset

# %% [markdown]
# Three estimates from one draw. The *score function* weights the gradient of `log_prob` by how far
# the loss is above average. The *marginal expectation* draws exactly, and differentiates the exact
# mean (Ahmed et al. 2023). *Straight-through* takes the draw for the logits themselves.


# %%
def objective(name, logits, k, loss, shape=()):
    estimator = "marginal_expectation" if name == "marginal expectation" else "score_function"
    ones = torch.ones(logits.shape[-1])
    law = ConstrainedBernoulli(logits=logits, A=ones, k=k, gradient_estimator=estimator)
    if name == "marginal expectation":
        return loss(law.rsample(shape))
    draw = law.sample(shape)
    if name == "straight-through":
        return loss(draw + logits - logits.detach())
    value, log_prob = loss(draw), law.log_prob(draw)
    above = (value - value.mean()).detach()
    return value + above * (log_prob - log_prob.detach())  # the value, with its gradient


# %% [markdown]
# 5,000 estimates of one draw each: how far their mean is from the truth (bias), and how far a
# single one (error), over its length. The score function has no bias but chance, and is mostly
# noise. The marginal expectation trades a bias for much less noise. Straight-through is too long.

# %%
NAMES = ["score function", "marginal expectation", "straight-through"]
bias, error = {}, {}
for name in NAMES:
    rows = start.repeat(500 if SHORT else 5000, 1).requires_grad_()
    objective(name, rows, 5, lambda z: (z - target).square().sum(-1)).sum().backward()
    bias[name] = ((rows.grad.mean(0) - exact).norm() / exact.norm()).item()
    error[name] = ((rows.grad - exact).norm(dim=-1).mean() / exact.norm()).item()
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
x, digit = torch.tensor(seen, dtype=torch.float32), torch.tensor(label)
TRAINED = {}
for name in NAMES:
    torch.manual_seed(0)
    classifier, logits = (torch.zeros(s).requires_grad_() for s in ((128, 10), 64))
    optimiser = torch.optim.Adam([classifier, logits], lr=0.05)
    for _ in range(5 if SHORT else 600):
        rows = torch.randint(len(x), (128,))

        def loss(z, rows=rows, classifier=classifier):
            named = torch.cat([x[rows] * z, z], -1) @ classifier
            return cross_entropy(named, digit[rows], reduction="none")

        optimiser.zero_grad()
        objective(name, logits, 10, loss, (128,)).mean().backward()
        optimiser.step()
    TRAINED[name] = ConstrainedBernoulli(logits=logits.detach(), A=torch.ones(64), k=10)

# %% [markdown]
# A logistic regression on the ten likeliest pixels judges, on images not seen. To beat: the ten
# that vary most, neighbours that repeat each other. Straight-through is the least sure of its ten.

# %%
masks = {"largest variance": np.argsort(seen.var(0))[-10:]}
masks |= {name: law.mean.topk(10).indices.numpy() for name, law in TRAINED.items()}
accuracy = {}
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
# - Other numbers of pixels, 5 or 20. Pixels that cost: `A=costs, k=budget`, in whole numbers.
# - In Pyro: `pyro.sample("z", ConstrainedBernoulli(...))` in a guide; `TraceMeanField_ELBO` goes
#   through the marginal expectation, `TraceGraph_ELBO` weights scores.
# - Bias and noise of more estimators, at 10 to 100 bits: `experiments/gradient_estimators`.
