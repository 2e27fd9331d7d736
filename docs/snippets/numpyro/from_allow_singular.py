import jax
import jax.numpy as jnp
from scipy.stats import multivariate_normal

from numpyro_constrained import ConstrainedMultivariateNormal

jax.config.update("jax_enable_x64", True)
Sigma = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.0]])
A = jnp.array([[1.0, 1.0, 1.0]])
law = ConstrainedMultivariateNormal(jnp.zeros(3), Sigma, A, jnp.array([6.0]))

x = jnp.array([1.0, 2.0, 3.0])
singular = multivariate_normal(law.mean, law.covariance, allow_singular=True)
print(f"{singular.logpdf(x):.8f} {law.log_prob(x):.8f}")  # -3.74724309 -3.74724309
