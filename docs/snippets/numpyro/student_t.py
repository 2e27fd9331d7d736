import jax.numpy as jnp

from numpyro_constrained import ConstrainedMultivariateStudentT, GroupSum

loc, scale = jnp.zeros(5), jnp.ones(5)
law = ConstrainedMultivariateStudentT(4.0, loc, A=jnp.ones(5), k=1.0, scale=scale)
far = ConstrainedMultivariateStudentT(4.0, loc, A=jnp.ones(5), k=30.0, scale=scale)
print(law.mean, law.stddev[0])  # [0.2 0.2 0.2 0.2 0.2] 1.0583
print(far.mean, far.stddev[0])  # [6. 6. 6. 6. 6.] 7.0048

# A heavy-tailed factor for each group, instead of one for all.
groups = GroupSum([0, 0, 0, 1, 1], num_groups=2)
k = jnp.array([0.0, 30.0])
each = ConstrainedMultivariateStudentT(4.0, loc, A=groups, k=k, scale=scale, per_group=True)
print(each.stddev)  # [0.9428 0.9428 0.9428 8.6987 8.6987]
