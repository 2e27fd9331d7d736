import jax.numpy as jnp
import numpyro.distributions as dist

from numpyro_constrained import ConstrainedMultivariateNormal, constrain

base = dist.Normal(jnp.zeros(3), jnp.array([1.0, 1.0, 2.0])).to_event(1)
law = constrain(base, jnp.ones(3), 6.0)
print(type(law).__name__, law.mean)  # ConstrainedNormal [1. 1. 4.]

counts = dist.Poisson(jnp.array([1.0, 2.0, 3.0])).to_event(1)
print(constrain(counts, jnp.ones(3), 6).mean)  # [1. 2. 3.]


# A law of one's own: a stationary autoregression, by its dense covariance.
class Autoregression(dist.Distribution):
    arg_constraints = {}

    def __init__(self, size, correlation):
        self.size, self.correlation = size, correlation
        super().__init__(event_shape=(size,))


@constrain.register(Autoregression)
def constrain_autoregression(base, A, k, **kw):
    time = jnp.arange(base.size)
    covariance = base.correlation ** abs(time[:, None] - time)
    return ConstrainedMultivariateNormal(jnp.zeros(base.size), covariance, A, k, **kw)


walk = constrain(Autoregression(5, 0.8), jnp.ones(5), 10.0)
print(walk.mean)  # [1.8565 2.0721 2.1428 2.0721 1.8565]
