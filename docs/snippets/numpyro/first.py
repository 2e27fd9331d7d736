import jax.numpy as jnp
import numpyro

from numpyro_constrained import ConstrainedNormal


def model(k):  # three parts of a whole k, the third one less certain
    loc, scale = jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 2.0])
    return numpyro.sample("x", ConstrainedNormal(loc, scale, jnp.ones(3), k))


with numpyro.handlers.seed(rng_seed=0):
    x = model(6.0)
print(f"{x.sum():.4f}")  # 6.0000
