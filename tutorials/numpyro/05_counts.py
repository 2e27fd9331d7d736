# %% [markdown]
# # Counts: tables and networks
#
# Tables with fixed margins, and traffic of which only the loads of links are counted. After this
# story you can test tables exactly, draw them, and learn rates of what nobody counted.

# %%
import os

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoNormal
from scipy import stats

from numpyro_constrained import ConstrainedNormal, ConstrainedPoisson

SHORT = "SHORT" in os.environ  # a few steps, to see that it runs
steps, num_tables = (5, 200) if SHORT else (300, 20_000)
numpyro.enable_x64()  # p-values of 1e-5 to many digits
keys = random.split(random.key(0), 5)

# %% [markdown]
# ## Are men and women admitted alike?
#
# Applicants to six departments in Berkeley, 1973: (men, women) x (admitted, rejected), from
# Bickel, Hammel and O'Connell (1975). With the margins of a table fixed, independence leaves one
# law of its cells, whatever the rates: independent Poisson counts given `A x = k`.

# %%
admissions = np.array(
    [[512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391],
     [138, 279, 131, 244], [53, 138, 94, 299], [22, 351, 24, 317]]
)  # fmt: skip


def margins(rows, columns):  # A: row sums, then column sums, of a table read row by row
    cells = np.eye(rows * columns, dtype=int).reshape(rows, columns, -1)
    return np.vstack([cells.sum(1), cells.sum(0)])


def independence(table, rows, columns):
    k = table @ margins(rows, columns).T
    rate = k[..., :rows, None] * k[..., None, rows:] / table.sum(-1)[..., None, None]
    return ConstrainedPoisson(jnp.array(rate.reshape(table.shape)), margins(rows, columns), k)


law = independence(admissions, 2, 2)  # six tables at once
cell = np.exp(np.asarray(law.marginal_log_prob()[:, 0]))  # P(admitted men = u), by department
for name, table, p in zip("ABCDEF", admissions, cell, strict=True):
    ours = p[p <= p[table[0]] * (1 + 1e-7)].sum()
    fisher = stats.fisher_exact(table.reshape(2, 2)).pvalue
    print(f"{name}: exact p = {ours:.4g}, SciPy's {fisher:.4g}")
    assert np.isclose(ours, fisher, rtol=1e-6)

# %% [markdown]
# Pooled into one table, women seem to lose. Given the margins of each department they do not; the
# one that stands out, A, favours them.

# %%
expected, deviation = np.asarray(law.mean)[:, 2], np.asarray(law.stddev)[:, 2]
surplus = admissions[:, 2] - expected
pooled = admissions.sum(0)[2] - independence(admissions.sum(0), 2, 2).mean[2].item()
print(f"women admitted, less expected: pooled {pooled:.0f}, by department {surplus.sum():+.0f}")
assert pooled < -100 < 0 < surplus.sum()
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.errorbar(range(6), 0 * expected, 2 * deviation, fmt="none", label="2 standard deviations")
axis.plot(range(6), surplus, "ko", label="women admitted, less those expected")
axis.set(xticks=range(6), xticklabels="ABCDEF", xlabel="department", ylabel="women")
figure.legend(loc="outside upper right", ncols=2)
plt.show()

# %% [markdown]
# ## A table too large to list
#
# Income by satisfaction with the job of 96 men (Agresti 2002, table 2.8). Draws with these margins
# are exact and independent; they judge the usual chi-square approximation of the test.

# %%
jobs = np.array([[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]]).ravel()
law = independence(jobs, 4, 4)
tables, mean = np.asarray(law.sample(keys[0], (num_tables,))), np.asarray(law.mean)
statistic, observed = (((x - mean) ** 2 / mean).sum(-1) for x in (tables, jobs))
exact, approximate = (statistic >= observed).mean(), stats.chi2(9).sf(observed)
print(f"p of the draws {exact:.3f}, of the chi-square law {approximate:.3f}")
assert (tables @ margins(4, 4).T == jobs @ margins(4, 4).T).all()
theirs = stats.random_table.logpmf(jobs.reshape(4, 4), [20, 22, 33, 21], [4, 13, 43, 36])
assert np.isclose(law.log_prob(jobs).item(), theirs)

# %% [markdown]
# ## Traffic from the loads of links
#
# Three nodes hang on one router. Each reading counts what a node sends and receives, not who sends
# to whom: five equations in nine flows (Vardi 1996; simulated, to have the truth). Loads that
# share a flow are correlated, and that tells rates apart: `constraint_log_prob` is the likelihood
# of the loads, all flows summed out. The prior is vague, around the gravity model.

# %%
A = margins(3, 3)
truth_rate = np.array([0.2, 4.0, 0.3, 0.3, 0.2, 1.5, 2.5, 0.2, 0.2])
flows = np.random.default_rng(0).poisson(truth_rate, size=(24, 9))
k = flows @ A.T
gravity = (k.mean(0)[:3, None] * k.mean(0)[None, 3:]).ravel() / flows.sum(-1).mean()


def model():
    z = numpyro.sample("z", dist.Normal(jnp.zeros(9), 1.0).to_event(1))
    with numpyro.plate("readings", len(k)):
        law = ConstrainedPoisson(gravity * jnp.exp(1.5 * z), A, k)
        numpyro.factor("loads", law.constraint_log_prob())


guide = AutoNormal(model, init_loc_fn=init_to_median)
svi = SVI(model, guide, numpyro.optim.ClippedAdam(0.05), Trace_ELBO())
params = svi.run(keys[1], steps, progress_bar=False).params
learned = gravity * jnp.exp(1.5 * guide.median(params)["z"])
errors = {}
for name, rate in {"gravity": gravity, "learned": learned, "truth": truth_rate}.items():
    errors[name] = np.square(ConstrainedPoisson(rate, A, k).mean - flows).mean() ** 0.5
    print(f"{name:8} rates {np.asarray(rate).round(1)}  error of a flow {errors[name]:.2f}")
assert SHORT or errors["learned"] < 0.7 * errors["gravity"]

# %%
law = ConstrainedPoisson(learned, A, k)
below = jnp.exp(law.marginal_log_prob()).cumsum(-1)  # P(flow <= u), of each reading and flow
low, high = (below < 0.05).sum(-1), (below < 0.95).sum(-1)
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.fill_between(range(24), low[:, 1] - 0.3, high[:, 1] + 0.3, step="mid", alpha=0.4)
axis.plot(flows[:, 1], "k.")
axis.set(title="node 1 to 2: truth, central 90%", xlabel="reading", ylabel="packets")
plt.show()

# %% [markdown]
# Normals of such means and variances obey the sums, too. But some flows are less than nothing.

# %%
normal = ConstrainedNormal(learned, learned**0.5, A, k).sample(keys[2])
print(f"negative flows: {(normal < 0).mean():.0%}, of counts {(law.sample(keys[3]) < 0).sum()}")

# %% [markdown]
# ## What to try next
#
# - More nodes and loads: where exact sums grow too large, `FiberSampler` draws by Markov chains.
# - The measured traffic of Cao et al. (2000) is `bell.labs` in R's networkTomography.
# - Read on: exactly k of n, and gradients through counts (06).
