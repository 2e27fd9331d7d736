"""Poisson probabilities without large terms that cancel.

``x log mean - mean - log x!`` takes terms of size x log x to make a figure of size log x, which
leaves few digits in single precision. Here it is ``-D(x, mean) - delta(x) - log(2 pi x) / 2`` with
the deviance D = x log(x / mean) + mean - x and the error delta of Stirling's formula (Loader 2000,
*Fast and accurate computation of binomial probabilities*), all of which are as small as the answer.

The law given ``A x = k`` is the same for all rates ``rate_i exp(a_i' lambda)``. Those of which the
mean sums are k keep the deviances small.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.scipy.special import gammaln

from numpyro_constrained.kernels.arrays.eager import as_one
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import safe_log, times
from numpyro_constrained.kernels.arrays.loops import while_loop

__all__ = ["log_poisson", "tilt"]

FEW = 16.0
"""Counts below are scored term by term; Stirling's series is right to 1e-15 from here on."""

TILT_STEPS = 40
LARGEST_STEP = 2.0
"""Of an exponent in one step of Newton's method."""

RIDGE = 1e-5
"""Rows may be redundant."""

FAR = 1e-3
"""Mean over count below which their logarithms do not cancel."""

CLOSE = 1e-3
"""Relative distance of the sums from k at which deviances are small enough."""


@as_one
def log_poisson(count: Any, mean: Array, log_mean: Array | None = None) -> Array:
    """``log(mean^count exp(-mean) / count!)``; -inf where only the mean is zero.

    Args:
        count: whole numbers.
        mean: positive, or zero.
        log_mean: its logarithm, where the mean may be below the least number of the dtype.
    """
    log_mean = safe_log(mean) if log_mean is None else log_mean
    is_few = count < FEW
    few = jnp.where(is_few, count, 0.0)
    plain = times(few, log_mean) - mean - gammaln(few + 1)
    many = jnp.where(is_few, FEW, count)
    excess, is_far = many - mean, mean < FAR * many
    near = jnp.log1p(jnp.where(is_far, 0.0, excess) / jnp.where(is_far, 1.0, mean))
    deviance = many * jnp.where(is_far, jnp.log(many) - log_mean, near) - excess
    smooth = -deviance - _stirling_error(many) - jnp.log(2 * np.pi * many) / 2
    return jnp.where(is_few, plain, smooth)


def _stirling_error(count: Array) -> Array:
    """``log count! - (count + 1/2) log count + count - log(2 pi) / 2`` from 16 on."""
    square = jnp.square(count)
    series = 1 / 1260 - (1 / 1680 - 1 / (1188 * square)) / square
    return (1 / 12 - (1 / 360 - series / square) / square) / count


def tilt(rate: Array, coefficients: Any, k: Array) -> Array:
    """lambda with ``sum_j rate_j exp(a_j' lambda) a_j`` about k, or as near as steps come.

    Damped Newton steps on a convex function. Whatever lambda is, laws and their derivatives are
    exact functions: it is a constant.

    Args:
        rate: ``(*batch, q)``.
        coefficients: ``(q, r)`` a.
        k: ``(*batch, r)``; the mean over dimensions that a batch of rates does not have.

    Returns:
        ``(*batch, r)``.
    """
    rate = stop_gradient(rate)
    k = lift(_mean_of_batch(stop_gradient(k), rate.shape[:-1]), rate.ndim)
    shape = jnp.broadcast_shapes(rate.shape[:-1], k.shape[:-1]) + k.shape[-1:]

    def mean_and_gap(multiplier: Array) -> tuple[Array, Array]:
        mean = rate * jnp.exp(multiplier @ coefficients.T)
        return mean, k - mean @ coefficients

    def unfinished(state: tuple[Any, Array]) -> Array:
        step, multiplier = state
        _, gap = mean_and_gap(multiplier)
        return (step < TILT_STEPS) & ~(jnp.abs(gap) <= CLOSE * (jnp.abs(k) + 1)).all()

    def improve(state: tuple[Any, Array]) -> tuple[Any, Array]:
        count, multiplier = state
        mean, gap = mean_and_gap(multiplier)
        hessian = jnp.einsum("...q,qr,qs->...rs", mean, coefficients, coefficients)
        diagonal = jnp.einsum("...rr->...r", hessian)
        ridge = RIDGE * (1 + diagonal + diagonal.max(-1, keepdims=True))
        system = hessian + jnp.vectorize(jnp.diag, signature="(r)->(r,r)")(ridge)
        step = jnp.linalg.solve(system, gap[..., None])[..., 0]
        largest = jnp.abs(step @ coefficients.T).max(-1, keepdims=True)
        return count + 1, multiplier + step * (LARGEST_STEP / jnp.maximum(largest, LARGEST_STEP))

    return while_loop(unfinished, improve, (0, jnp.zeros(shape, rate.dtype)))[1]


def _mean_of_batch(k: Array, batch_shape: tuple[int, ...]) -> Array:
    """k averaged over dimensions that a batch does not have."""
    k = k.reshape((-1,) + k.shape[max(k.ndim - 1 - len(batch_shape), 0) :]).mean(0)
    lead = len(batch_shape) - (k.ndim - 1)
    for dim, size in enumerate(batch_shape[lead:]):
        k = k.mean(dim, keepdims=True) if size == 1 else k
    return k
