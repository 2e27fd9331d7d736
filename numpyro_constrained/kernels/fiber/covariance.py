"""Covariances of an exponential family: derivatives of its means in the natural parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.log_space import without_nan
from numpyro_constrained.kernels.arrays.value_tables import mean_of, values_of

__all__ = ["derivative_of_means", "settled"]

AT_ONCE = 64
"""Directions that are differentiated at one time."""


def derivative_of_means(
    tables: Callable[[Array], Array], like: Array, directions: np.ndarray
) -> Array:
    """``(*batch, p, d)`` derivatives of the p means along d directions.

    Args:
        tables: from t ``(p,)`` the probabilities ``(*batch, p, U)`` where that of value u of
            variable i has the additional log weight u t_i.
        like: an array of the law.
        directions: ``(d, p)`` of t.
    """
    origin = jnp.zeros(directions.shape[1], like.dtype)
    start, _ = without_nan(tables(origin))
    # From the mean, so that those that hardly vary have small terms only.
    deviation = values_of(start.shape[-1], start, start.ndim) - mean_of(start)[..., None]
    deviation = stop_gradient(deviation)

    def along(direction: Array) -> Array:
        def means(t: Array) -> Array:
            return (without_nan(tables(t))[0] * deviation).sum(-1)

        return jax.jvp(means, (origin,), (direction,))[1]

    seeds = jnp.asarray(directions, like.dtype)
    if len(directions) <= AT_ONCE:
        found = jax.vmap(along)(seeds)
    else:
        found = jax.lax.map(along, seeds, batch_size=AT_ONCE)
    return jnp.moveaxis(found, 0, -1)


def settled(covariance: Array, variance: Array) -> Array:
    """``(*batch, p, p)`` exactly symmetric, with the variances on the diagonal.

    The derivative of the mean that varies less has the smaller rounding error.
    """
    one, other = variance[..., :, None], variance[..., None, :]
    index = np.arange(variance.shape[-1])
    is_before = (index[:, None] < index).reshape((1,) * (variance.ndim - 1) + (index.size,) * 2)
    chosen = (one < other) | ((one == other) & is_before)
    covariance = jnp.where(chosen, covariance, covariance.mT)
    covariance = jnp.where(jnp.isnan(one) | jnp.isnan(other), jnp.nan, covariance)
    is_diagonal = np.eye(index.size, dtype=bool).reshape(is_before.shape)
    return jnp.where(is_diagonal, one, covariance)
