import jax.numpy as jnp
from numpyro.distributions import ZeroSumNormal

from numpyro_constrained import ConstrainedNormal

x = jnp.array([0.5, -1.0, 0.2, 0.3])  # sums to zero
theirs = ZeroSumNormal(1.5, event_shape=(4,))
law = ConstrainedNormal(0.0, 1.5 * jnp.ones(4), jnp.ones(4), 0.0)
print(theirs.log_prob(x), law.log_prob(x))  # -4.2798777 -4.2798777
print(theirs.variance[0], law.variance[0])  # 1.6875 1.6875

# What a ZeroSumNormal cannot say: unequal scales, weights, another sum, a learned scale of each.
law = ConstrainedNormal(
    loc=jnp.array([0.1, 0.2, 0.3, 0.4]),
    scale=jnp.array([0.1, 0.5, 0.5, 1.0]),
    A=jnp.array([1.0, 1.0, 2.0, 2.0]),
    k=3.0,
)
print(law.mean)  # [0.1025 0.2618 0.4236 0.8943 ]
