import jax.numpy as jnp

from numpyro_constrained import ConstrainedCategorical

# Three dice, values 0 to 5, that show 12 in all.
law = ConstrainedCategorical(jnp.ones((3, 6)) / 6, jnp.ones(3), 12)
print(jnp.exp(law.marginal_log_prob()[0]))  # [0. 0. 0.1000 0.2000 0.3 0.4000]
print(law.mean, law.variance)  # [4. 4. 4.] [1. 1. 1.]
print(f"{jnp.exp(law.constraint_log_prob()):.6f}", len(law.enumerate_support()))  # 0.0463 10

# Levels with coefficients: the first counts twice.
weighted = ConstrainedCategorical(jnp.ones((3, 6)) / 6, jnp.array([2, 1, 1]), 12)
print(weighted.mean)  # [3.3529 2.6471 2.6471]
