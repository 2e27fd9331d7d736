import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from numpyro_constrained import ConstrainedNormal


def model(y):  # two-way effects, each of which sums to zero
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    rows = numpyro.sample("rows", ConstrainedNormal(0.0, jnp.ones(3), jnp.ones(3), 0.0))
    columns = numpyro.sample("columns", ConstrainedNormal(0.0, jnp.ones(4), jnp.ones(4), 0.0))
    mean = level + rows[:, None] + columns
    return numpyro.sample("y", dist.Normal(mean, 0.5).to_event(2), obs=y)


seeded = numpyro.handlers.seed(model, 0)
trace = numpyro.handlers.trace(seeded).get_trace(jnp.zeros((3, 4)))
print(f"{abs(trace['rows']['value'].sum()):.4f}")  # 0.0000
print(f"{abs(trace['columns']['value'].sum()):.4f}")  # 0.0000

# Interactions that sum to zero along both directions: one site, rank 3 + 4 - 1.
both = jnp.concatenate([jnp.repeat(jnp.eye(3), 4, 1), jnp.tile(jnp.eye(4), 3)])
law = ConstrainedNormal(0.0, jnp.ones(12), both, jnp.zeros(7))
print(law.rank, f"{law.variance[0]:.4f}")  # 6 0.5000
