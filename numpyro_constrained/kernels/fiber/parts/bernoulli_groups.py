"""Bernoulli variables whose sums are given: exactly k of each group.

The law of a sum is the product of the polynomials 1 - p_i + p_i z, formed by a balanced tree; a
draw goes down the same tree.

The product is formed after an exponential tilt, l_i + lambda, that makes the expected sum the
given one. Then its coefficient there is the largest (Darroch 1964), at least 1 / (L + 1), so that
linear space is safe in single precision too. Whatever lambda is, the answer and all its
derivatives are exact functions: it is a constant, found to a tenth of a unit.
"""

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.nn import log_sigmoid, sigmoid

from constrained_core.fiber.disjoint_groups import DisjointGroups
from numpyro_constrained.kernels.arrays.inversion import choose
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_polynomials import (
    LINEAR,
    LOG,
    Arithmetic,
    outside,
    products,
)
from numpyro_constrained.kernels.arrays.log_space import log_sum_exp, safe_log, strictly_inside
from numpyro_constrained.kernels.arrays.value_tables import padded
from numpyro_constrained.kernels.fiber.bernoulli_tilt import expected_tilt
from numpyro_constrained.kernels.fiber.covariance import derivative_of_means, settled
from numpyro_constrained.kernels.fiber.group_sums import GroupLayout, group_totals, spread
from numpyro_constrained.kernels.fiber.parts.part import FinitePart

__all__ = ["BernoulliGroups", "marginals", "ratios"]

Result = TypeVar("Result")

STEPS = 1, -1
"""By how much the sum of the open members changes where one that is certain takes its other value:
zero instead of one, or one instead of zero."""


class BernoulliGroups(FinitePart):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(self, groups: DisjointGroups, logits: Array, counts: Any, capacity: int) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, jnp.asarray(counts), capacity

    def _ask(self, function: Callable[..., Result], *more: Array | None) -> Result:
        return function(self.groups, self.logits, self.counts, self.capacity, *more)

    @property
    def _moves(self) -> Array | None:
        """``(2, *batch, g)`` weights of a sum that is moved by ``STEPS``, as zeros with a
        derivative; None where no member is certain."""
        return None

    @property
    def log_partitions(self) -> Array:
        """``(*batch, g)`` log probability of the sum of every group."""
        return self._ask(_log_partitions, self._moves)

    def log_partition(self) -> Array:
        total = self.log_partitions.sum(-1)
        return jnp.where(jnp.isfinite(total), total, -jnp.inf)

    @cached_property
    def _scored(self) -> tuple[Array, Array]:
        return self._ask(_log_coefficients, self._moves)

    def log_weight_sum(self) -> Array:
        # Of tilted odds, by which values are scored: what cancels is no larger than an entropy.
        total = self._scored[0].sum(-1)
        return jnp.where(jnp.isfinite(total), total, -jnp.inf)

    @property
    def shift(self) -> Array:
        """``(*batch, p)`` constants that tilt the log odds."""
        shift = spread(self.groups, self._scored[1])
        return jnp.broadcast_to(shift, shift.shape[:-1] + self.variables.shape)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return _draw(key, self.groups, self.logits, self.counts, self.capacity, shape)

    @property
    def probabilities(self) -> Array:
        return self._ask(marginals, self._moves)

    @property
    def covariance(self) -> Array:
        def tables(t: Array) -> Array:
            return self._tilted(t).probabilities

        # One member of every group at a time: groups do not depend on each other.
        index, members = self.groups.index, self.groups.members
        slot = np.nonzero(members < len(index))[1][np.argsort(members[members < len(index)])]
        directions = slot == np.arange(members.shape[1])[:, None]
        found = derivative_of_means(tables, self.logits, directions)[..., slot]
        is_same = (index == index[:, None]).reshape((1,) * (found.ndim - 2) + (index.size,) * 2)
        return settled(jnp.where(is_same, found, 0.0), self.variance)

    def _tilted(self, t: Array) -> "BernoulliGroups":
        """The same with t ``(p,)`` added to the logits."""
        logits = self.logits + lift(t, self.logits.ndim)
        return BernoulliGroups(self.groups, logits, self.counts, self.capacity)

    def log_marginals(self, num_values: int) -> Array:
        return padded(self._ask(_log_marginals), num_values)


class _Sums(NamedTuple):
    """The law of every sum, tilted, as arrays ``(L, N)`` or ``(N,)`` with N = g b.

    Attributes:
        logits: with -inf for what is missing or settled.
        counts: what the other members sum to.
        flipped: where zeros are counted instead of ones, because they are fewer.
        forced: members that are one for sure.
        tilt: lambda.
        size: number of coefficients that are needed.
        moves: weights of the sums that are one larger and one smaller, ``(2, N)``, or None.
    """

    logits: Array
    counts: Array
    flipped: Array
    forced: Array
    tilt: Array
    size: int
    moves: Array | None

    @classmethod
    def of(
        cls,
        layout: GroupLayout,
        logits: Array,
        counts: Array,
        capacity: int,
        moves: Array | None = None,
    ) -> "_Sums":
        num_members = np.repeat(layout.groups.sizes, layout.batch_size)
        is_member = np.arange(layout.groups.members.shape[1])[:, None] < num_members
        counts, given = layout.flat_counts(counts), layout.spread(logits, 0.0)
        # The polynomials need no more terms than there are ones, or zeros if these are fewer.
        flipped = 2 * counts > num_members
        given = jnp.where(flipped[None], -given, given)
        forced = (given == jnp.inf) & is_member
        given = jnp.where(forced | ~is_member, -jnp.inf, given)
        counts = jnp.where(flipped, num_members - counts, counts) - forced.sum(0)
        tilt = expected_tilt(stop_gradient(given), counts)
        if moves is None:
            return cls(given, counts, flipped, forced, tilt, capacity + 1, None)
        # A sum of ones that is one larger is one of zeros that is one smaller.
        flat = jnp.stack([layout.flat_counts(weights) for weights in moves])
        flat = jnp.where(flipped[None], flat[::-1], flat)
        return cls(given, counts, flipped, forced, tilt, capacity + 2, flat)

    @property
    def possible(self) -> Array:
        """Whether the sum can be: the members that are open are neither too few nor too many."""
        return (self.counts >= 0) & (self.counts <= jnp.isfinite(self.logits).sum(0))

    @property
    def undecided(self) -> Array:
        """``(L, N)`` members that are open and can be 0 as well as 1."""
        is_open = jnp.isfinite(self.logits)
        is_free = (self.counts > 0) & (self.counts < is_open.sum(0))
        return is_open & is_free[None]

    def levels(self) -> list[Array]:
        """Products of ever more members, ``(degree + 1, nodes, N)``, the last of all of them."""
        tilted = self.logits + self.tilt[None]
        return products(jnp.stack([sigmoid(-tilted), sigmoid(tilted)]), self.size, LINEAR)

    def coefficient(self, product: Array, step: int = 0) -> Array:
        """The coefficient of the product of all members that belongs to the sum, or to one that is
        ``step`` larger, ``(N,)``."""
        counts = self.counts + step
        index = jnp.clip(counts, 0, len(product) - 1)
        found = jnp.take_along_axis(product[:, 0], index[None], 0)[0]
        return jnp.where(self.possible & (counts == index), found, 0.0)

    def log_coefficient(self) -> Array:
        """Its logarithm."""
        return safe_log(self.coefficient(self.levels()[-1]))

    def ratios(self) -> Array:
        """``(2, N)`` those that are one larger and one smaller as parts of it, without the tilt;
        0 where the sum cannot be."""
        product = self.levels()[-1]
        here = self.coefficient(product)
        here = jnp.where(here > 0, here, 1.0)
        parts = [self.coefficient(product, step) / here for step in STEPS]
        return jnp.stack(parts) * self._untilted

    @property
    def _untilted(self) -> Array:
        """``(2, N)`` what a coefficient is multiplied with for the tilt of its sum."""
        largest = math.log(float(jnp.finfo(self.tilt.dtype).max)) - 2
        steps = np.array(STEPS, self.tilt.dtype)[:, None]
        return jnp.exp(jnp.minimum(-steps * self.tilt[None], largest))

    def marginals(self) -> Array:
        """``(2, L, N)`` probabilities of 0 and of 1, strictly between 0 and 1 where a member can
        be either, exactly 0 and 1 where it cannot; NaN where the sum cannot be."""
        both = self._times_outside(self.levels(), LINEAR)
        total = both.sum(0, keepdims=True)
        both = both / jnp.where(total > 0, total, 1.0)
        inside = strictly_inside(both, self.undecided[None])
        return self._with_forced(inside, jnp.array([0.0, 1.0]))

    def log_marginals(self) -> Array:
        """Their logarithms, of however small ones."""
        tilted = self.logits + self.tilt[None]
        leaves = jnp.stack([log_sigmoid(-tilted), log_sigmoid(tilted)])
        both = self._times_outside(products(leaves, self.size, LOG), LOG)
        both = both - log_sum_exp(both, 0)[None]
        return self._with_forced(both, jnp.array([-jnp.inf, 0.0]))

    def _times_outside(self, levels: list[Array], number: Arithmetic) -> Array:
        degrees = np.arange(len(levels[-1]))[:, None, None]

        def taken(step: int) -> Array:
            is_sum = (degrees == (self.counts + step)[None, None]) & self.possible[None, None]
            return jnp.where(is_sum, number.one, number.zero).astype(self.logits.dtype)

        top = taken(0)
        if self.moves is not None:
            weights = self.moves * self._untilted
            top = top + sum(w[None, None] * taken(s) for w, s in zip(weights, STEPS, strict=True))
        found = number.times(levels[0], outside(levels, top, number))
        return found[:, : len(self.logits)]

    def _with_forced(self, both: Array, forced: Array) -> Array:
        """``(2, L, N)`` with the two figures of members that are one for sure; NaN where the sum
        cannot be."""
        forced = forced.astype(both.dtype)[:, None, None]
        both = jnp.where(self.forced[None], forced, both)
        return jnp.where(self.possible[None, None], both, jnp.nan)


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
@partial(jax.jit, static_argnums=(0, 3))
def _log_partitions(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int, moves: Array | None
) -> Array:
    """Log probability of the sum of every group under independent Bernoullis.

    Args:
        groups: the plan.
        logits: ``(*batch, p)`` of ``groups.variables``; -inf and inf are probabilities 0 and 1.
        counts: ``(*batch, g)`` the sums.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
        moves: ``(2, *batch, g)`` weights that sums moved by ``STEPS`` add, zeros with a derivative.

    Returns:
        ``(*batch, g)``; -inf where it cannot be.
    """
    layout, sums = _laid_out(groups, logits, counts, capacity, moves)
    is_open = jnp.isfinite(sums.logits)
    plain = jnp.where(is_open, sums.logits, 0.0)
    tilted = plain + sums.tilt[None]
    # Over the likelier value of each member: log(1 + e^l) of logits as -1e9, by which users mask,
    # would leave no digits.
    is_likely = is_open & (tilted > 0)
    signed = jnp.where(is_likely, plain, -plain)
    normaliser = jnp.where(is_open, log_sigmoid(signed) - log_sigmoid(jnp.abs(tilted)), 0.0).sum(0)
    surplus = jnp.where(sums.possible, is_likely.sum(0) - sums.counts, 0)
    shift = sums.tilt * surplus.astype(sums.tilt.dtype)
    return layout.by_group(sums.log_coefficient() + normaliser + shift)


@_log_partitions.defjvp
def _log_partitions_jvp(
    groups: DisjointGroups, capacity: int, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    logits, counts, moves = primals
    value = _log_partitions(groups, logits, counts, capacity, moves)
    return value, _change(groups, capacity, primals, tangents, value, logits)


def _change(
    groups: DisjointGroups,
    capacity: int,
    primals: tuple,
    tangents: tuple,
    value: Array,
    base: Array,
) -> Array:
    """How the log probability of the sums changes under base log odds that move as the logits."""
    logits, counts, moves = primals
    given = marginals(groups, logits, counts, capacity, moves)[..., 1]
    # Of an exponential family: the mean given the sums less the mean without.
    slope = given - lift(sigmoid(base), given.ndim)
    slope = jnp.where(spread(groups, jnp.isfinite(value)), slope, 0.0)
    change = group_totals(groups, slope * lift(tangents[0], slope.ndim))
    if moves is None:
        return change
    parts = ratios(groups, logits, counts, capacity, moves)
    return change + (parts * tangents[2]).sum(0)


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
@partial(jax.jit, static_argnums=(0, 3))
def _log_coefficients(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int, moves: Array | None
) -> tuple[Array, Array]:
    """The same under tilted log odds, and the tilt, constants ``(*batch, g)``."""
    layout, sums = _laid_out(groups, logits, counts, capacity, moves)
    tilt = jnp.where(sums.flipped, -sums.tilt, sums.tilt)
    return layout.by_group(sums.log_coefficient()), layout.by_group(tilt)


@_log_coefficients.defjvp
def _log_coefficients_jvp(
    groups: DisjointGroups, capacity: int, primals: tuple, tangents: tuple
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    logits, counts, moves = primals
    value, tilt = _log_coefficients(groups, logits, counts, capacity, moves)
    shift = spread(groups, tilt)
    tilted = lift(logits, max(logits.ndim, shift.ndim)) + shift
    change = _change(groups, capacity, primals, tangents, value, tilted)
    return (value, tilt), (change, jnp.zeros_like(tilt))


@partial(jax.jit, static_argnums=(0, 3))
def ratios(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int, moves: Array
) -> Array:
    """``(2, *batch, g)`` probabilities of the sums moved by ``STEPS`` as parts of that of the sum;
    0 where this cannot be."""
    layout, sums = _laid_out(groups, logits, counts, capacity, moves)
    found = sums.ratios()
    found = jnp.where(sums.flipped[None], found[::-1], found)
    return jnp.stack([layout.by_group(ratio) for ratio in found])


@partial(jax.jit, static_argnums=(0, 3))
def marginals(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int, moves: Array | None
) -> Array:
    """``(*batch, p, 2)`` probability of 0 and 1 given the sums, differentiable again.

    It is strictly inside of (0, 1) where a member can be either; NaN where the sum cannot be.
    """
    layout, sums = _laid_out(groups, logits, counts, capacity, moves)
    return _by_value(layout, sums, sums.marginals())


@partial(jax.jit, static_argnums=(0, 3))
def _log_marginals(groups: DisjointGroups, logits: Array, counts: Array, capacity: int) -> Array:
    """Their logarithms, of however small ones."""
    layout, sums = _laid_out(groups, logits, counts, capacity)
    return _by_value(layout, sums, sums.log_marginals())


def _laid_out(
    groups: DisjointGroups,
    logits: Array,
    counts: Array,
    capacity: int,
    moves: Array | None = None,
) -> tuple[GroupLayout, _Sums]:
    layout = GroupLayout(groups, jnp.broadcast_shapes(logits.shape[:-1], counts.shape[:-1]))
    return layout, _Sums.of(layout, logits, counts, capacity, moves)


def _by_value(layout: GroupLayout, sums: _Sums, sides: Array) -> Array:
    """``(2, L, N)`` figures of the values that are counted and not, to ``(*batch, p, 2)``."""
    sides = jnp.where(sums.flipped[None, None], sides[::-1], sides)
    return jnp.stack([layout.gather(side[:, None], ()) for side in sides], -1)


@partial(jax.jit, static_argnums=(1, 4, 5))
def _draw(
    key: Array,
    groups: DisjointGroups,
    logits: Array,
    counts: Array,
    capacity: int,
    sample_shape: tuple[int, ...] = (),
) -> Array:
    """Exact draws given the sums, ``(*sample_shape, *batch, p)`` of zeros and ones.

    They are -1 in groups of which the sum cannot be.
    """
    layout, sums = _laid_out(groups, stop_gradient(logits), counts, capacity)
    levels, shape = sums.levels(), tuple(sample_shape)
    drawn = jnp.broadcast_to(sums.counts, (1, math.prod(shape), len(sums.counts)))
    for level in reversed(levels[:-1]):
        half, (key, key_level) = level.shape[1] // 2, jax.random.split(key)
        left = _split(key_level, level[:, :half], level[:, half:], drawn[:half])
        left = left.astype(drawn.dtype)
        drawn = jnp.concatenate([left, drawn[:half] - left])
    drawn = drawn[: len(sums.logits)] + sums.forced[:, None].astype(drawn.dtype)
    drawn = jnp.where(sums.flipped[None, None], 1 - drawn, drawn)
    is_possible = sums.coefficient(levels[-1]) > 0
    return layout.gather(jnp.where(is_possible[None, None], drawn, -1), shape)


def _split(key: Array, left: Array, right: Array, total: Array) -> Array:
    """How much of ``total``, ``(nodes, samples, N)``, falls on the left polynomials."""
    index = total[None] - np.arange(len(left))[:, None, None, None]
    weights = jnp.take_along_axis(right[:, :, None], jnp.clip(index, 0, len(right) - 1), 0)
    is_inside = (index >= 0) & (index < len(right))
    return choose(key, jnp.where(is_inside, left[:, :, None] * weights, 0.0))
