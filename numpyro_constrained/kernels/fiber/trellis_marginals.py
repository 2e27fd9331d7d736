"""Log probabilities of single values of a trellis, however small, and which of them are possible.

With V as in ``trellis_sums`` and F_j(s) the log of the sum over all paths from the start to state s
of stage j, log P(x_j = u) is log sum_s exp(F_j(s) + theta_j(u) + V_{j+1}(next_j(s, u))) - V_0. All
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

from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.log_space import log_sum_exp
from numpyro_constrained.kernels.arrays.loops import scan
from numpyro_constrained.kernels.fiber.trellis import (
    Run,
    by_column,
    own_weights,
    runs_of,
    stages_of,
    tables_of,
    with_dead_states,
)

__all__ = ["by_values", "log_marginals", "possible_values"]

Reduce = Callable[..., Array]
Tables = list[tuple[Array, Array]]


def log_marginals(trellis: Trellis, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` log probability of every value of every column, differentiable; NaN where
    there is no point.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of stage 0.
    """
    largest = stop_gradient(theta.max(-1, keepdims=True))
    theta = theta - jnp.where(jnp.isfinite(largest), largest, 0.0)  # small sums keep their digits
    found, _ = by_values(trellis, theta, start, log_sum_exp)
    return found - log_sum_exp(found)[..., None]


def possible_values(trellis: Trellis, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` whether a value of a column is on a path without weights of zero."""
    weights = jnp.where(stop_gradient(theta) > -jnp.inf, 0.0, -jnp.inf).astype(theta.dtype)
    return by_values(trellis, weights, start, jnp.max)[0] > -jnp.inf


def by_values(
    trellis: Trellis, theta: Array, start: Array, reduce: Reduce, keep: bool = False
) -> tuple[Array, list[Array]]:
    """``(*batch, q, U)`` what is reduced over all paths by a value of a column; and, if they are to
    be kept, F of the stages where segments begin, ``(T + 1, batch)``."""
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    theta = jnp.broadcast_to(theta, batch_shape + theta.shape[-2:])
    start = jnp.broadcast_to(start, batch_shape).reshape(-1)
    segments = trellis.segments, trellis.segments_before
    runs, ways_back = (runs_of(trellis, each) for each in segments)
    tables, before = (tables_of(each) for each in segments)
    static = runs, ways_back, reduce, keep
    found, stages = _reduced(*static, tables, before, by_column(theta), start)
    return jnp.moveaxis(found, -1, 0).reshape(theta.shape), stages


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
    _, later = stages_of(runs, tables, theta, reduce)
    states = np.arange(runs[0].num_states, dtype=start.dtype)[:, None]
    stage = jnp.where(states == start[None], 0.0, -jnp.inf).astype(theta.dtype)
    rows, kept = list[Array](), list[Array]()
    for run, back, table, way, stages in zip(runs, ways_back, tables, before, later, strict=True):
        weights = theta[run.start : run.stop, : run.num_values]
        stage = with_dead_states(stage[: run.num_states], run.size)
        kept += [stage] * keep
        step = jax.checkpoint(_step(run, back, reduce))
        stage, found = scan(step, stage, (table, way, weights, stages))
        missing = theta.shape[1] - run.num_values
        rows.append(jnp.pad(found, ((0, 0), (0, missing), (0, 0)), constant_values=-jnp.inf))
    return jnp.concatenate(rows), kept


def _step(run: Run, back: Run, reduce: Reduce) -> Callable[[Array, tuple], tuple[Array, Array]]:
    """From F of one stage of a segment to that of the next, and the values of the column."""

    def step(stage: Array, column: tuple) -> tuple[Array, Array]:
        (first, table), (first_back, before), weights, later = column
        terms = stage[: len(table), None] + later[table]
        if run.is_offset:
            values = first[:, None] + np.arange(table.shape[1], dtype=first.dtype)[None]
            values = jnp.minimum(values, len(weights) - 1)
            found = _scattered(terms, values, len(weights), reduce)
        else:
            found = reduce(terms, axis=0)
        own = own_weights(back, weights, first_back, before.shape[1])
        after = reduce(stage[before] + own, axis=1)
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
