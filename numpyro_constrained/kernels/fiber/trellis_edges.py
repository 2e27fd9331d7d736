"""Derivatives in weights that are zero: rates of 0, probabilities of exactly 0 and 1.

A weight w may grow from zero, and sums over paths are polynomials in it; in log space that is lost.
Here a sum is ``exp(M) f``, with M a constant and f a number: 1 with the derivative of the sum where
it is positive, 0 with a derivative where all paths have a weight of zero. Values are those of
``trellis_sums``; derivatives of any order are right, in all weights.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.loops import is_any, scan, spread_as
from numpyro_constrained.kernels.fiber import trellis as trellis_sums
from numpyro_constrained.kernels.fiber.trellis import (
    Run,
    by_column,
    own_weights,
    runs_of,
    tables_of,
)

__all__ = ["log_change", "log_partition", "marginals"]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_partition(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
    """As ``trellis_sums.log_partition``: log of the sum of the weights of all paths.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        edge: ``(*batch, q, U)`` weights where these are -inf: zeros with a derivative.
        start: ``(*batch,)`` states of stage 0.
    """
    return trellis_sums.log_partition(trellis, theta, start)


@log_partition.defjvp
def _log_partition_jvp(trellis: Trellis, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _where_zero(trellis, trellis_sums.log_partition, _log_sum, primals, tangents)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def marginals(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
    """As ``trellis_sums.marginals``: ``(*batch, q, U)`` probabilities of the values."""
    return trellis_sums.marginals(trellis, theta, start)


@marginals.defjvp
def _marginals_jvp(trellis: Trellis, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _where_zero(trellis, trellis_sums.marginals, _probabilities, primals, tangents)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_change(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
    """Zeros, with the derivatives of ``trellis_marginals.log_marginals`` in the edges."""
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    return jnp.zeros(batch_shape + theta.shape[-2:], theta.dtype)


@log_change.defjvp
def _log_change_jvp(trellis: Trellis, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    def exact(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
        found = _probabilities(trellis, stop_gradient(theta), edge, start)
        plain = stop_gradient(found)
        return (found - plain) / jnp.where(plain > 0, plain, 1.0)

    def none(trellis: Trellis, theta: Array, start: Array) -> Array:
        return log_change(trellis, stop_gradient(theta), stop_gradient(theta), start)

    return _where_zero(trellis, none, exact, primals, tangents)


def _where_zero(
    trellis: Trellis, plain: Callable, exact: Callable, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    """Value and derivative of ``exact`` where a weight is zero, else of ``plain``: a third less."""
    theta, edge, start = primals

    def of_exact(weights: tuple, changes: tuple) -> tuple[Array, Array]:
        return jax.jvp(lambda *w: exact(trellis, *w, start), weights, changes)

    def of_plain(weights: tuple, changes: tuple) -> tuple[Array, Array]:
        return jax.jvp(lambda theta: plain(trellis, theta, start), weights[:1], changes[:1])

    exists = np.arange(theta.shape[-1]) < trellis.num_values[:, None]
    is_impossible = stop_gradient(theta) == -jnp.inf
    is_zero = is_impossible & exists.reshape((1,) * (theta.ndim - 2) + exists.shape)
    if not isinstance(is_zero, Tracer):
        return (of_exact if is_zero.any() else of_plain)((theta, edge), tangents[:2])
    return jax.lax.cond(is_any(is_zero), of_exact, of_plain, (theta, edge), tangents[:2])


def _probabilities(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
    """``(*batch, q, U)`` what ``marginals`` are, with all derivatives."""
    batch_shape = jnp.broadcast_shapes(theta.shape[:-2], start.shape)
    theta, edge = (jnp.broadcast_to(w, batch_shape + w.shape[-2:]) for w in (theta, edge))
    theta = spread_as(theta, start[..., None, None])
    theta, edge = spread_as(theta, edge), spread_as(edge, theta)

    def total_of(theta: Array, edge: Array) -> Array:
        return _log_sum(trellis, theta, edge, start).sum()

    slopes = jax.grad(total_of, (0, 1))(theta, edge)
    found = jnp.where(theta > -jnp.inf, slopes[0], edge * slopes[1])
    total = found.sum(-1, keepdims=True)
    is_some = total > 0  # or NaN, which spoils no derivative of others
    return jnp.where(is_some, found / jnp.where(is_some, total, 1.0), jnp.nan)


def _log_sum(trellis: Trellis, theta: Array, edge: Array, start: Array) -> Array:
    """``(*batch,)`` log of the sum of the weights of all paths."""
    runs, tables = runs_of(trellis, trellis.segments), tables_of(trellis.segments)
    shape = jnp.broadcast_shapes(theta.shape[:-2], edge.shape[:-2], start.shape)
    theta, edge = (jnp.broadcast_to(w, shape + w.shape[-2:]) for w in (theta, edge))
    scale, figure = _stages(runs, tables, by_column(theta), by_column(edge))
    start = jnp.broadcast_to(start, shape).reshape(-1)
    element = np.arange(start.size, dtype=np.int32)
    scale, figure = scale[start, element].reshape(shape), figure[start, element].reshape(shape)
    is_zero = figure <= 0
    return jnp.where(is_zero, -jnp.inf, scale + jnp.log(jnp.where(is_zero, 1.0, figure)))


@partial(jax.jit, static_argnums=0)
def _stages(
    runs: tuple[Run, ...], tables: list[tuple[Array, Array]], theta: Array, edge: Array
) -> tuple[Array, Array]:
    """``(S + 1, batch)`` M and f of the first stage, for weights ``(q, U, batch)``."""
    is_zero = theta == -jnp.inf
    scale = jnp.where(is_zero, 0.0, stop_gradient(theta))
    finite = jnp.where(is_zero, 0.0, theta)
    figure = jnp.where(is_zero, edge, jnp.exp(finite - stop_gradient(finite)))
    stage = (
        jnp.zeros((1, theta.shape[-1]), theta.dtype),
        jnp.ones((1, theta.shape[-1]), theta.dtype),
    )
    for run, (first, table) in reversed(list(zip(runs, tables, strict=True))):
        columns = (part[run.start : run.stop, : run.num_values] for part in (scale, figure))
        stage = _with_dead_states(*stage, run.size)
        stage, _ = scan(_step(run), stage, (first, table, *columns), reverse=True)
        stage = stage[0][: run.num_states], stage[1][: run.num_states]
    return _with_dead_states(*stage, len(stage[0]))


def _step(run: Run) -> Callable[[tuple, tuple], tuple[tuple, None]]:
    """From one stage of a segment to the one before."""

    @jax.checkpoint
    def step(later: tuple[Array, Array], column: tuple) -> tuple[tuple[Array, Array], None]:
        first, table, *weights = column
        own = [own_weights(run, part, first, table.shape[1]) for part in weights]
        terms, figures = later[0][table] + own[0], later[1][table] * own[1]
        heaviest = jnp.where(figures > 0, terms, -jnp.inf).max(1)
        # Where all are zero: the scale of what may grow.
        scale = stop_gradient(jnp.where(heaviest > -jnp.inf, heaviest, terms.max(1)))
        finite = jnp.where(scale > -jnp.inf, scale, 0.0)
        # So that the product of two weights is finite still.
        most = np.log(np.finfo(terms.dtype).max) / 2
        weight = jnp.exp(jnp.minimum(stop_gradient(terms) - finite[:, None], most))
        total = (weight * figures).sum(1)
        size = stop_gradient(jnp.where(total > 0, total, 1.0))
        return _with_dead_states(scale + jnp.log(size), total / size, run.size), None

    return step


def _with_dead_states(scale: Array, figure: Array, size: int) -> tuple[Array, Array]:
    missing = ((0, size + 1 - len(scale)), (0, 0))
    return jnp.pad(scale, missing, constant_values=-jnp.inf), jnp.pad(figure, missing)
