import jax
import jax.numpy as jnp

from numpyro_constrained import ConstrainedBernoulli

# Exactly two of four, of unequal odds.
law = ConstrainedBernoulli(jnp.array([0.1, 0.3, 0.5, 0.9]), jnp.ones(4), 2)
print(law.mean, f"{law.mean.sum():.4f}")  # [0.0802 0.3 0.6604 0.9593] 2.0000
print(f"{law.log_prob(jnp.array([0.0, 0.0, 1.0, 1.0])):.4f}")  # -0.4731
print(f"{law.constraint_log_prob():.4f} {law.entropy():.4f}")  # -0.7875 0.9929

# 10 of 100, with the gradient of the log probability that exactly 10 are chosen.
logits = jnp.linspace(-4.0, 0.0, 100)
subset = ConstrainedBernoulli(logits=logits, A=jnp.ones(100), k=10)
print(int(subset.sample(jax.random.key(0)).sum()))  # 10


def log_prob_of_10(logits):
    return ConstrainedBernoulli(logits=logits, A=jnp.ones(100), k=10).constraint_log_prob()


print(jax.grad(log_prob_of_10)(logits)[jnp.array([0, 99])])  # [-0.0091 -0.1617]
