"""The tilt of log odds under which sums of Bernoulli variables are near given ones."""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from numpyro_constrained.kernels.arrays.loops import while_loop

__all__ = ["expected_tilt"]

MAX_STEPS = 100
TOLERANCE = 0.1
USUAL = 30.0
"""Log odds up to which a value is more than a formality."""


def expected_tilt(logits: Array, counts: Array) -> Array:
    """``(N,)`` lambda with expected sum ``counts``, or half a unit inside of what can be.

    Newton's method on the logit of the mean share, safeguarded by bisection: the bracket may be as
    wide as finite logits are.
    """
    is_open = jnp.isfinite(logits)
    number = jnp.maximum(is_open.sum(0), 1).astype(logits.dtype)
    target = jnp.clip(counts.astype(logits.dtype), 0.5, number - 0.5)
    largest = jnp.where(is_open, logits, -jnp.inf).max(0, initial=-jnp.inf)
    least = jnp.where(is_open, logits, jnp.inf).min(0, initial=jnp.inf)
    is_any = is_open.any(0)
    # There the expected sum is below 1/2, or above number - 1/2: the target is between.
    low = jnp.where(is_any, -largest - jnp.log(2 * number), 0.0)
    high = jnp.where(is_any, -least + jnp.log(2 * number), 0.0)
    mean = jnp.where(is_open, jnp.clip(logits, -USUAL, USUAL), 0.0).sum(0) / number
    wanted = jnp.log(target) - jnp.log(number - target)

    def unfinished(state: tuple) -> Array:
        step, _, _, _, is_done = state
        return (step < MAX_STEPS) & ~is_done.all()

    def improve(state: tuple) -> tuple:
        step, tilt, low, high, _ = state
        share = sigmoid(logits + tilt[None])
        total, slope = share.sum(0), (share * (1 - share)).sum(0)
        is_done = (jnp.abs(total - target) <= TOLERANCE) | ~is_any
        low, high = jnp.where(total < target, tilt, low), jnp.where(total < target, high, tilt)
        gap = wanted - jnp.log(total) + jnp.log(number - total)
        newton = tilt + gap * total * (number - total) / (number * slope)
        is_inside = (newton > low) & (newton < high)
        better = jnp.where(is_inside, newton, _between(low, high))
        return step + 1, jnp.where(is_done, tilt, better), low, high, is_done

    start = jnp.clip(wanted - mean, low, high)
    return while_loop(unfinished, improve, (0, start, low, high, ~is_any))[1]


def _between(low: Array, high: Array) -> Array:
    """The middle on a scale that is logarithmic far from zero."""
    ends = (jnp.sign(end) * jnp.log1p(jnp.abs(end)) for end in (low, high))
    middle = sum(ends) / 2
    return jnp.clip(jnp.sign(middle) * jnp.expm1(jnp.abs(middle)), low, high)
