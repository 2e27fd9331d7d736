"""Sums, draws and marginals over the lattice points of a chain, in log space.

With V = 0 at the last level and V_j(s) = log sum_u exp(theta_j(u) + V_{j+1}(next_j(s, u))), the
log of the sum over all walks from a start is V_0(start). A weight of zero (theta = -inf) and a
state without a way on (V = -inf) are right in value and in gradient.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fibre import FibreChain

__all__ = ["below", "choose", "draw", "log_partition", "log_sum_exp", "marginals", "messages"]


def log_sum_exp(terms: Array, axis: int = -1) -> Array:
    """Over one dimension; -inf, with zero gradients, where all terms are."""
    largest = stop_gradient(terms.max(axis, keepdims=True))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.exp(terms - largest).sum(axis)
    is_zero = total == 0
    logarithm = jnp.log(jnp.where(is_zero, 1.0, total)) + jnp.squeeze(largest, axis)
    return jnp.where(is_zero, -jnp.inf, logarithm)


def below(uniform: Array, total: Array) -> Array:
    """``uniform * total``, below the total even where the product is rounded: inversion then never
    takes an index of weight zero."""
    return jnp.minimum(uniform * total, jnp.nextafter(total, jnp.zeros_like(total)))


def choose(key: Array, weights: Array) -> Array:
    """An index of the first dimension, drawn with probability proportional to its weight.

    Weights are added up one by one: an index of weight zero is never taken, whatever the rounding.
    """
    zero = jnp.zeros(weights.shape[1:], weights.dtype)
    total, _ = jax.lax.scan(lambda total, weight: (total + weight, None), zero, weights)
    threshold = below(jax.random.uniform(key, zero.shape, zero.dtype), total)

    def count(state: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], None]:
        total, index = state
        total = total + weight
        return (total, index + (total <= threshold)), None

    (_, index), _ = jax.lax.scan(count, (zero, jnp.zeros(zero.shape, np.int32)), weights)
    return jnp.minimum(index, len(weights) - 1)


def messages(chain: FibreChain, theta: Array) -> tuple[Array, Array]:
    """V of every level; the last entry of a level is the dead state, -inf.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weight of every value of every column; values that a column
            does not take are ignored.

    Returns:
        ``(S + 1, *batch)`` of level 0, and ``(q, S + 1, *batch)`` of all later levels.
    """
    batch_shape = theta.shape[:-2]
    first, later = _levels(chain.stacked, _by_column(chain, theta))
    return first.reshape(len(first), *batch_shape), later.reshape(*later.shape[:2], *batch_shape)


@jax.jit
def _levels(tables: Array, theta: Array) -> tuple[Array, Array]:
    """``messages`` for tables ``(q, S, U)`` and weights ``(q, U, batch)``."""
    dead = jnp.full((1, theta.shape[-1]), -jnp.inf, theta.dtype)
    last = jnp.full((tables.shape[1] + 1, theta.shape[-1]), -jnp.inf, theta.dtype).at[0].set(0.0)

    @jax.checkpoint  # or differentiation keeps all terms of all columns
    def step(later: Array, column: tuple[Array, Array]) -> tuple[Array, Array]:
        table, weights = column
        level = log_sum_exp(later[table] + weights[None], axis=1)
        return jnp.concatenate([level, dead]), later

    return jax.lax.scan(step, last, (tables, theta), reverse=True)


def log_partition(chain: FibreChain, theta: Array, start: Array) -> Array:
    """Log of the sum of the weights of all walks.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of level 0.

    Returns:
        ``(*batch,)``.
    """
    first, _ = _levels(chain.stacked, _by_column(chain, theta))
    element = _batch_index(theta.shape[:-2], jnp.broadcast_shapes(theta.shape[:-2], start.shape))
    return first[jnp.broadcast_to(start, element.shape), element]


def draw(
    key: Array, chain: FibreChain, theta: Array, start: Array, sample_shape: tuple[int, ...] = ()
) -> Array:
    """Exact draws of the values of all columns, ``(*sample_shape, *batch, q)``; -1 where the
    weights leave no point to draw."""
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    shape = tuple(sample_shape) + batch_shape
    element = np.broadcast_to(_batch_index(theta.shape[:-2], batch_shape), shape).ravel()
    start = jnp.broadcast_to(start, shape).reshape(-1).astype(np.int32)
    theta = _by_column(chain, stop_gradient(theta))
    values = _walk(key, chain.stacked, theta, start, element)
    return jnp.moveaxis(values, 0, -1).reshape(*shape, chain.num_columns)


@jax.jit
def _walk(key: Array, tables: Array, theta: Array, start: Array, element: Array) -> Array:
    """``(q, size)`` values drawn from starts ``(size,)`` of elements of the batch of theta."""
    first, later = _levels(tables, theta)
    num_columns, num_states = tables.shape[:2]

    def step(state: Array, column: tuple[Array, ...]) -> tuple[Array, Array]:
        key, table, weights, level = column
        after = table[jnp.minimum(state, num_states - 1)].T
        terms = level[after, element[None]] + weights[:, element]
        largest = terms.max(0, keepdims=True)
        largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
        value = choose(key, jnp.exp(terms - largest))
        return jnp.take_along_axis(after, value[None], 0)[0], value

    keys = jax.random.split(key, max(num_columns, 1))[:num_columns]
    values = jax.lax.scan(step, start, (keys, tables, theta, later))[1]
    return jnp.where((first[start, element] > -jnp.inf)[None], values, -1)


def marginals(chain: FibreChain, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` probability of every value of every column, differentiable again.

    It is the derivative of the log partition function in the log weights.
    """
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    theta = jnp.broadcast_to(theta, batch_shape + theta.shape[-2:])
    return jax.grad(lambda theta: log_partition(chain, theta, start).sum())(theta)


def _by_column(chain: FibreChain, theta: Array) -> Array:
    """``(q, U, batch)`` the log weights, with the batch last: states then are rows."""
    theta = theta[..., : chain.stacked.shape[2]]
    return jnp.moveaxis(theta.reshape(prod(theta.shape[:-2]), *theta.shape[-2:]), 0, -1)


def _batch_index(theta_batch: tuple[int, ...], batch_shape: tuple[int, ...]) -> np.ndarray:
    """Position in the flat batch of theta of every element of a larger batch."""
    return np.broadcast_to(np.arange(prod(theta_batch)).reshape(theta_batch), batch_shape)
