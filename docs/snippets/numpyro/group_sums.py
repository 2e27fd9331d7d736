import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal, GroupSum

# Charges of five atoms in two molecules, each molecule neutral.
molecule = jnp.array([0, 0, 0, 1, 1])
law = ConstrainedNormal(
    loc=jnp.array([0.5, 0.4, -1.2, 0.7, -0.6]),
    scale=jnp.array([0.1, 0.1, 0.3, 0.1, 0.1]),
    A=GroupSum(molecule, num_groups=2),
    k=jnp.zeros(2),
)
print(law.mean)  # [ 0.5273 0.4273 -0.9545 0.65 -0.65 ]

# Weighted sums: masses that balance, here with coefficients 2 and 1.
weights = jnp.array([2.0, 1.0, 1.0])
balance = GroupSum([0, 0, 0], num_groups=1, weights=weights)
law = ConstrainedNormal(0.0, jnp.ones(3), balance, jnp.array([6.0]))
print(law.mean)  # [2. 1. 1.]
