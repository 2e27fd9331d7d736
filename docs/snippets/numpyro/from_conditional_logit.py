import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedBernoulli, GroupSum

# Two strata with one case each: the likelihood is a softmax within each stratum.
eta = jnp.array([0.2, -0.5, 1.0, 0.3, 0.4])  # x' beta; intercepts of strata cancel
stratum, y = jnp.array([0, 0, 0, 1, 1]), jnp.array([0.0, 0.0, 1.0, 1.0, 0.0])
softmax = jax.nn.log_softmax(eta[:3])[2] + jax.nn.log_softmax(eta[3:])[0]
law = ConstrainedBernoulli(logits=eta, A=GroupSum(stratum, num_groups=2), k=jnp.array([1, 1]))
print(f"{softmax:.4f} {law.log_prob(y):.4f}")  # -1.2587 -1.2587

# Several cases in a stratum, where a softmax no longer does: 20 of 200.
y = jnp.zeros(200).at[::10].set(1.0)


def law_of(eta):
    return ConstrainedBernoulli(logits=eta, A=jnp.ones(200), k=20)


many = jnp.linspace(-1.0, 1.0, 200)
score = jax.grad(lambda eta: law_of(eta).log_prob(y))(many)
print(bool(jnp.allclose(score, y - law_of(many).mean, atol=1e-5)))  # True
