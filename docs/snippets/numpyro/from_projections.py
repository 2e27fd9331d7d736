import jax.numpy as jnp

from numpyro_constrained import ConstrainedMultivariateNormal

# A network's output loc with a covariance, to be brought onto x1 + x2 + x3 = 6.
loc = jnp.array([1.0, 2.0, 2.0])
Sigma = jnp.diag(jnp.array([0.01, 1.0, 4.0]))
law = ConstrainedMultivariateNormal(loc, Sigma, jnp.ones(3), 6.0)

# A projection layer (OptNet with a square loss, a KKT layer, Pinet) answers with the nearest point:
print(law.project(loc))  # [1.3333 2.3333 2.3333]
# The conditional law leaves alone what is known well:
print(law.mean)  # [1.0020 2.1996 2.7984]

# Projected draws have another law: their deviations are not the conditional ones.
P = jnp.eye(3) - jnp.ones((3, 3)) / 3
print(jnp.sqrt(jnp.diagonal(P @ Sigma @ P)))  # [0.74833155 0.9433981 1.3747727 ]
print(law.stddev)  # [0.09990015 0.8946503 0.89799064]
