import jax.numpy as jnp
import numpyro

from numpyro_constrained import ConstrainedNormal, ConstrainedPoisson

# Parameters, k and a dense A broadcast; one analysis of A serves the batch.
k = jnp.array([1.0, 2.0, 3.0])
law = ConstrainedNormal(jnp.zeros((3, 4)), jnp.ones(4), jnp.ones(4), k)
print(tuple(law.batch_shape), tuple(law.event_shape), law.mean[:, 0])  # (3,) (4,) [0.25 0.5 0.75]


def model(k):
    with numpyro.plate("problems", len(k)):
        return numpyro.sample("x", ConstrainedNormal(0.0, jnp.ones(4), jnp.ones(4), k))


print(numpyro.handlers.seed(model, 0)(k).sum(-1))  # [1.0000 2.0000 3. ]

# Counts: A is one matrix, k may differ from element to element.
counts = ConstrainedPoisson(jnp.ones(4), jnp.ones(4), jnp.array([2, 5, 9]))
print(tuple(counts.batch_shape), counts.mean[:, 0])  # (3,) [0.5 1.25 2.25]
