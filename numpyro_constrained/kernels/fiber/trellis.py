"""Sums, draws and marginals over the lattice points of a trellis, in log space.

With V = 0 at the last stage and V_j(s) = log sum_u exp(theta_j(u) + V_{j+1}(next_j(s, u))), the
log of the sum over all paths from a start is V_0(start). A weight of zero (theta = -inf) and a
state without a way on (V = -inf) are right in value and in gradient.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.trellis import Trellis, TrellisSegment
from numpyro_constrained.kernels.arrays.inversion import choose
from numpyro_constrained.kernels.arrays.log_space import log_sum_exp
from numpyro_constrained.kernels.arrays.loops import scan, spread_as

__all__ = [
    "Run",
    "by_column",
    "draw",
    "log_partition",
    "marginals",
    "messages",
    "own_weights",
    "runs_of",
    "stages_of",
    "step_back",
    "tables_of",
    "with_dead_states",
]


class Run(NamedTuple):
    """The static part of a segment.

    Attributes:
        start, stop: its columns.
        size: the dead state.
        num_values: values of its columns.
        num_states: alive ones of its first stage.
        is_offset: whether states begin with values of their own.
    """

    start: int
    stop: int
    size: int
    num_values: int
    num_states: int
    is_offset: bool


def runs_of(trellis: Trellis, segments: tuple[TrellisSegment, ...]) -> tuple[Run, ...]:
    """What of the segments of a trellis, or of those of its ways back, is static."""
    return tuple(
        Run(
            start=part.start,
            stop=part.stop,
            size=part.size,
            num_values=int(trellis.num_values[part.start : part.stop].max(initial=0)),
            num_states=int(trellis.sizes[part.start]),
            is_offset=bool(part.first.any()),
        )
        for part in segments
    )


def tables_of(segments: tuple[TrellisSegment, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What of them is data."""
    return [(part.first, part.next) for part in segments]


def _plan(trellis: Trellis) -> tuple[tuple[Run, ...], list[tuple[np.ndarray, np.ndarray]]]:
    return runs_of(trellis, trellis.segments), tables_of(trellis.segments)


def messages(trellis: Trellis, theta: Array) -> list[Array]:
    """V of every stage; the last entry of a stage is the dead state, -inf.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weight of every value of every column; values that a column
            does not take are ignored.

    Returns:
        ``(S, *batch)`` of every stage, with S at least ``S_j + 1``; more entries are dead too.
    """
    batch_shape = theta.shape[:-2]
    first, later = stages_of(*_plan(trellis), by_column(theta))
    stages = [first, *(stage for part in later for stage in part)]
    return [stage.reshape(len(stage), *batch_shape) for stage in stages]


@partial(jax.jit, static_argnums=(0, 3))
def stages_of(
    runs: tuple[Run, ...],
    tables: list[tuple[Array, Array]],
    theta: Array,
    reduce: Callable[..., Array] = log_sum_exp,
) -> tuple[Array, list[Array]]:
    """Stage 0 ``(S + 1, batch)``, and the later stages of every segment ``(q_s, T + 1, batch)``.

    Args:
        tables: of every segment, first values ``(q_s, S)`` and next states ``(q_s, S, W)``.
        theta: ``(q, U, batch)``.
        reduce: what is taken over the ways on.
    """
    stage, later = jnp.zeros((1, theta.shape[-1]), theta.dtype), list[Array]()
    for run, (first, table) in reversed(list(zip(runs, tables, strict=True))):
        columns = first, table, theta[run.start : run.stop, : run.num_values]
        stage, found = scan(
            step_back(run, reduce), with_dead_states(stage, run.size), columns, reverse=True
        )
        later.append(found)
        stage = stage[: run.num_states]
    return with_dead_states(stage, len(stage)), later[::-1]


def step_back(
    run: Run, reduce: Callable[..., Array]
) -> Callable[[Array, tuple], tuple[Array, Array]]:
    """From one stage of a segment to the one before."""

    @jax.checkpoint  # or differentiation keeps all terms of all columns
    def step(later: Array, column: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        first, table, weights = column
        stage = reduce(later[table] + own_weights(run, weights, first, table.shape[1]), axis=1)
        return with_dead_states(stage, run.size), later

    return step


def own_weights(run: Run, weights: Array, first: Array, width: int) -> Array:
    """``(S, W, batch)`` weights of the entries of a table, or ``(1, W, batch)``."""
    if not run.is_offset:
        return weights[None, :width]
    values = first[:, None] + np.arange(width, dtype=first.dtype)[None]
    return weights[jnp.minimum(values, run.num_values - 1)]


def with_dead_states(stage: Array, size: int) -> Array:
    """``(size + 1, batch)`` with -inf for states that are not there."""
    return jnp.pad(stage, ((0, size + 1 - len(stage)), (0, 0)), constant_values=-jnp.inf)


def log_partition(trellis: Trellis, theta: Array, start: Array) -> Array:
    """Log of the sum of the weights of all paths.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of stage 0.

    Returns:
        ``(*batch,)``.
    """
    first, _ = stages_of(*_plan(trellis), by_column(theta))
    element = _batch_index(theta.shape[:-2], jnp.broadcast_shapes(theta.shape[:-2], start.shape))
    return first[jnp.broadcast_to(start, element.shape), element]


def draw(
    key: Array, trellis: Trellis, theta: Array, start: Array, sample_shape: tuple[int, ...] = ()
) -> Array:
    """Exact draws of the values of all columns, ``(*sample_shape, *batch, q)``.

    They are -1 where the weights leave no point to draw.
    """
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    shape = tuple(sample_shape) + batch_shape
    element = np.broadcast_to(_batch_index(theta.shape[:-2], batch_shape), shape).ravel()
    start = jnp.broadcast_to(start, shape).reshape(-1).astype(np.int32)
    runs, tables = _plan(trellis)
    values = _paths(runs, key, tables, by_column(stop_gradient(theta)), start, element)
    return jnp.moveaxis(values, 0, -1).reshape(*shape, trellis.num_columns)


@partial(jax.jit, static_argnums=0)
def _paths(
    runs: tuple[Run, ...],
    key: Array,
    tables: list[tuple[Array, Array]],
    theta: Array,
    start: Array,
    element: Array,
) -> Array:
    """``(q, size)`` values drawn from starts ``(size,)`` of elements of the batch of theta."""
    first, later = stages_of(runs, tables, theta)
    state, drawn = start, list[Array]()
    keys = jax.random.split(key, max(len(theta), 1))
    for run, (firsts, table), stages in zip(runs, tables, later, strict=True):
        part = slice(run.start, run.stop)
        columns = keys[part], firsts, table, theta[part, : run.num_values], stages
        state, values = scan(_drawn_step(run, element), state, columns)
        drawn.append(values)
    is_possible = (first[start, element] > -jnp.inf)[None]
    return jnp.where(is_possible, jnp.concatenate(drawn), -1)


def _drawn_step(run: Run, element: Array) -> Callable[[Array, tuple], tuple[Array, Array]]:
    """From states ``(size,)`` to the ones after a column and its values."""

    def step(state: Array, column: tuple[Array, ...]) -> tuple[Array, Array]:
        key, first, table, weights, stage = column
        state = jnp.minimum(state, len(table) - 1)  # there is a dead one where nothing is drawn
        after, lowest, width = table[state].T, first[state], table.shape[1]
        if run.is_offset:
            values = lowest[None] + np.arange(width, dtype=lowest.dtype)[:, None]
            own = weights[jnp.minimum(values, run.num_values - 1), element[None]]
        else:
            own = weights[:width, element]
        terms = stage[after, element[None]] + own
        largest = terms.max(0, keepdims=True)
        largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
        # Forwards, P(value | state) is the term of the value over the sum of all of them.
        place = choose(key, jnp.exp(terms - largest))
        return jnp.take_along_axis(after, place[None], 0)[0], lowest + place

    return step


def marginals(trellis: Trellis, theta: Array, start: Array) -> Array:
    """``(*batch, q, U)`` probability of every value of every column, differentiable again; NaN
    where there is no point.

    It is the derivative of the log partition function in the log weights. Those below the least
    number of the dtype are 0: ``trellis_marginals`` has them all, at a higher price.
    """
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    theta = jnp.broadcast_to(theta, batch_shape + theta.shape[-2:])
    theta = spread_as(theta, start[..., None, None])
    slope = jax.grad(lambda theta: log_partition(trellis, theta, start).sum())(theta)
    total = slope.sum(-1, keepdims=True)  # one, but for rounding
    is_possible = total > 0
    return jnp.where(is_possible, slope / jnp.where(is_possible, total, 1.0), jnp.nan)


def by_column(theta: Array) -> Array:
    """``(q, U, batch)`` the log weights, with the batch last: states then are rows."""
    return jnp.moveaxis(theta.reshape(prod(theta.shape[:-2]), *theta.shape[-2:]), 0, -1)


def _batch_index(theta_batch: tuple[int, ...], batch_shape: tuple[int, ...]) -> np.ndarray:
    """Position in the flat batch of theta of every element of a larger batch."""
    return np.broadcast_to(np.arange(prod(theta_batch)).reshape(theta_batch), batch_shape)
