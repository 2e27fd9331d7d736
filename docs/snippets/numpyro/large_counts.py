import jax.numpy as jnp

from numpyro_constrained import ConstrainedPoisson, IntractableConstraintError

# Both margins of a 3 x 4 table of thousands: a closed form, for rates that are products ...
A = jnp.concatenate([jnp.repeat(jnp.eye(3), 4, 1), jnp.tile(jnp.eye(4), 3)])
table = jnp.arange(1.0, 13.0) * 500
rate = jnp.outer(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 2.0, 3.0, 4.0])).flatten()
law = ConstrainedPoisson(rate, A, A @ table)
print(law.mean[:4])  # [ 961.5385 1153.8462 1346.1539 1538.4615 ]

# ... one more sum needs a dynamic programme, and these counts are too large for it.
A = jnp.concatenate([A, jnp.array([[1.0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0]])])
try:
    ConstrainedPoisson(rate, A, A @ table)
except IntractableConstraintError as error:
    print("draw with FiberSampler" in str(error))  # True
