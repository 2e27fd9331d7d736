import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from numpyro_constrained import ConstrainedGMRF, auto_reparam, fields

# Counts along a line of eight places, with a smooth effect that sums to zero.
field = fields.besag([[i, i + 1] for i in range(7)], scaled=True)
print(field.precision)  # SparseMatrix(shape=(8, 8), 22 entries)
print(field.A)  # GroupSum(8 variables, num_groups=1, unweighted)


def smooth(counts, expected):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    Q = field.precision.with_values(tau * field.precision.values)
    D = field.root.with_values(jnp.sqrt(tau) * field.root.values)
    law = ConstrainedGMRF(0.0, Q, field.A, field.k, precision_root=D)
    effect = numpyro.sample("effect", law)
    rate = expected * jnp.exp(level + effect)
    numpyro.sample("counts", dist.Poisson(rate).to_event(1), obs=counts)


model = numpyro.handlers.reparam(smooth, config=auto_reparam)
counts = jnp.array([3.0, 5.0, 4.0, 8.0, 9.0, 7.0, 2.0, 1.0])
seeded = numpyro.handlers.seed(model, 0)
trace = numpyro.handlers.trace(seeded).get_trace(counts, jnp.full((8,), 5.0))
print(bool(abs(trace["effect"]["value"].sum()) < 1e-5))  # True
