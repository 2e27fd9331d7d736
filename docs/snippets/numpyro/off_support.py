import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal, ConstraintError

loc, scale, A = jnp.zeros(3), jnp.ones(3), jnp.ones(3)
law = ConstrainedNormal(loc, scale, A, 6.0, validate_args=True)
measured = jnp.array([1.0, 2.0, 3.01])  # obeys the law only to a hundredth
try:
    law.log_prob(measured)
except ConstraintError as error:
    print(str(error)[:67])  # value: expected A x = k within the relative tolerance 1.0e-04, got

print(f"{law.log_prob(law.project(measured)):.4f}")  # -2.8479

# Or: a wider tolerance, or no check, where the density off the subspace is zero.
wide = ConstrainedNormal(loc, scale, A, 6.0, support_tolerance=1e-2, validate_args=True)
free = ConstrainedNormal(loc, scale, A, 6.0, validate_args=False)
print(f"{wide.log_prob(measured):.4f} {free.log_prob(measured):.4f}")  # -2.8479 -inf
