import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from numpyro_constrained import ConstrainedNormal

A = np.ones((2, 6))  # concrete: it is analysed once, outside of any trace
A[1, 3:] = 0.0
mesh = Mesh(np.array(jax.devices()), ("batch",))
sharding = NamedSharding(mesh, PartitionSpec("batch", None))
loc = jax.device_put(jnp.zeros((512, 6)), sharding)


@jax.jit
def draw(key, loc):
    law = ConstrainedNormal(loc, 1.0, A, jnp.array([2.0, 1.0]))
    x = law.sample(key)
    return x, law.residual(x)


x, residual = draw(jax.random.key(0), loc)
print(x.sharding.is_equivalent_to(sharding, 2))  # True
print(x.shape)  # (512, 6)
print(bool(abs(residual).max() < 1e-5))  # True
