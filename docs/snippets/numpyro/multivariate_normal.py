import jax
import jax.numpy as jnp
from numpyro.distributions import kl_divergence

from numpyro_constrained import ConstrainedMultivariateNormal

A = jnp.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]])  # a total and a balance
k = jnp.array([6.0, 0.0])
Sigma = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.0]])
law = ConstrainedMultivariateNormal(jnp.zeros(3), Sigma, A, k)

x = law.sample(jax.random.key(0), (1000,))  # every draw obeys both rows
print(bool(abs(law.residual(x)).max() < 1e-5))  # True
print(law.rank, law.mean, law.variance)  # 2 [2.2129 2.2129 1.5742] [0.1466 0.1466 0.5864 ]
print(f"{law.log_prob(law.mean):.4f} {law.entropy():.4f}")  # -0.8548 1.3548
print(f"{law.constraint_log_prob():.4f}")  # -6.3848

wider = ConstrainedMultivariateNormal(jnp.zeros(3), 4 * Sigma, A, k)
print(f"{kl_divergence(law, wider):.4f}")  # 0.3181
