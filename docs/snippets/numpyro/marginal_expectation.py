import jax
import jax.numpy as jnp
import numpyro

from numpyro_constrained import ConstrainedBernoulli, MarginalExpectationReparam


def guide(logits):
    return numpyro.sample("x", ConstrainedBernoulli(logits=logits, A=jnp.ones(4), k=2))


guide = numpyro.handlers.reparam(guide, config={"x": MarginalExpectationReparam()})


def cost(logits):
    x = numpyro.handlers.seed(guide, 0)(logits)
    return (x * jnp.array([1.0, 2.0, 3.0, 4.0])).sum(), x


slope, x = jax.grad(cost, has_aux=True)(jnp.array([0.5, 0.0, -0.5, 1.0]))
print(int(x.sum()), slope)  # 2 [-0.4387 -0.1062 0.1516 0.3932]
