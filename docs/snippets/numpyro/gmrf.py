import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedGMRF, fields

# An intrinsic field on a 20 x 20 lattice: neighbours differ by a standard normal, the sum is zero.
field = fields.lattice((20, 20))
law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)

x = law.sample(jax.random.key(0), (3,))
print(x.shape[-1], bool(abs(law.residual(x)).max() < 1e-4))  # 400 True
print(law.variance.reshape(20, 20)[0, :3])  # [1.7257 1.4259 1.2724]
print(f"{law.log_prob(0 * law.mean):.4f}")  # -148.4871


# A precision parameter tau multiplies Q, and its square root D; gradients flow to it.
def log_density(tau):
    Q = field.precision.with_values(tau * field.precision.values)
    return ConstrainedGMRF(0.0, Q, field.A, field.k).log_prob(jnp.zeros(400))


print(f"{jax.grad(log_density)(2.0):.4f}")  # 99.7500
