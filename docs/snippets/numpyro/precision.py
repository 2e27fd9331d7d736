import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal

# Half-precision parameters are computed with in float32.
loc = jnp.zeros(4, dtype=jnp.bfloat16)
law = ConstrainedNormal(loc, jnp.ones(4, dtype=jnp.bfloat16), jnp.ones(4), 2.0)
x = law.sample(jax.random.key(0))
print(x.dtype, bool(abs(x.sum() - 2.0) < 1e-5))  # float32 True

# float64 where JAX has it on, best at the start of a program.
jax.config.update("jax_enable_x64", True)
law = ConstrainedNormal(jnp.zeros(4), 1.0, jnp.ones(4), 2.0)
print(law.sample(jax.random.key(0)).dtype, law.log_prob(x).dtype)  # float64 float64
