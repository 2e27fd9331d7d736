# %% [markdown]
# # Variational inference with a constrained latent
#
# Six flows of a small plant balance at three junctions; five have noisy meters. After this story
# you can fit such flows by SVI, know what a guide needs, and learn a law together with its flows.

# %%
import os

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from numpyro.handlers import reparam
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal

from numpyro_constrained import ConstrainedNormal, auto_reparam

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
steps = 20 if SHORT else 1000
keys = random.split(random.key(0), 3)

# %% [markdown]
# ## The plant
#
# The feed 0 splits into 1 and 2, flow 1 into 3 and 4, and 2 and 4 join into 5. Eight readings of
# each meter are simulated, so that we know the truth. Nobody meters flow 4.

# %%
A = jnp.array([[1.0, -1, -1, 0, 0, 0], [0, 1, 0, -1, -1, 0], [0, 0, 1, 0, 1, -1]])
k = jnp.zeros(3)
truth = jnp.array([12.0, 7, 5, 4, 3, 8])
metered, noise = jnp.array([0, 1, 2, 3, 5]), jnp.array([1.5, 0.8, 0.3, 0.5, 0.5])
readings = truth[metered] + noise * random.normal(keys[0], (8, 5))
print("mean readings:", np.asarray(readings.mean(0)).round(2))

# %% [markdown]
# ## The model
#
# A vague prior of each flow, given that they balance, and meters around them.


# %%
def model(readings):
    flows = numpyro.sample("flows", ConstrainedNormal(8.0, 5 * jnp.ones(6), A, k))
    with numpyro.plate("times", 8):
        numpyro.sample("readings", dist.Normal(flows[metered], noise).to_event(1), obs=readings)


def fit(model, guide, readings):
    decay = lambda step: 0.1 * 0.03 ** (step / steps)  # noqa: E731
    svi = SVI(model, guide, numpyro.optim.ClippedAdam(decay), Trace_ELBO())
    found = svi.run(keys[1], steps, readings, progress_bar=False)
    sites = {"num_samples": 1000, "return_sites": ["flows", "leak"]}
    draws = Predictive(model, guide=guide, params=found.params, **sites)
    return draws(keys[2], readings) | {"losses": found.losses}


# %% [markdown]
# ## A guide by name
#
# Autoguides work as they are: normal in the three coordinates of the subspace. All is Gaussian, so
# the exact posterior can judge them: prior times readings, given the balance.

# %%
weight = jnp.zeros(6).at[metered].set(8 / noise**2)
center = (weight.at[metered].multiply(readings.mean(0)) + 8 / 25) / (weight + 1 / 25)
exact = ConstrainedNormal(center, (weight + 1 / 25) ** -0.5, A, k)

draws = fit(model, AutoMultivariateNormal(model), readings)["flows"]
print("exact:", np.asarray(exact.mean).round(2), np.asarray(exact.stddev).round(2))
print("guide:", np.asarray(draws.mean(0)).round(2), np.asarray(draws.std(0)).round(2))
assert jnp.abs(draws @ A.T).max() < 1e-4
assert SHORT or jnp.allclose(draws.std(0), exact.stddev, rtol=0.2)
assert SHORT or (jnp.abs(draws.mean(0) - exact.mean) < 0.3 * exact.stddev).all()

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
    loc = numpyro.param("loc", jnp.full(6, 3.0).at[metered].set(readings.mean(0)))
    scale = numpyro.param("scale", 0.3 * jnp.ones(6), constraint=dist.constraints.positive)
    numpyro.sample("flows", ConstrainedNormal(loc, scale, A, k))


def without_the_law(readings):
    numpyro.sample("flows", dist.Normal(numpyro.param("loc", 8 * jnp.ones(6)), 1.0).to_event(1))


draws = fit(model, by_hand, readings)["flows"]
print("by hand:", np.asarray(draws.mean(0)).round(2), np.asarray(draws.std(0)).round(2))
assert SHORT or jnp.allclose(draws.std(0), exact.stddev, rtol=0.25)
losses = fit(model, without_the_law, readings)["losses"]
print("without the law, losses:", losses[-3:])
assert not np.isfinite(losses).any()

# %% [markdown]
# ## A law that is learned
#
# Now a share of what enters the last junction leaks. The share is unknown, so `A` is. Coordinates
# of one subspace are of no use in the next: a guide that keeps those of the first step has a
# *stale support*. `auto_reparam` turns the flows into white noise and a smooth map of it.

# %%
into_last, out_of_last = jnp.array([[0.0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]])
leaky_readings = readings * jnp.array([1, 1, 1, 1, 0.8])


def leaky(readings):
    leak = numpyro.sample("leak", dist.Beta(1.0, 4.0))
    balances = jnp.vstack([A[:2], (1 - leak) * into_last - out_of_last])
    flows = numpyro.sample("flows", ConstrainedNormal(8.0, 5 * jnp.ones(6), balances, k))
    with numpyro.plate("times", 8):
        numpyro.sample("readings", dist.Normal(flows[metered], noise).to_event(1), obs=readings)


losses = fit(leaky, AutoMultivariateNormal(leaky), leaky_readings)["losses"]
print("stale support, losses:", losses[-3:])
assert not np.isfinite(losses).any()

moving = reparam(leaky, config=auto_reparam)
posterior = fit(moving, AutoMultivariateNormal(moving), leaky_readings)
leak, flows = posterior["leak"], posterior["flows"]
print(f"leak: {leak.mean():.3f} +- {leak.std():.3f}, in truth 0.2")
assert jnp.allclose((1 - leak) * (flows @ into_last), flows @ out_of_last, atol=1e-3)
assert SHORT or abs(leak.mean() - 0.2) < 3 * leak.std() < 0.3

# %% [markdown]
# ## What to try next
#
# - Replace `AutoMultivariateNormal` by `AutoNormal`: means stay, deviations shrink. Why?
# - Read on: the posterior itself, by NUTS (03); a law on the outputs of a network (04).
