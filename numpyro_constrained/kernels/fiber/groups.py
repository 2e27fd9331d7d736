"""Groups of variables whose sums are given: closed forms for Poisson, a tree for Bernoulli.

Independent Poissons given their sum are multinomial. For Bernoullis the law of the sum is the
product of the polynomials 1 - p_i + p_i z, formed by a balanced tree; a draw goes down the same
tree.

The product is formed after an exponential tilt, l_i + lambda, that makes the expected sum the
given one. Then its coefficient there is the largest (Darroch 1964), at least 1 / (L + 1), so that
linear space is safe in single precision too. Whatever lambda is, the answer and all its
derivatives are exact functions: it is a constant, found to a tenth of a unit.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import gammaln

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
from numpyro_constrained.kernels.arrays.log_space import (
    log_sum_exp,
    power,
    safe_log,
    strictly_inside,
)
from numpyro_constrained.kernels.arrays.multinomial import multinomial_draw
from numpyro_constrained.kernels.arrays.plans import plan_index

__all__ = [
    "bernoulli_draw",
    "bernoulli_log_marginals",
    "bernoulli_log_partition",
    "bernoulli_marginals",
    "group_totals",
    "member_totals",
    "other_totals",
    "poisson_draw",
    "poisson_log_prob",
    "spread",
]

TILT_STEPS = 100
TILT_TOLERANCE = 0.1


def poisson_log_prob(groups: DisjointGroups, rate: Array, counts: Array) -> Array:
    """Log probability of the sums of all groups under independent Poissons.

    Args:
        groups: the plan.
        rate: ``(*batch, p)`` rates of ``groups.variables``.
        counts: ``(*batch, g)`` the sums.

    Returns:
        ``(*batch,)`` the sum over groups of log Poisson(count; sum of rates).
    """
    total = group_totals(groups, rate)
    ndim = max(total.ndim, counts.ndim)
    total, counts = lift(total, ndim), lift(counts, ndim).astype(rate.dtype)
    return (power(counts, total) - total - gammaln(counts + 1)).sum(-1)


def member_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)``, or ``(*batch, 1)`` for one group: sums over the group of every member."""
    return spread(groups, group_totals(groups, rate))


def other_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)`` sums over the other members of the group, right to a few roundings.

    At most one member has more than half of a sum. What it leaves is added up; of the others
    there is so little to take away that no digits cancel.
    """
    total = member_totals(groups, rate)
    is_large = rate > total / 2
    small = member_totals(groups, jnp.where(is_large, 0.0, rate))
    return jnp.where(is_large, small, total - rate)


def spread(groups: DisjointGroups, figures: Array) -> Array:
    """``(*batch, g)`` to ``(*batch, p)``, or to ``(*batch, 1)`` where there is one group."""
    return figures if groups.num_groups == 1 else figures[..., plan_index(groups, "index")]


def group_totals(groups: DisjointGroups, rate: Array) -> Array:
    """``(*batch, p)`` to ``(*batch, g)``: sums over the members of every group."""
    if groups.num_groups == 1:
        return rate.sum(-1, keepdims=True)
    totals = jnp.zeros(rate.shape[:-1] + (groups.num_groups,), rate.dtype)
    return totals.at[..., plan_index(groups, "index")].add(rate)


@partial(jax.jit, static_argnums=(1, 4, 5))
def poisson_draw(
    key: Array,
    groups: DisjointGroups,
    rate: Array,
    counts: Array,
    sample_shape: tuple[int, ...] = (),
    largest: int | None = None,
) -> Array:
    """Multinomial draws of the members given the sums, ``(*sample_shape, *batch, p)``.

    They are -1 in groups of a negative sum, or of a positive one where all rates are zero.

    Args:
        largest: a bound of the sums, if there is one: small sums are drawn one by one.
    """
    layout = _Layout(groups, jnp.broadcast_shapes(rate.shape[:-1], counts.shape[:-1]))
    weights = layout.spread(stop_gradient(rate), 0.0)
    shape, totals = tuple(sample_shape), layout.flat_counts(counts)
    drawn = multinomial_draw(key, weights, jnp.maximum(totals, 0), prod(shape), largest)
    is_possible = (totals == 0) | ((totals > 0) & (weights.sum(0) > 0))
    return layout.gather(jnp.where(is_possible[None, None], drawn, -1), shape)


class _Layout(NamedTuple):
    """Members along the first dimension, groups and batch along the last: ``(L, g b)``."""

    groups: DisjointGroups
    batch_shape: tuple[int, ...]

    @property
    def batch_size(self) -> int:
        """b."""
        return prod(self.batch_shape)

    def spread(self, values: Array, missing: float) -> Array:
        """``(*batch, p)`` to ``(L, g b)``, with ``missing`` where a group has no more members."""
        members = plan_index(self.groups, "members")
        pad = jnp.full(values.shape[:-1] + (1,), missing, values.dtype)
        values = jnp.concatenate([values, pad], -1)
        values = jnp.broadcast_to(values, self.batch_shape + values.shape[-1:])
        values = values.reshape(self.batch_size, values.shape[-1]).T[members.T]
        return values.reshape(members.shape[1], len(members) * self.batch_size)

    def flat_counts(self, counts: Array) -> Array:
        """``(*batch, g)`` to ``(g b,)``."""
        counts = jnp.broadcast_to(counts, self.batch_shape + counts.shape[-1:])
        return counts.reshape(self.batch_size, counts.shape[-1]).T.reshape(-1)

    def gather(self, values: Array, shape: tuple[int, ...]) -> Array:
        """``(L, prod(shape), g b)`` to ``(*shape, *batch, p)``, the inverse of ``spread``."""
        members, num_members = plan_index(self.groups, "members"), len(self.groups.variables)
        group, slot = np.nonzero(members < num_members)
        position = np.argsort(members[group, slot])
        index = np.stack([slot, group])[:, position].astype(np.int32)
        values = values.reshape(*values.shape[:2], len(members), self.batch_size)
        values = values[index[0], :, index[1]]
        return jnp.moveaxis(values, 0, -1).reshape(shape + self.batch_shape + (num_members,))

    def batch_sum(self, values: Array) -> Array:
        """``(g b,)`` to ``(*batch,)``: sums over groups."""
        values = values.reshape(self.groups.num_groups, self.batch_size)
        return values.sum(0).reshape(self.batch_shape)


class _Sums(NamedTuple):
    """The law of every sum, tilted, as arrays ``(L, N)`` or ``(N,)`` with N = g b.

    Attributes:
        logits: with -inf for what is missing or settled.
        counts: what the other members sum to.
        flipped: where zeros are counted instead of ones, because they are fewer.
        forced: members that are one for sure.
        tilt: lambda.
        size: number of coefficients that are needed.
    """

    logits: Array
    counts: Array
    flipped: Array
    forced: Array
    tilt: Array
    size: int

    @classmethod
    def of(cls, layout: _Layout, logits: Array, counts: Array, capacity: int) -> "_Sums":
        num_members = np.repeat(layout.groups.sizes, layout.batch_size)
        is_member = np.arange(layout.groups.members.shape[1])[:, None] < num_members
        counts, given = layout.flat_counts(counts), layout.spread(logits, 0.0)
        flipped = 2 * counts > num_members
        given = jnp.where(flipped[None], -given, given)
        forced = (given == jnp.inf) & is_member
        given = jnp.where(forced | ~is_member, -jnp.inf, given)
        counts = jnp.where(flipped, num_members - counts, counts) - forced.sum(0)
        tilt = _tilt(stop_gradient(given), counts)
        return cls(given, counts, flipped, forced, tilt, capacity + 1)

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

    def coefficient(self, product: Array) -> Array:
        """The coefficient of the product of all members that belongs to the sum."""
        index = jnp.clip(self.counts, 0, len(product) - 1)
        found = jnp.take_along_axis(product[:, 0], index[None], 0)[0]
        return jnp.where(self.possible, found, 0.0)

    def log_coefficient(self) -> Array:
        """Its logarithm."""
        return safe_log(self.coefficient(self.levels()[-1]))

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
        is_sum = (degrees == self.counts[None, None]) & self.possible[None, None]
        top = jnp.where(is_sum, number.one, number.zero).astype(self.logits.dtype)
        found = number.times(levels[0], outside(levels, top, number))
        return found[:, : len(self.logits)]

    def _with_forced(self, both: Array, forced: Array) -> Array:
        """``(2, L, N)`` with the two figures of members that are one for sure; NaN where the sum
        cannot be."""
        forced = forced.astype(both.dtype)[:, None, None]
        both = jnp.where(self.forced[None], forced, both)
        return jnp.where(self.possible[None, None], both, jnp.nan)


def _tilt(logits: Array, counts: Array) -> Array:
    """``(N,)`` lambda with expected sum ``counts``, or half a unit inside of what can be.

    Newton's method on the logit of the mean share, safeguarded by bisection.
    """
    is_open = jnp.isfinite(logits)
    number = jnp.maximum(is_open.sum(0), 1).astype(logits.dtype)
    target = jnp.clip(counts.astype(logits.dtype), 0.5, number - 0.5)
    largest = jnp.where(is_open, logits, -jnp.inf).max(0, initial=-jnp.inf)
    least = jnp.where(is_open, logits, jnp.inf).min(0, initial=jnp.inf)
    is_any = is_open.any(0)
    low = jnp.where(is_any, -largest - jnp.log(2 * number), 0.0)
    high = jnp.where(is_any, -least + jnp.log(2 * number), 0.0)
    mean = jnp.where(is_open, logits, 0.0).sum(0) / number
    wanted = jnp.log(target) - jnp.log(number - target)

    def unfinished(state: tuple) -> Array:
        step, _, _, _, is_done = state
        return (step < TILT_STEPS) & ~is_done.all()

    def improve(state: tuple) -> tuple:
        step, tilt, low, high, _ = state
        share = sigmoid(logits + tilt[None])
        total, slope = share.sum(0), (share * (1 - share)).sum(0)
        is_done = (jnp.abs(total - target) <= TILT_TOLERANCE) | ~is_any
        low, high = jnp.where(total < target, tilt, low), jnp.where(total < target, high, tilt)
        gap = wanted - jnp.log(total) + jnp.log(number - total)
        newton = tilt + gap * total * (number - total) / (number * slope)
        is_inside = (newton > low) & (newton < high)
        better = jnp.where(is_inside, newton, (low + high) / 2)
        return step + 1, jnp.where(is_done, tilt, better), low, high, is_done

    start = jnp.clip(wanted - mean, low, high)
    return jax.lax.while_loop(unfinished, improve, (0, start, low, high, ~is_any))[1]


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
@partial(jax.jit, static_argnums=(0, 3))
def bernoulli_log_partition(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int
) -> Array:
    """Log probability of the sums of all groups under independent Bernoullis.

    Args:
        groups: the plan.
        logits: ``(*batch, p)`` of ``groups.variables``; -inf and inf are probabilities 0 and 1.
        counts: ``(*batch, g)`` the sums.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.

    Returns:
        ``(*batch,)``; -inf where it cannot be.
    """
    layout, sums = _laid_out(groups, logits, counts, capacity)
    is_open = jnp.isfinite(sums.logits)
    plain = jnp.where(is_open, sums.logits, 0.0)
    tilted = plain + sums.tilt[None]
    normaliser = jnp.where(is_open, log_sigmoid(-plain) - log_sigmoid(-tilted), 0.0).sum(0)
    shift = sums.tilt * jnp.where(sums.possible, sums.counts, 0)
    return layout.batch_sum(sums.log_coefficient() + normaliser - shift)


@bernoulli_log_partition.defjvp
def _bernoulli_log_partition_jvp(
    groups: DisjointGroups, capacity: int, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    logits, counts = primals
    value = bernoulli_log_partition(groups, logits, counts, capacity)
    given = bernoulli_marginals(groups, logits, counts, capacity)[..., 1]
    slope = given - lift(sigmoid(logits), given.ndim)
    slope = jnp.where(jnp.isfinite(value)[..., None], slope, 0.0)
    return value, (slope * lift(tangents[0], slope.ndim)).sum(-1)


@partial(jax.jit, static_argnums=(0, 3))
def bernoulli_marginals(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int
) -> Array:
    """``(*batch, p, 2)`` probability of 0 and 1 given the sums, differentiable again.

    It is strictly inside of (0, 1) where a member can be either; NaN where the sum cannot be.
    """
    layout, sums = _laid_out(groups, logits, counts, capacity)
    return _by_value(layout, sums, sums.marginals())


@partial(jax.jit, static_argnums=(0, 3))
def bernoulli_log_marginals(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int
) -> Array:
    """Their logarithms, of however small ones."""
    layout, sums = _laid_out(groups, logits, counts, capacity)
    return _by_value(layout, sums, sums.log_marginals())


def _laid_out(
    groups: DisjointGroups, logits: Array, counts: Array, capacity: int
) -> tuple[_Layout, _Sums]:
    layout = _Layout(groups, jnp.broadcast_shapes(logits.shape[:-1], counts.shape[:-1]))
    return layout, _Sums.of(layout, logits, counts, capacity)


def _by_value(layout: _Layout, sums: _Sums, sides: Array) -> Array:
    """``(2, L, N)`` figures of the values that are counted and not, to ``(*batch, p, 2)``."""
    sides = jnp.where(sums.flipped[None, None], sides[::-1], sides)
    return jnp.stack([layout.gather(side[:, None], ()) for side in sides], -1)


@partial(jax.jit, static_argnums=(1, 4, 5))
def bernoulli_draw(
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
    drawn = jnp.broadcast_to(sums.counts, (1, prod(shape), len(sums.counts)))
    for level in reversed(levels[:-1]):
        half, (key, key_level) = level.shape[1] // 2, jax.random.split(key)
        left = _split(key_level, level[:, :half], level[:, half:], drawn[:half])
        drawn = jnp.concatenate([left, drawn[:half] - left])
    drawn = drawn[: len(sums.logits)] + sums.forced[:, None]
    drawn = jnp.where(sums.flipped[None, None], 1 - drawn, drawn)
    is_possible = sums.coefficient(levels[-1]) > 0
    return layout.gather(jnp.where(is_possible[None, None], drawn, -1), shape)


def _split(key: Array, left: Array, right: Array, total: Array) -> Array:
    """How much of ``total``, ``(nodes, samples, N)``, falls on the left polynomials."""
    index = total[None] - np.arange(len(left))[:, None, None, None]
    weights = jnp.take_along_axis(right[:, :, None], jnp.clip(index, 0, len(right) - 1), 0)
    is_inside = (index >= 0) & (index < len(right))
    return choose(key, jnp.where(is_inside, left[:, :, None] * weights, 0.0))
