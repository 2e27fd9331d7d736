import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal, InfeasibleConstraintError

# Both margins of a 2 x 2 table: four rows, of which three are independent.
margins = jnp.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
law = ConstrainedNormal(jnp.zeros(4), jnp.ones(4), margins, jnp.array([3.0, 4, 5, 2]))
print(law.rank, law.mean)  # 3 [2.25 0.75 2.75 1.25]

try:
    ConstrainedNormal(jnp.zeros(4), jnp.ones(4), margins, jnp.array([3.0, 4, 5, 9]))
except InfeasibleConstraintError as error:
    print(str(error)[:60])  # A x = k has no solution: row 3 of A depends on other rows, w
