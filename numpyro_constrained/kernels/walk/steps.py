"""A walk on a fiber: an exact draw along one direction after another, for many chains at once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from constrained_core.walk.plan import GRID, WINDOW_DROP, WalkPlan

__all__ = ["Directions", "LogWeights", "bind_weights", "first_directions", "walk"]


class LogWeights(NamedTuple):
    """The log weight of value v of active variable i: ``slope[i] v + table[offset[i] + v]``."""

    slope: Array
    table: Array
    offset: Array

    def at(self, index: Array, value: Array) -> Array:
        """The log weights of values of variables, both ``(L,)``."""
        return self.slope[index] * value + self.table[self.offset[index] + value]


class Directions(NamedTuple):
    """The tableau of a chain: columns of the basis, the others, and these in terms of it."""

    basis: Array
    others: Array
    entries: Array


def first_directions(plan: WalkPlan, num_chains: int) -> Directions | None:
    """The tableau with which every chain starts; None where the moves are fixed."""
    if plan.tableau is None:
        return None
    parts = plan.tableau.basis, plan.tableau.others, plan.tableau.entries
    return Directions(*(jnp.repeat(jnp.asarray(part)[None], num_chains, 0) for part in parts))


def bind_weights(plan: WalkPlan, parameter: Array) -> LogWeights:
    """The log weights of the active variables.

    Args:
        plan: the plan of the walk.
        parameter: ``(n,)`` rates of counts, or ``(n, C)`` log weights of values.
    """
    offset = jnp.asarray(plan.weights.offset()[plan.active])
    dtype = parameter.dtype
    if parameter.ndim == 2:
        return LogWeights(jnp.zeros(len(plan.active), dtype), parameter.ravel(), offset)
    slope = jnp.log(jnp.maximum(parameter[plan.active], jnp.finfo(dtype).tiny))
    return LogWeights(slope, jnp.asarray(plan.weights.table(plan.largest), dtype), offset)


@partial(jax.jit, static_argnums=(0, 3, 4))
def walk(
    plan: WalkPlan,
    weights: LogWeights,
    state: tuple[Array, Directions | None],
    num_draws: int,
    num_steps: int,
    key: Array,
) -> tuple[tuple[Array, Directions | None], Array]:
    """Walk chains and keep points of them.

    Args:
        plan: the plan of the walk.
        weights: those of the p active variables.
        state: points ``(chains, p)`` and, where A is unimodular, a tableau of every chain.
        num_draws: number of points to keep.
        num_steps: number of steps from one to the next.
        key: random key.

    Returns:
        The last state, and the points ``(chains, num_draws, p)``.
    """

    dtype = weights.slope.dtype

    def step(state: tuple, uniform: Array) -> tuple[tuple, None]:
        return _step(plan, weights, state, uniform), None

    def draw(state: tuple, key: Array) -> tuple[tuple, Array]:
        uniform = jax.random.uniform(key, (num_steps, _num_uniform(plan)), dtype)
        state, _ = lax.scan(step, state, uniform)
        return state, state[0]

    def chain(key: Array, state: tuple) -> tuple[tuple, Array]:
        return lax.scan(draw, state, jax.random.split(key, num_draws))

    return jax.vmap(chain)(jax.random.split(key, len(state[0])), state)


def _num_uniform(plan: WalkPlan) -> int:
    """Random numbers of one step: direction, block, step, exchange; and those of combinations."""
    return 4 + (2 * len(plan.moves) if plan.mixes else 0)


def _step(plan: WalkPlan, weights: LogWeights, state: tuple, uniform: Array) -> tuple:
    x, directions = state
    if directions is None:
        index, move = jnp.arange(x.shape[-1]), _move(plan, uniform)
        return x + move * _draw(plan, weights, x, index, move, uniform[1:3]), None
    column = _integer(uniform[0], len(directions.others))
    index = jnp.append(directions.basis, directions.others[column])
    move = jnp.append(-directions.entries[:, column], 1)
    step = _draw(plan, weights, x[index], index, move, uniform[1:3])
    return x.at[index].add(move * step), _exchanged(plan, directions, column, uniform[3])


def _integer(uniform: Array, count: int) -> Array:
    """0..count-1."""
    return jnp.minimum((uniform * count).astype(np.int32), count - 1)


def _choice(uniform: Array, score: Array) -> Array:
    """An index with probabilities proportional to ``exp(score)``, by inversion."""
    total = jnp.cumsum(jnp.exp(score - score.max()))
    uniform = jnp.minimum(uniform, 1 - jnp.finfo(score.dtype).eps)
    return (total <= uniform * total[-1]).sum()


def _move(plan: WalkPlan, uniform: Array) -> Array:
    """``(p,)`` one of the moves, or every second time a random combination of some."""
    moves = jnp.asarray(plan.moves)
    count = len(moves)
    one = _integer(uniform[0], count)
    if not plan.mixes:
        return moves[one]
    # Few of the moves or many, with sizes that fall off geometrically: any combination can come.
    is_mixed, share = uniform[3] < 0.5, 2.0 ** _integer(2 * uniform[3] % 1, 6) / count
    chosen = is_mixed & (uniform[4 : 4 + count] < share)
    noise = 2 * uniform[4 + count :] - 1
    size = 1 + jnp.floor(-jnp.log2(jnp.maximum(jnp.abs(noise), 1e-9)) / 2)
    factor = jnp.where(chosen, jnp.sign(noise) * size, 0).astype(moves.dtype)
    return factor.at[one].set(1) @ moves


def _draw(
    plan: WalkPlan, weights: LogWeights, x: Array, index: Array, move: Array, uniform: Array
) -> Array:
    """The t of ``x + t move`` from its conditional law.

    Args:
        x: ``(L,)`` the values of the variables ``index``, of which ``move`` may leave some.
    """
    low, high = jnp.asarray(plan.bounds[:, plan.active])[:, index]
    least, largest = _range(x, move, low, high)

    @jax.vmap
    def score(step: Array) -> Array:
        values = jnp.clip(x + step * move, low, high)
        inside = (step >= least) & (step <= largest)
        return jnp.where(inside, weights.at(index, values).sum(), -jnp.inf)

    start, end = least, largest
    for _ in range(plan.num_refinements):
        # Log weights of counts are concave along a line: their mass is where a grid finds it.
        stride = (end - start) // GRID + 1
        on_grid = score(start + stride * jnp.arange(GRID))
        heavy = on_grid >= on_grid.max() - WINDOW_DROP
        first, last = jnp.argmax(heavy), GRID - 1 - jnp.argmax(heavy[::-1])
        start, end = (
            jnp.maximum(start, start + stride * (first - 1)),
            jnp.minimum(end, start + stride * (last + 1)),
        )
    if plan.num_refinements:
        # Mass wider than the window: a block of the line, placed at random around the point.
        block = -_integer(uniform[0], plan.window)
        start = jnp.where(end - start < plan.window, start, block)
    steps = start + jnp.arange(plan.window)
    return steps[_choice(uniform[1], score(steps))]


def _range(x: Array, move: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The least and the largest t with ``low <= x + t move <= high``."""
    size = jnp.maximum(jnp.abs(move), 1)
    up = jnp.where(move > 0, high - x, x - low) // size
    down = jnp.where(move > 0, x - low, high - x) // size
    most = jnp.iinfo(x.dtype).max
    least = -jnp.where(move == 0, most, down).min()
    return least, jnp.where(move == 0, most, up).min()


def _exchanged(plan: WalkPlan, directions: Directions, column: Array, uniform: Array) -> Directions:
    """Column ``others[column]`` enters the basis, one of its circuit leaves: rarely a large one.

    The walk on bases does not look at x, so that every step keeps the law of x as it is.
    """
    basis, others, entries = directions
    stay = jnp.asarray(plan.stay_weight, uniform.dtype)
    members = jnp.append(basis, others[column])
    in_circuit = jnp.append(entries[:, column], 1) != 0
    row = _choice(uniform, jnp.where(in_circuit, -stay[members], -jnp.inf))
    stays, row = row == len(basis), jnp.minimum(row, len(basis) - 1)
    pivot = entries[row, column]
    pivot_row = (pivot * entries[row]).at[column].set(pivot)
    rest = entries[:, column]
    changed = entries.at[:, column].set(0) - jnp.outer(rest, pivot_row)
    changed = changed.at[row].set(pivot_row)
    new = Directions(basis.at[row].set(others[column]), others.at[column].set(basis[row]), changed)
    return jax.tree.map(lambda old, new: jnp.where(stays, old, new), directions, new)
