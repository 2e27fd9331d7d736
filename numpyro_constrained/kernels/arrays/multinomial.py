"""Multinomial draws: one by one where totals are small, by halving the categories otherwise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained.kernels.arrays.inversion import below
from numpyro_constrained.kernels.arrays.loops import scan

__all__ = ["multinomial_draw"]

FEW = 512
"""Totals up to here are drawn one by one whatever the number of categories."""

MANY = 2**22
"""Units up to which the memory of drawing one by one is none to speak of."""

WIDTH = 16
"""Categories are split by binomials about so many steps: each holds 1 / WIDTH of them."""


def multinomial_draw(
    key: Array, weights: Array, totals: Array, num_samples: int, largest: int | None
) -> Array:
    """How ``totals`` fall on L categories, drawn ``num_samples`` times.

    Args:
        weights: ``(L, N)`` nonnegative, up to a factor of every column.
        totals: ``(N,)``.
        largest: a bound of the totals, if there is one.

    Returns:
        ``(L, num_samples, N)``.
    """
    if largest is not None:
        # A binomial costs about as much as sixteen units, which need their memory at once.
        each = 16 if num_samples * len(totals) * largest <= MANY else 4
        if largest <= max(FEW, each * len(weights)):
            return _one_by_one(key, weights, totals, num_samples, largest)
    return _by_halves(key, weights, totals, num_samples)


def _one_by_one(key: Array, weights: Array, totals: Array, num_samples: int, largest: int) -> Array:
    """By inversion of the distribution function; a category of weight zero is never taken."""
    cumulative = jnp.where(weights > 0, jnp.cumsum(weights, 0), 0.0)
    cumulative = jax.lax.cummax(cumulative, 0)
    keys = jax.random.split(key, len(totals))

    def draw(key: Array, cumulative: Array, total: Array) -> Array:
        uniform = jax.random.uniform(key, (num_samples, largest), cumulative.dtype)
        threshold = below(uniform, cumulative[-1])
        index = jnp.searchsorted(cumulative, threshold, side="right")
        counts = jnp.zeros((num_samples, len(cumulative)), totals.dtype)
        is_drawn = (np.arange(largest, dtype=total.dtype)[None] < total).astype(totals.dtype)
        rows = np.arange(num_samples)[:, None]
        return counts.at[rows, index].add(is_drawn)

    return jax.vmap(draw, (0, 1, 0))(keys, cumulative, totals).T


class _Tree(NamedTuple):
    """A balanced tree over the categories, in steps of equally many nodes.

    Attributes:
        parent, left, right: ``(steps, width)`` node numbers; unused places have the last one.
        leaves: ``(L,)`` nodes of the categories.
        size: number of nodes, with one for unused places.
    """

    parent: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaves: np.ndarray
    size: int

    @classmethod
    def of(cls, num_categories: int) -> "_Tree":
        width = max(4, -(-num_categories // WIDTH))
        leaves = level = np.arange(num_categories)
        size, steps = num_categories, []
        while len(level) > 1:
            half, pairs = -(-len(level) // 2), len(level) // 2
            parents = np.concatenate([np.arange(size, size + pairs), level[pairs:half]])
            steps.append(np.stack([parents[:pairs], level[:pairs], level[half:]]))
            size, level = size + pairs, parents
        parts = [np.zeros((3, 0, width), int)]
        for nodes in reversed(steps):
            missing = -nodes.shape[1] % width
            padded = np.pad(nodes, ((0, 0), (0, missing)), constant_values=size)
            parts.append(padded.reshape(3, -1, width))
        parent, left, right = np.concatenate(parts, 1).astype(np.int32)
        return cls(parent, left, right, leaves, size + 1)


def _by_halves(key: Array, weights: Array, totals: Array, num_samples: int) -> Array:
    """From all categories to ever smaller parts; a loop, as binomials take long to compile."""
    tree = _Tree.of(len(weights))
    sums = jnp.zeros((tree.size,) + weights.shape[1:], weights.dtype)
    sums = sums.at[tree.leaves].set(weights)

    def add(sums: Array, nodes: tuple[Array, ...]) -> tuple[Array, None]:
        parent, left, right = nodes
        return sums.at[parent].set(sums[left] + sums[right]), None

    nodes: Any = (tree.parent, tree.left, tree.right)
    sums, _ = scan(add, sums, nodes, reverse=True)

    def split(counts: Array, step: tuple[Array, ...]) -> tuple[Array, None]:
        key, parent, left, right = step
        total, shares = counts[parent], (sums[left], sums[right])
        drawn = _binomial(key, total, *(share[:, None] for share in shares))
        return counts.at[left].set(drawn).at[right].set(total - drawn), None

    counts = jnp.zeros((tree.size, num_samples) + totals.shape, totals.dtype)
    counts = counts.at[tree.size - 2].set(totals[None])
    keys = jax.random.split(key, max(1, len(tree.parent)))[: len(tree.parent)]
    return scan(split, counts, (keys, *nodes))[0][tree.leaves]


def _binomial(key: Array, total: Array, left: Array, right: Array) -> Array:
    """The left part of ``total``; the smaller part is drawn: its probability is exact when tiny."""
    small = jnp.minimum(left, right)
    share = small / jnp.where(small > 0, left + right, 1.0)
    share = jnp.broadcast_to(share, total.shape)
    drawn = jax.random.binomial(key, total.astype(share.dtype), share, dtype=share.dtype)
    drawn = drawn.astype(total.dtype)
    return jnp.where(left <= right, drawn, total - drawn)
