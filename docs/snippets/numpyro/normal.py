import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal

loc, scale = jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 2.0])
law = ConstrainedNormal(loc, scale, A=jnp.ones(3), k=6.0)
print(law.mean)  # [1.5 1.5 3. ]
print(law.stddev)  # [0.9129 0.9129 1.1547 ]

# Exact expected losses, without a sample: absolute error, squared error, CRPS.
target = jnp.array([1.0, 2.0, 3.0])
print(law.expected_l1(target))  # [0.8350 0.8350 0.9213]
print(law.expected_l2(target))  # [1.0833 1.0833 1.3333]
print(law.crps(target))  # [0.3199 0.3199 0.2698]

# A measurement that misses the sum: the nearest point of the subspace.
print(law.project(jnp.array([1.0, 2.0, 3.3])))  # [0.9000 1.9 3.2000]
