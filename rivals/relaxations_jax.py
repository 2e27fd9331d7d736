"""JAX: what others do for exactly-k subsets, to compare with; not in the library.

Each function gives one draw per row of the logits, zeros and ones that sum to k.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.lax import stop_gradient

from numpyro_constrained import ConstrainedBernoulli

__all__ = ["gumbel_top_k", "straight_through"]


def _hard_top_k(scores: Array, k: int) -> Array:
    _, index = jax.lax.top_k(scores, k)
    return jnp.put_along_axis(jnp.zeros_like(scores), index, 1.0, axis=-1, inplace=False)


def gumbel_top_k(key: Array, logits: Array, k: int) -> Array:
    """k items without replacement: the k largest perturbed logits. Not the law given the sum."""
    noise = random.gumbel(key, logits.shape, logits.dtype)
    return _hard_top_k(stop_gradient(logits) + noise, k)


def straight_through(key: Array, logits: Array, k: int) -> Array:
    """An exact draw forward, the identity backward, as if the draw were the logits.

    References:
        Bengio, Leonard, Courville (2013), *Estimating or propagating gradients through stochastic
        neurons for conditional computation*.
    """
    fixed = stop_gradient(logits)
    law = ConstrainedBernoulli(logits=fixed, A=np.ones(logits.shape[-1]), k=k)
    return law.sample(key).astype(logits.dtype) + (logits - fixed)
