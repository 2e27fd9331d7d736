import jax.numpy as jnp
from numpyro.distributions import biject_to

from numpyro_constrained import LinearEqualityTransform, constraints

A, k = jnp.ones(3), jnp.array(6.0)
isometry = LinearEqualityTransform(A, k)
u = jnp.array([1.0, -2.0])
x = isometry(u)
print(f"{x.sum():.4f}", isometry.inv(x))  # 6.0000 [ 1.0000 -2.0000]
print(f"{isometry.log_abs_det_jacobian(u, x):.4f}")  # 0.0000

# By elimination: coordinates are variables themselves, one follows from the others.
elimination = LinearEqualityTransform(A, k, basis="elimination")
print(elimination(jnp.array([1.0, 2.0])))  # [3. 1. 2.]
print(f"{elimination.log_abs_det_jacobian(u, elimination(u)):.4f}")  # 0.5493

# What autoguides and NUTS find for a constrained site:
print(type(biject_to(constraints.linear_equality(A, k))).__name__)  # LinearEqualityTransform
