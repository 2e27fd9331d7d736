import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from numpyro_constrained import ConstrainedNormal, ConstrainedPoisson, auto_reparam


# k changes from call to call: reparametrise the latent site.
def parts(k):
    return numpyro.sample("x", ConstrainedNormal(0.0, jnp.ones(4), jnp.ones(4), k))


model = numpyro.handlers.seed(numpyro.handlers.reparam(parts, config=auto_reparam), 0)
print([f"{model(k).sum():.4f}" for k in (1.0, 2.0)])  # ['1.0000', '2.0000']


# k was measured with noise: sample it, and observe the measurement.
def noisy(measured):
    k = numpyro.sample("k", dist.Normal(0.0, 10.0))
    numpyro.sample("measured", dist.Normal(k, 0.5), obs=measured)
    return numpyro.sample("x", ConstrainedNormal(0.0, jnp.ones(4), jnp.ones(4), k))


# Counts: one plan for all k up to k_max, under jit too, where A is of NumPy.
@jax.jit
def mean(k):
    return ConstrainedPoisson(jnp.array([1.0, 2.0]), np.ones(2), k, k_max=10).mean


print(mean(jnp.array([3, 5]))[1])  # [1.6667 3.3333]
