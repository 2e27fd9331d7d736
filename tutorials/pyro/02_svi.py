# %% [markdown]
# # Variational inference with a constrained latent
#
# Six flows of a small plant balance at three junctions; five have noisy meters. After this story
# you can fit such flows by SVI, know what a guide needs, and learn a law together with its flows.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal

from pyro_constrained import ConstrainedNormal, auto_reparam

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
steps = 20 if SHORT else 1000
pyro.set_rng_seed(0)

# %% [markdown]
# ## The plant
#
# The feed 0 splits into 1 and 2, flow 1 into 3 and 4, and 2 and 4 join into 5. Eight readings of
# each meter are simulated, so that we know the truth. Nobody meters flow 4.

# %%
A = torch.tensor([[1.0, -1, -1, 0, 0, 0], [0, 1, 0, -1, -1, 0], [0, 0, 1, 0, 1, -1]])
k = torch.zeros(3)
truth = torch.tensor([12.0, 7, 5, 4, 3, 8])
metered, noise = torch.tensor([0, 1, 2, 3, 5]), torch.tensor([1.5, 0.8, 0.3, 0.5, 0.5])
readings = truth[metered] + noise * torch.randn(8, 5)
print("mean readings:", readings.mean(0).numpy().round(2))

# %% [markdown]
# ## The model
#
# A vague prior of each flow, given that they balance, and meters around them.


# %%
def model(readings):
    flows = pyro.sample("flows", ConstrainedNormal(8.0, 5 * torch.ones(6), A, k))
    with pyro.plate("times", 8):
        pyro.sample("readings", dist.Normal(flows[metered], noise).to_event(1), obs=readings)


def fit(model, guide, readings):
    pyro.clear_param_store()
    optimiser = pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.03 ** (1 / steps)})
    svi = SVI(model, guide, optimiser, Trace_ELBO())
    for _ in range(steps):
        svi.step(readings)
    return Predictive(model, guide=guide, num_samples=steps)(readings)


# %% [markdown]
# ## A guide by name
#
# Autoguides work as they are: normal in the three coordinates of the subspace. All is Gaussian, so
# the exact posterior can judge them: prior times readings, given the balance.

# %%
weight = torch.zeros(6).scatter(0, metered, 8 / noise**2)
center = (weight.scatter(0, metered, 8 / noise**2 * readings.mean(0)) + 8 / 25) / (weight + 1 / 25)
exact = ConstrainedNormal(center, (weight + 1 / 25) ** -0.5, A, k)

draws = fit(model, AutoMultivariateNormal(model), readings)["flows"].reshape(-1, 6)
print("exact:", exact.mean.detach().numpy().round(2), exact.stddev.detach().numpy().round(2))
print("guide:", draws.mean(0).numpy().round(2), draws.std(0).numpy().round(2))
assert (draws @ A.T).abs().max() < 1e-4
assert SHORT or torch.allclose(draws.std(0), exact.stddev, rtol=0.2)
assert SHORT or ((draws.mean(0) - exact.mean).abs() < 0.3 * exact.stddev).all()

# %%
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.errorbar(metered - 0.15, readings.mean(0), 2 * noise / 8**0.5, fmt="o", label="meters alone")
axis.errorbar(np.arange(6), draws.mean(0), 2 * draws.std(0), fmt="s", label="given the balance")
axis.plot(np.arange(6) + 0.15, truth, "k_", ms=12, label="truth")
axis.set(xlabel="flow", ylabel="mean, two deviations")
axis.legend()
plt.show()

# %% [markdown]
# ## A guide by hand
#
# It needs the support of the site: the same `A` and `k`. This one contains the exact posterior.
# Six scales stand for three directions, so it had better begin near the meters, and narrow.


# %%
def by_hand(readings):
    loc = pyro.param("loc", torch.full((6,), 3.0).scatter(0, metered, readings.mean(0)))
    scale = pyro.param("scale", 0.3 * torch.ones(6), constraint=dist.constraints.positive)
    pyro.sample("flows", ConstrainedNormal(loc, scale, A, k))


def without_the_law(readings):
    pyro.sample("flows", dist.Normal(pyro.param("loc", 8 * torch.ones(6)), 1.0).to_event(1))


draws = fit(model, by_hand, readings)["flows"].reshape(-1, 6)
print("by hand:", draws.mean(0).numpy().round(2), draws.std(0).numpy().round(2))
assert SHORT or torch.allclose(draws.std(0), exact.stddev, rtol=0.25)
try:
    fit(model, without_the_law, readings)
except ValueError as error:  # Pyro says where; the cause says what
    print("without the law:", str(error.__cause__).partition(";")[0])

# %% [markdown]
# ## A law that is learned
#
# Now a share of what enters the last junction leaks. The share is unknown, so `A` is. Coordinates
# of one subspace are of no use in the next: a guide that keeps those of the first step has a
# *stale support*. `auto_reparam` turns the flows into white noise and a smooth map of it.

# %%
into_last, out_of_last = torch.tensor([[0.0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]])
leaky_readings = readings * torch.tensor([1, 1, 1, 1, 0.8])


def leaky(readings):
    leak = pyro.sample("leak", dist.Beta(1.0, 4.0))
    balances = torch.vstack([A[:2], (1 - leak) * into_last - out_of_last])
    flows = pyro.sample("flows", ConstrainedNormal(8.0, 5 * torch.ones(6), balances, k))
    with pyro.plate("times", 8):
        pyro.sample("readings", dist.Normal(flows[metered], noise).to_event(1), obs=readings)


try:
    fit(leaky, AutoMultivariateNormal(leaky), leaky_readings)
except ValueError as error:
    print("stale support:", str(error.__cause__).rpartition(": ")[2])

moving = poutine.reparam(leaky, config=auto_reparam)
posterior = fit(moving, AutoMultivariateNormal(moving), leaky_readings)
leak, flows = posterior["leak"].flatten(), posterior["flows"].reshape(-1, 6)
print(f"leak: {leak.mean():.3f} +- {leak.std():.3f}, in truth 0.2")
assert ((1 - leak) * (flows @ into_last) - flows @ out_of_last).abs().max() < 1e-3
assert SHORT or abs(leak.mean() - 0.2) < 3 * leak.std() < 0.3

# %% [markdown]
# ## What to try next
#
# - Replace `AutoMultivariateNormal` by `AutoNormal`: means stay, deviations shrink. Why?
# - Read on: the posterior itself, by NUTS (03); a law on the outputs of a network (04).
