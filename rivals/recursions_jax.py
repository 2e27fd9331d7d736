"""JAX: exactly-k by the plain recursion over items in log space, to compare with.

With a(i, j) the log probability that j of the first i items are in,
a(i, j) = log(e^(a(i-1, j) + log(1 - p_i)) + e^(a(i-1, j-1) + log p_i)): n steps of k operations,
whatever the batch.

References:
    Ahmed, Zeng, Niepert, Van den Broeck (2023), *SIMPLE: A gradient estimator for k-subset
    sampling*.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.nn import log_sigmoid

__all__ = ["draw", "log_normaliser"]

NEVER = -1e30  # -inf twice has no gradient


def _table(logits: Array, k: int) -> tuple[Array, Array]:
    """a(n, 0..k), ``(batch, k + 1)``, and a(i, 0..k) for i = 0..n-1."""
    start = jnp.full((len(logits), k + 1), NEVER, logits.dtype).at[:, 0].set(0.0)

    def add(row: Array, item: Array) -> tuple[Array, Array]:
        taken = jnp.pad(row[:, :-1], ((0, 0), (1, 0)), constant_values=NEVER)
        taken = taken + log_sigmoid(item)[:, None]
        return jnp.logaddexp(row + log_sigmoid(-item)[:, None], taken), row

    return lax.scan(add, start, logits.T)


def log_normaliser(logits: Array, k: int) -> Array:
    """``(batch,)`` log probability of exactly k."""
    return _table(logits, k)[0][:, k]


def draw(key: Array, logits: Array, k: int) -> Array:
    """``(batch, n)`` exact draws, from the last item to the first."""
    last, rows = _table(logits, k)
    after = jnp.concatenate([rows[1:], last[None]])
    uniform = random.uniform(key, logits.T.shape, logits.dtype)
    batch = np.arange(len(logits))

    def take(left: Array, item: tuple[Array, ...]) -> tuple[Array, Array]:
        logit, before, after, uniform = item
        taken = before[batch, jnp.maximum(left - 1, 0)] + log_sigmoid(logit)
        share = jnp.where(left > 0, jnp.exp(taken - after[batch, left]), 0.0)
        is_in = (uniform < share).astype(left.dtype)
        return left - is_in, is_in

    items = logits.T, rows, after, uniform
    _, found = lax.scan(take, jnp.full(len(logits), k), items, reverse=True)
    return found.T
