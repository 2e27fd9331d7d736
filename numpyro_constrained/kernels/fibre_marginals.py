"""Log probabilities of single values of a chain, however small, and which of them are possible.

With V as in ``fibre_chain`` and F_j(s) the log of the sum over all walks from the start to state s
of level j, log P(x_j = u) is log sum_s exp(F_j(s) + theta_j(u) + V_{j+1}(next_j(s, u))) - V_0. All
of it stays in log space, where the derivative of V_0 in theta, which is the same probability,
loses what is below the least number of the dtype.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fibre import FibreChain
from numpyro_constrained.kernels.fibre_chain import (
    Run,
    by_column,
    levels_of,
    log_sum_exp,
    own_weights,
    runs_of,
    tables_of,
    with_dead_states,
)

__all__ = ["by_values", "log_marginals", "possible_values"]

Reduce = Callable[..., Array]
Tables = list[tuple[Array, Array]]


def log_marginals(chain: FibreChain, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` log probability of every value of every column, differentiable; NaN where
    there is no point.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of level 0.
    """
    largest = stop_gradient(theta.max(-1, keepdims=True))
    theta = theta - jnp.where(jnp.isfinite(largest), largest, 0.0)  # small sums keep their digits
    found, _ = by_values(chain, theta, start, log_sum_exp)
    return found - log_sum_exp(found)[..., None]


def possible_values(chain: FibreChain, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` whether a value of a column is on a walk without weights of zero."""
    weights = jnp.where(stop_gradient(theta) > -jnp.inf, 0.0, -jnp.inf).astype(theta.dtype)
    return by_values(chain, weights, start, jnp.max)[0] > -jnp.inf


def by_values(
    chain: FibreChain, theta: Array, start: Array, reduce: Reduce, keep: bool = False
) -> tuple[Array, list[Array]]:
    """``(*batch, q, U)`` what is reduced over all walks by a value of a column; and, if they are to
    be kept, F of the levels where segments begin, ``(T + 1, batch)``."""
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    theta = jnp.broadcast_to(theta, batch_shape + theta.shape[-2:])
    start = jnp.broadcast_to(start, batch_shape).reshape(-1)
    segments = chain.segments, chain.segments_before
    runs, ways_back = (runs_of(chain, each) for each in segments)
    tables, before = (tables_of(each) for each in segments)
    static = runs, ways_back, reduce, keep
    found, levels = _reduced(*static, tables, before, by_column(theta), start)
    return jnp.moveaxis(found, -1, 0).reshape(theta.shape), levels


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _reduced(
    runs: tuple[Run, ...],
    ways_back: tuple[Run, ...],
    reduce: Reduce,
    keep: bool,
    tables: Tables,
    before: Tables,
    theta: Array,
    start: Array,
) -> tuple[Array, list[Array]]:
    """``by_values``, with the batch last: ``(q, U, batch)``."""
    _, later = levels_of(runs, tables, theta, reduce)
    states = np.arange(runs[0].num_states)[:, None]
    level = jnp.where(states == start[None], 0.0, -jnp.inf).astype(theta.dtype)
    rows, kept = list[Array](), list[Array]()
    for run, back, table, way, levels in zip(runs, ways_back, tables, before, later, strict=True):
        weights = theta[run.start : run.stop, : run.num_values]
        level = with_dead_states(level[: run.num_states], run.size)
        kept += [level] * keep
        step = jax.checkpoint(_step(run, back, reduce))
        level, found = jax.lax.scan(step, level, (table, way, weights, levels))
        missing = theta.shape[1] - run.num_values
        rows.append(jnp.pad(found, ((0, 0), (0, missing), (0, 0)), constant_values=-jnp.inf))
    return jnp.concatenate(rows), kept


def _step(run: Run, back: Run, reduce: Reduce) -> Callable[[Array, tuple], tuple[Array, Array]]:
    """From F of one level of a segment to that of the next, and the values of the column."""

    def step(level: Array, column: tuple) -> tuple[Array, Array]:
        (first, table), (first_back, before), weights, later = column
        terms = level[: len(table), None] + later[table]
        if run.is_offset:
            values = jnp.minimum(first[:, None] + np.arange(table.shape[1])[None], len(weights) - 1)
            found = _scattered(terms, values, len(weights), reduce)
        else:
            found = reduce(terms, axis=0)
        own = own_weights(back, weights, first_back, before.shape[1])
        after = reduce(level[before] + own, axis=1)
        return with_dead_states(after, run.size), found + weights

    return step


def _scattered(terms: Array, values: Array, size: int, reduce: Reduce) -> Array:
    """``(S, W, batch)`` terms reduced over those of one value: ``(size, batch)``."""
    terms, values = terms.reshape(-1, terms.shape[-1]), values.reshape(-1)
    nothing = jnp.full((size, terms.shape[-1]), -jnp.inf, terms.dtype)
    largest = nothing.at[values].max(stop_gradient(terms))
    if reduce is jnp.max:
        return largest
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.zeros_like(largest).at[values].add(jnp.exp(terms - largest[values]))
    is_zero = total == 0
    return jnp.where(is_zero, -jnp.inf, jnp.log(jnp.where(is_zero, 1.0, total)) + largest)
