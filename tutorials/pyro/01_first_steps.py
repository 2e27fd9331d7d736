# %% [markdown]
# # First steps: a law on a line
#
# Two tanks are filled from one can of 2 litres, and each has a gauge. The gauges are noisy, so
# what they read does not add up; what is in the tanks does. After this story you can draw from a
# law *given* an equation, score values under it, and differentiate through it.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from scipy.stats import multivariate_normal

from pyro_constrained import ConstrainedMultivariateNormal, ConstraintError

# %% [markdown]
# ## A law that breaks the equation
#
# What the gauges say: a normal law with correlated errors; the first gauge is much worse than the
# second. The truth obeys `A x = k`, here `x1 + x2 = 2`; draws from the gauges' law do not.

# %%
torch.set_default_dtype(torch.float64)  # SciPy, our judge, wants it
pyro.set_rng_seed(0)
loc = torch.tensor([0.6, 0.8])
covariance = torch.tensor([[0.36, 0.06], [0.06, 0.04]])
A, k = torch.tensor([[1.0, 1.0]]), torch.tensor([2.0])

base = torch.distributions.MultivariateNormal(loc, covariance)
free = base.sample((400,))
print("first draws:", *free[:3].numpy().round(2))
print(f"largest |A x - k|: {(free @ A.T - k).abs().max():.2f}")

# %% [markdown]
# ## Three ways onto the line
#
# *Completion* keeps `x1` and sets `x2` to what is missing. *Projection* moves each draw to the
# nearest point of the line. *Conditioning* asks what the gauges' law says of the points that lie
# on the line, and nothing else.

# %%
completed = torch.stack([free[:, 0], 2 - free[:, 0]], -1)
law = ConstrainedMultivariateNormal(loc, covariance, A, k)
projected = law.project(free)
conditioned = law.sample((400,))

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), sharex=True, sharey=True, layout="constrained")
ways = {"completion": completed, "projection": projected, "conditioning": conditioned}
for axis, name in zip(axes, ways, strict=True):
    axis.plot(*free.T, ".", color="0.8", ms=3)
    axis.plot([-0.5, 2.5], [2.5, -0.5], color="0.5", lw=0.8)
    axis.plot(*ways[name].T, ".", ms=4, alpha=0.3)
    axis.plot(*ways[name].mean(0), "k+", ms=12)
    axis.set(title=name, xlabel="tank 1", aspect="equal", xlim=(-1, 2.6), ylim=(-0.5, 2.5))
axes[0].set_ylabel("tank 2")
plt.show()

# %% [markdown]
# All obey, one is right: it blames the bad gauge more. Completion believes the bad gauge alone,
# and projection blames both alike.

# %%
for name, points in ways.items():
    print(f"{name:12}", points.mean(0).numpy().round(2), f"spread of x2 {points[:, 1].std():.2f}")
assert conditioned[:, 1].std() < 0.7 * projected[:, 1].std()

# %% [markdown]
# ## Draws
#
# A draw obeys to the last bits: doubles near 1 are 2e-16 apart.

# %%
print(f"largest |A x - k|: {law.residual(conditioned).abs().max():.1e}")
assert law.residual(conditioned).abs().max() < 2e-15

# %% [markdown]
# ## Mean and variance
#
# Both are known exactly: the mean moves by the gain `S A' / (A S A')` times what is missing.

# %%
gain = covariance @ A.T / (A @ covariance @ A.T)
print("mean:", law.mean.numpy().round(4), " standard deviation:", law.stddev.numpy().round(4))
assert torch.allclose(law.mean, loc + gain @ (k - A @ loc))

# %% [markdown]
# ## Density
#
# `log_prob` is the density per unit of *length along the line*, and it integrates to one along it.
# SciPy knows it too, from the mean and the singular covariance.

# %%
ours = law.log_prob(conditioned).numpy()
scipys = multivariate_normal(law.mean, law.covariance, allow_singular=True).logpdf(conditioned)
print("ours:", ours[:3].round(6), " SciPy's:", scipys[:3].round(6))
assert np.allclose(ours, scipys, atol=1e-9)

# %% [markdown]
# The law is about the line, not about how we write it: multiply `A` and `k` by ten, and nothing
# changes. A penalty `(A x - k)^2` does.

# %%
rewritten = ConstrainedMultivariateNormal(loc, covariance, 10 * A, 10 * k)
assert torch.allclose(rewritten.log_prob(conditioned), law.log_prob(conditioned))

# %% [markdown]
# ## Gradients
#
# They reach every parameter. If the can held a little more, where would it go? The derivative of a
# draw by `k` is the gain: most goes where we know least, and the parts add up to one.

# %%
more = k.clone().requires_grad_()
draw = ConstrainedMultivariateNormal(loc, covariance, A, more).rsample()
shares = [torch.autograd.grad(x, more, retain_graph=True)[0].item() for x in draw]
print("shares of the tanks:", np.round(shares, 3))
assert np.isclose(sum(shares), 1, atol=1e-9) and np.allclose(shares, gain[:, 0])

# %% [markdown]
# ## In a model, and off the line
#
# In a model the law is one `sample` statement. A value off the line is an error, for it is nearly
# always a mistake: here a reading that was rounded. `project` repairs that.


# %%
def model():
    return pyro.sample("tanks", ConstrainedMultivariateNormal(loc, covariance, A, k))


rounded = torch.tensor([1.08, 0.91])
print("from the model:", model().numpy().round(4))
try:
    law.log_prob(rounded)
except ConstraintError as error:
    print("ConstraintError:", error)
print("repaired:", law.project(rounded).numpy(), "log density", law.log_prob(law.project(rounded)))

# %% [markdown]
# ## What to try next
#
# - Make the gauges equally good and uncorrelated: projection and conditioning then agree.
# - Give `A` a second row, `[1, -1]` with `k = [2, 0]`: one point is left, of density 1.
# - Read on: a constrained latent in variational inference (02), in NUTS (03), in a network (04).
