import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedPoisson

# A 2 x 2 table of counts of which both margins are known; three of the four sums are independent.
margins = jnp.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
rate = jnp.array([1.0, 2.0, 3.0, 4.0])
law = ConstrainedPoisson(rate, margins, jnp.array([5, 3, 4, 4]))
print(law.mean)  # [2.2837 2.7163 1.7163 1.2837]

tables = law.enumerate_support()
print(len(tables), f"{jnp.exp(law.log_prob(tables)).sum():.4f}")  # 4 1.0000
print(jnp.exp(law.marginal_log_prob()[0]))  # [0. 0.1256 0.5023 0.3349 0.0372]
print(f"{law.constraint_log_prob():.4f} {law.entropy():.4f}")  # -6.8266 1.0952

draw = law.sample(jax.random.key(0), (1000,))
print(bool((law.residual(draw) == 0).all()))  # True
