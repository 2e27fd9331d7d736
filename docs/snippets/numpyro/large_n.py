import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedLowRankMultivariateNormal, ConstrainedNormal, GroupSum

n = 100_000
groups = GroupSum(jnp.arange(n) // 10, num_groups=n // 10)
law = ConstrainedNormal(jnp.zeros(n), jnp.ones(n), groups, jnp.ones(n // 10))
x = law.sample(jax.random.key(0))
print(bool(abs(law.residual(x)).max() < 1e-5), bool(law.log_prob(x) < 0))  # True True
print(law.variance[:2])  # [0.9 0.9]

factor = ConstrainedLowRankMultivariateNormal(
    0.0, jnp.ones((n, 1)) / 100, jnp.ones(n), groups, jnp.ones(n // 10)
)
print(factor.mean[:2])  # [0.1000 0.1000]
