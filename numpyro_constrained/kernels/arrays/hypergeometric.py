"""Hypergeometric draws and probabilities: what of a total falls where both margins are given."""

from collections.abc import Callable
from math import ceil, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained.kernels.arrays.inversion import below
from numpyro_constrained.kernels.arrays.loops import scan
from numpyro_constrained.kernels.arrays.poisson_pmf import log_poisson

__all__ = ["log_hypergeometric", "table_draw"]

TAIL = 20.0
"""A window leaves out 2 exp(-2 TAIL) = 8e-18 of a law (Hoeffding 1963)."""


def table_draw(
    key: Array, rows: Array, columns: Array, largest: tuple[np.ndarray, np.ndarray]
) -> Array:
    """Tables with given margins, with probabilities prod rows! columns! / (total! prod cells!).

    Rows or columns, whichever are fewer, are drawn one after the other; of one, half of its cells
    are drawn at a time. XLA compiles a step of one for all.

    Args:
        key: random key.
        rows: ``(R, N)`` row sums of N tables.
        columns: ``(C, N)`` column sums, of the same total.
        largest: ``(R,)`` and ``(C,)`` bounds of them.

    Returns:
        ``(R, C, N)``, floating.
    """
    if len(rows) > len(columns):
        return jnp.swapaxes(table_draw(key, columns, rows, largest[::-1]), 0, 1)
    most = int(largest[0].max(initial=0))

    def draw_row(left: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        taken = _without_replacement(row[0], left, row[1], largest[1], most)
        return left - taken, taken

    return scan(draw_row, columns, (jax.random.split(key, len(rows)), rows))[1]


def _without_replacement(
    key: Array, columns: Array, draws: Array, largest: np.ndarray, most: int
) -> Array:
    """``(C, N)`` how ``draws (N,)``, at most ``most``, fall on ``columns (C, N)``."""
    if len(columns) == 1:
        return draws[None]
    drawn, bounds = draws[None], _halves(largest, np.concatenate)[:-1]
    levels = _halves(columns, jnp.concatenate)[:-1]
    counts = np.array([len(level) // 2 for level in reversed(levels)], dtype=int)
    uniform = jax.random.uniform(key, (counts.sum(), *draws.shape), draws.dtype)
    parts = jnp.split(uniform, np.cumsum(counts)[:-1])
    for level, bound, part in zip(reversed(levels), reversed(bounds), parts, strict=True):
        half = len(part)
        size = min(most, int(bound[:half].max()))
        taken = _hypergeometric(part, level[:half], level[half:], drawn[:half], size)
        drawn = jnp.concatenate([taken, drawn[:half] - taken])
    return drawn[: len(columns)]


def _halves(sizes: Any, join: Callable[[list], Any]) -> list[Any]:
    """Sums of pairs of the first and the second half, from the sizes themselves to one sum."""
    levels = [sizes]
    while len(levels[-1]) > 1:
        level = levels[-1]
        if len(level) % 2:
            level = levels[-1] = join([level, 0 * level[:1]])
        half = len(level) // 2
        levels.append(level[:half] + level[half:])
    return levels


def _hypergeometric(uniform: Array, good: Array, bad: Array, draws: Array, size: int) -> Array:
    """How many of ``draws`` without replacement are good; by inversion of uniform numbers.

    Args:
        size: a bound of ``min(good, draws)``.
    """
    low, high = jnp.maximum(draws - bad, 0), jnp.minimum(draws, good)
    width = min(size + 1, 2 * ceil(sqrt(TAIL * size)) + 2)
    mode = jnp.floor((draws + 1) * (good + 1) / (good + bad + 2))
    start = jnp.maximum(jnp.minimum(mode - width // 2, high - width + 1), low)
    value = start[None] + np.arange(1, width).reshape((-1,) + (1,) * start.ndim).astype(start.dtype)
    # Ratios of successive probabilities: their errors are those of a few roundings.
    gained = jnp.maximum(good[None] - value + 1, 0) * jnp.maximum(draws[None] - value + 1, 0)
    ratio = gained / jnp.maximum(value * (bad[None] - draws[None] + value), 1)
    log_weight = jnp.concatenate([jnp.zeros_like(start)[None], jnp.cumsum(jnp.log(ratio), 0)])
    total = jnp.cumsum(jnp.exp(log_weight - log_weight.max(0, keepdims=True)), 0)
    threshold = below(uniform, total[-1])
    place = (total <= threshold[None]).sum(0).astype(start.dtype)
    return jnp.minimum(start + place, high)


def log_hypergeometric(value: Any, draws: Array, good: Array, total: Array) -> Array:
    """Log probability that ``value`` of ``draws`` from ``total`` are good; -inf where it cannot be.

    As binomials given their sum, of terms that are as small as the answer. All of one rank.
    """
    bad, others = total - good, total - draws
    scale = jnp.maximum(total, 1)
    cells = (
        (value, draws * good / scale),
        (draws - value, draws * bad / scale),
        (good - value, others * good / scale),
        (others - good + value, others * bad / scale),
    )
    log_prob = _log_poisson(total, total)
    for cell in cells:
        log_prob = log_prob + _log_poisson(*cell)
    for size in (draws, others, good, bad):
        log_prob = log_prob - _log_poisson(size, size)
    inside = (value <= draws) & (value <= good) & (others - good + value >= 0)
    return jnp.where(inside, log_prob, -jnp.inf)


def _log_poisson(count: Array, mean: Array) -> Array:
    return log_poisson(jnp.maximum(count, 0), mean)
