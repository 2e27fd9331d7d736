"""JAX: other gradient estimators of exactly-k subsets, to compare with; not in the library.

Each function gives one draw per row of the logits, zeros and ones that sum to k (relaxed: positive
numbers that do), with a gradient of its own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.lax import stop_gradient

from numpyro_constrained import ConstrainedBernoulli

__all__ = ["gumbel_top_k", "implicit_mle", "relaxed_top_k", "straight_through"]


def _hard_top_k(scores: Array, k: int) -> Array:
    _, index = jax.lax.top_k(scores, k)
    return jnp.put_along_axis(jnp.zeros_like(scores), index, 1.0, axis=-1, inplace=False)


def gumbel_top_k(key: Array, logits: Array, k: int) -> Array:
    """k items without replacement: the k largest perturbed logits. Not the law given the sum."""
    noise = random.gumbel(key, logits.shape, logits.dtype)
    return _hard_top_k(stop_gradient(logits) + noise, k)


def relaxed_top_k(key: Array, logits: Array, k: int, temperature: float) -> Array:
    """Relaxed subsets: k softmaxes in turn, each of what the ones before have left.

    Entries may exceed one: of two nearly equal scores each is taken by half, and again by half.

    References:
        Xie, Ermon (2019), *Reparameterizable subset sampling via continuous relaxations*.
    """
    scores = logits + random.gumbel(key, logits.shape, logits.dtype)
    total, tiny = jnp.zeros_like(logits), jnp.finfo(logits.dtype).tiny
    for _ in range(k):
        share = jax.nn.softmax(scores / temperature)
        total = total + share
        scores = scores + jnp.log(jnp.maximum(1 - share, tiny))
    return total


def straight_through(key: Array, logits: Array, k: int) -> Array:
    """An exact draw forward, the identity backward, as if the draw were the logits.

    References:
        Bengio, Leonard, Courville (2013), *Estimating or propagating gradients through stochastic
        neurons for conditional computation*.
    """
    fixed = stop_gradient(logits)
    law = ConstrainedBernoulli(logits=fixed, A=np.ones(logits.shape[-1]), k=k)
    return law.sample(key).astype(logits.dtype) + (logits - fixed)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _implicit_mle(logits: Array, noise: Array, k: int, strength: float) -> Array:
    return _hard_top_k(logits + noise, k)


def _forward(logits: Array, noise: Array, k: int, strength: float) -> tuple[Array, tuple]:
    draw = _hard_top_k(logits + noise, k)
    return draw, (logits + noise, draw)


def _backward(k: int, strength: float, saved: tuple, gradient: Array) -> tuple[Array, None]:
    scores, draw = saved
    return (draw - _hard_top_k(scores - strength * gradient, k)) / strength, None


_implicit_mle.defvjp(_forward, _backward)


def implicit_mle(key: Array, logits: Array, k: int, strength: float, num_terms: int = 10) -> Array:
    """The most likely subset of perturbed logits; backward, how it would change downhill.

    The noise is a sum of Gammas, such that k of them sum to about a Gumbel variable.

    References:
        Niepert, Minervini, Franceschi (2021), *Implicit MLE: Backpropagating through discrete
        exponential family distributions*.
    """
    terms = random.gamma(key, 1 / k, logits.shape + (num_terms,), logits.dtype)
    noise = (terms * (k / np.arange(1, num_terms + 1, dtype=logits.dtype))).sum(-1)
    return _implicit_mle(logits, (noise - np.log(num_terms)) / k, k, strength)
