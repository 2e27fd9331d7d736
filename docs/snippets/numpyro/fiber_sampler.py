import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from numpyro_constrained import FiberSampler

# A 4 x 4 table with margins of 900: more than 10^23 tables, too many for a sum over them.
rows, columns = jnp.repeat(jnp.eye(4), 4, 1), jnp.tile(jnp.eye(4), 4)
margins = jnp.concatenate([rows, columns])
base = dist.Poisson(jnp.linspace(1.0, 3.0, 16) ** 2).to_event(1)
sampler = FiberSampler(base, margins, jnp.full((8,), 900.0))
print(sampler.connectivity.is_connected)  # True

draws = sampler.run(jax.random.key(0), num_draws=400, num_chains=2, warmup=100, thinning=2)
print(tuple(draws.shape), bool((draws @ margins.T == 900).all()))  # (2, 400, 16) True
found = sampler.diagnostics()
print(bool(found.ess.min() > 200), bool(found.r_hat.max() < 1.05))  # True True
