"""JAX: SFESS, score function estimates for exactly-k subsets, to compare with; not in the library.

Each function gives, for each row of the logits, what is to be differentiated: its gradient is an
estimate of that of the expected loss, made of S draws x_1..x_S of a subset,

    mean over s of (loss(x_s) - baseline_s) * gradient of log p(x_s),

with p(x) that of independent bits given that k of them are one: log p(x) is x'logits less what all
subsets have in common. The public code takes that from a discrete Fourier transform. Here it is
left out: loss less baseline sums to zero over the draws, so that what they share has no effect.

References:
    Wijk, Vinuesa, Azizpour (2025), *SFESS: Score function estimators for k-subset sampling* (ICLR),
    and its public code, github.com/klaswijk/sfess (``samplers/sfess/sfess.py``), as of 5cad65a.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained import ConstrainedBernoulli
from rivals.relaxations_jax import gumbel_top_k

__all__ = ["sfess_as_published", "sfess_corrected"]

Loss = Callable[[Array], Array]
"""Of draws ``(batch, n)``: ``(batch,)``; it need not have a gradient."""


def sfess_as_published(key: Array, logits: Array, k: int, loss: Loss, num_draws: int) -> Array:
    """What the public code does under "control-variate"; two slips make it biased.

    -   Draws are Gumbel top-k, items one after another without replacement: not from the p that is
        scored.
    -   The baseline is the mean of all S losses, that of the draw itself among them (numbers of
        draws are complemented bit by bit, which permutes them, where the others were meant). It
        shrinks the gradient by 1 - 1/S; of a single draw nothing is left.

    Args:
        key: of the draws.
        logits: ``(batch, n)``.
        k: items in a subset.
        loss: of subsets.
        num_draws: S, for each row.
    """
    draws = gumbel_top_k(key, jnp.broadcast_to(logits, (num_draws, *logits.shape)), k)
    losses = jax.vmap(loss)(draws)
    return _surrogate(losses - losses.mean(0, keepdims=True), logits, draws)


def sfess_corrected(key: Array, logits: Array, k: int, loss: Loss, num_draws: int) -> Array:
    """The same without its slips, and so without bias: exact draws from p, and to each as baseline
    the mean loss of the others.

    Args:
        key, logits, k, loss: as above.
        num_draws: S, at least two.

    Raises:
        ValueError: fewer than two draws.
    """
    if num_draws < 2:
        raise ValueError(
            f"Expected num_draws of at least 2, since a draw is compared with others, got "
            f"{num_draws}: ask for more, or leave the baseline out"
        )
    law = ConstrainedBernoulli(logits=stop_gradient(logits), A=np.ones(logits.shape[-1]), k=k)
    draws = law.sample(key, (num_draws,)).astype(logits.dtype)
    losses = jax.vmap(loss)(draws)
    others = (losses.sum(0, keepdims=True) - losses) / (num_draws - 1)
    return _surrogate(losses - others, logits, draws)


def _surrogate(advantage: Array, logits: Array, draws: Array) -> Array:
    """``(batch,)`` of advantages ``(S, batch)`` that sum to zero over the draws."""
    return (stop_gradient(advantage) * (draws * logits[None]).sum(-1)).mean(0)
