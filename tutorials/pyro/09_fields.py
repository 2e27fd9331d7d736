# %% [markdown]
# # Fields: a map of risks
#
# Which counties have a raised risk, where most have a handful of deaths? Neighbours tell of each
# other. After this story you can use fields that know differences only, proper since their values
# sum to zero, with matrices that stay sparse.

# %%
import os

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from libpysal.examples import get_path
from pyro.infer import MCMC, NUTS

from pyro_constrained import ConstrainedGMRF, fields

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
pyro.set_rng_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## A map with small counts
#
# Sudden infant deaths in the 100 counties of North Carolina, 1974-78 (Cressie 1993; the example
# `sids2` of libpysal). Neighbours are counties that touch.

# %%
counties = geopandas.read_file(get_path("sids2.shp"))
deaths, births = (counties[name].to_numpy(float) for name in ("SID74", "BIR74"))
expected = births * deaths.sum() / births.sum()
edges = counties.sindex.query(counties.geometry, predicate="touches").T
print(f"deaths {deaths.min():.0f} to {deaths.max():.0f}, median {np.median(deaths):.0f}")

# %% [markdown]
# ## A field that knows differences only
#
# Neighbours differ by a standard normal. The precision Q of this field is singular, for it does not
# see the level: there is no such law to draw from. Leaving out one county, fixed at zero, makes it
# proper, and unsure of counties far away (third map). Given that the effects sum to zero it is
# proper too, and no county is special.

# %%
field = fields.besag(edges, scaled=True)  # a typical variance of 1
phi_law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
west = np.eye(100)[counties.bounds.minx.argmin()]
fixed = ConstrainedGMRF(0.0, field.precision, west, 0.0)
draw = phi_law.sample()
print(f"least eigenvalue of Q {np.linalg.eigvalsh(field.precision.to_dense())[0]:.0e}, ", end="")
print(f"sum of a draw {float(draw.sum()):.0e}")
assert abs(draw.sum()) < 1e-9 and fixed.variance.mean() > 1.3 * phi_law.variance.mean()


def maps(**columns):
    _, axes = plt.subplots(1, len(columns), figsize=(9, 1.7), layout="constrained")
    for axis, (name, values) in zip(axes, columns.items(), strict=True):
        counties.plot(np.asarray(values), ax=axis, legend=True, legend_kwds={"shrink": 0.6})
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.axis("off")
    plt.show()


maps(a_draw=draw, variance_given_sum=phi_law.variance, variance_west_fixed=fixed.variance)

# %% [markdown]
# ## The model, and its posterior by NUTS
#
# BYM2 (Riebler et al. 2016): a log risk is the field and independent noise, mixed by `share`.
# NUTS moves in coordinates of the subspace, without being told, and every draw sums to zero.


# %%
PRIOR = {
    "intercept": dist.Normal(0.0, 1.0),
    "sigma": dist.HalfNormal(1.0),
    "share": dist.Beta(1.0, 1.0),
    "phi": phi_law,
    "theta": dist.Normal(torch.zeros(100), 1.0).to_event(1),
}


def log_risk_of(intercept, sigma, share, phi, theta):
    return intercept + sigma * (share**0.5 * phi + (1 - share) ** 0.5 * theta)


def model():
    mean = (
        torch.tensor(expected) * log_risk_of(**{n: pyro.sample(n, PRIOR[n]) for n in PRIOR}).exp()
    )
    pyro.sample("deaths", dist.Poisson(mean).to_event(1), obs=torch.tensor(deaths))


steps = 3 if SHORT else 400
mcmc = MCMC(NUTS(model), num_samples=steps, warmup_steps=steps, disable_progbar=True)
mcmc.run()
drawn = mcmc.get_samples()
parts = {name: np.asarray(drawn[name]).reshape(len(drawn["phi"]), -1) for name in PRIOR}
log_risk = log_risk_of(**parts)
print({name: f"{parts[name].mean():.2f}" for name in ("intercept", "sigma", "share")})
print(f"largest sum of phi: {abs(parts['phi'].sum(-1)).max():.0e}")
assert abs(parts["phi"].sum(-1)).max() < 1e-9

# %%
risk, raised = np.exp(log_risk).mean(0), (log_risk > 0).mean(0)
maps(deaths_over_expected=deaths / expected, risk=risk, probability_of_raised_risk=raised)
assert SHORT or risk.std() < (deaths / expected).std()  # small counties lean on their neighbours

# %% [markdown]
# ## What to try next
#
# - Space and time: `fields.kronecker(fields.random_walk(12), field)`.
# - A learned precision: `field.precision.with_values(...)`; gradients reach the stored values.
# - The second period, `SID79` and `BIR79`: does the map stay?
# - The sum as a narrow likelihood, and what that costs NUTS: `experiments/disease_mapping`.
