import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal

# beta ~ normal(0, 2) on a sum_to_zero_vector[5]
law = ConstrainedNormal(0.0, 2.0 * jnp.ones(5), jnp.ones(5), 0.0)
print(law.stddev[0])  # 1.7889

# with the scale of Stan's manual, sqrt(N * inv(N - 1)), each beta has deviation 2
law = ConstrainedNormal(0.0, 2.0 * (5 / 4) ** 0.5 * jnp.ones(5), jnp.ones(5), 0.0)
print(law.stddev[0])  # 2.0
