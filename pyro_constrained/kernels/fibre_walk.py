"""A walk on a fibre: an exact draw along one direction after another, for many chains at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from constrained_core.fibre_walk import GRID, WINDOW_DROP, WalkPlan

__all__ = ["Directions", "LogWeights", "bind_weights", "first_directions", "walk"]


class LogWeights(NamedTuple):
    """The log weight of value v of active variable i: ``slope[i] v + table[offset[i] + v]``."""

    slope: Tensor
    table: Tensor
    offset: Tensor

    def at(self, index: Tensor, value: Tensor) -> Tensor:
        """The log weights of values of variables, both ``(L,)``.

        Here for all chains and steps: ``(chains, 1, L)`` and ``(chains, W, L)``.
        """
        return self.slope[index] * value + self.table[self.offset[index] + value]


class Directions(NamedTuple):
    """The tableau of a chain: columns of the basis, the others, and these in terms of it."""

    basis: Tensor
    others: Tensor
    entries: Tensor


def first_directions(plan: WalkPlan, num_chains: int) -> Directions | None:
    """The tableau with which every chain starts; None where the moves are fixed."""
    if plan.tableau is None:
        return None
    parts = plan.tableau.basis, plan.tableau.others, plan.tableau.entries
    return Directions(
        *(torch.as_tensor(part).repeat(num_chains, *[1] * part.ndim) for part in parts)
    )


def bind_weights(plan: WalkPlan, parameter: Tensor) -> LogWeights:
    """The log weights of the active variables.

    Args:
        plan: the plan of the walk.
        parameter: ``(n,)`` rates of counts, or ``(n, C)`` log weights of values.
    """
    offset = torch.as_tensor(plan.weights.offset()[plan.active])
    parameter = parameter.detach().cpu()
    if parameter.ndim == 2:
        slope = torch.zeros(len(plan.active), dtype=parameter.dtype)
        return LogWeights(slope, parameter.reshape(-1), offset)
    tiny = torch.finfo(parameter.dtype).tiny
    slope = parameter[torch.as_tensor(plan.active)].clamp(min=tiny).log()
    table = torch.as_tensor(plan.weights.table(plan.largest), dtype=parameter.dtype)
    return LogWeights(slope, table, offset)


@torch.no_grad()
def walk(
    plan: WalkPlan,
    weights: LogWeights,
    state: tuple[Tensor, Directions | None],
    num_draws: int,
    num_steps: int,
) -> tuple[tuple[Tensor, Directions | None], Tensor]:
    """Walk chains and keep points of them.

    Args:
        plan: the plan of the walk.
        weights: those of the p active variables.
        state: points ``(chains, p)`` and, where A is unimodular, a tableau of every chain.
        num_draws: number of points to keep.
        num_steps: number of steps from one to the next.

    Returns:
        The last state, and the points ``(chains, num_draws, p)``.
    """
    points = []
    shape = num_steps, len(state[0]), _num_uniform(plan)
    for _ in range(num_draws):
        for uniform in torch.rand(shape, dtype=weights.slope.dtype):
            state = _step(plan, weights, state, uniform)
        points.append(state[0])
    return state, torch.stack(points, 1)


def _num_uniform(plan: WalkPlan) -> int:
    """Random numbers of one step: direction, block, step, exchange; and those of combinations."""
    return 4 + (2 * len(plan.moves) if plan.mixes else 0)


def _step(plan: WalkPlan, weights: LogWeights, state: tuple, uniform: Tensor) -> tuple:
    x, directions = state
    if directions is None:
        index, move = torch.arange(x.shape[-1]).expand(x.shape), _move(plan, uniform)
        return x + move * _draw(plan, weights, x, index, move, uniform[:, 1:3]), None
    column = _integer(uniform[:, 0], directions.others.shape[-1])
    index = torch.cat([directions.basis, directions.others.gather(-1, column[:, None])], -1)
    lowered = directions.entries[torch.arange(len(x)), :, column]
    move = torch.cat([-lowered, torch.ones_like(column)[:, None]], -1)
    step = _draw(plan, weights, x.gather(-1, index), index, move, uniform[:, 1:3])
    moved = x.scatter_add(-1, index, move * step)
    return moved, _exchanged(plan, directions, column, uniform[:, 3])


def _integer(uniform: Tensor, count: int) -> Tensor:
    """0..count-1."""
    return (uniform * count).long().clamp(max=count - 1)


def _choice(uniform: Tensor, score: Tensor) -> Tensor:
    """``(chains,)`` indices with probabilities proportional to ``exp(score)``, by inversion."""
    total = (score - score.amax(-1, keepdim=True)).exp().cumsum(-1)
    uniform = uniform.clamp(max=1 - torch.finfo(score.dtype).eps)
    return (total <= (uniform * total[:, -1])[:, None]).sum(-1)


def _move(plan: WalkPlan, uniform: Tensor) -> Tensor:
    """``(chains, p)`` one of the moves, or every second time a random combination of some."""
    moves = torch.as_tensor(plan.moves)
    count = len(moves)
    one = _integer(uniform[:, 0], count)
    if not plan.mixes:
        return moves[one]
    # Few of the moves or many, with sizes that fall off geometrically: any combination can come.
    is_mixed, share = uniform[:, 3] < 0.5, 2.0 ** _integer(2 * uniform[:, 3] % 1, 6) / count
    chosen = is_mixed[:, None] & (uniform[:, 4 : 4 + count] < share[:, None])
    noise = 2 * uniform[:, 4 + count :] - 1
    size = 1 + (-noise.abs().clamp(min=1e-9).log2() / 2).floor()
    factor = torch.where(chosen, noise.sign() * size, 0.0).to(moves.dtype)
    return factor.scatter(-1, one[:, None], 1) @ moves


def _draw(
    plan: WalkPlan, weights: LogWeights, x: Tensor, index: Tensor, move: Tensor, uniform: Tensor
) -> Tensor:
    """The t of ``x + t move`` from its conditional law, ``(chains, 1)``.

    Args:
        x: ``(chains, L)`` the values of the variables ``index``, of which ``move`` may leave some.
    """
    low, high = torch.as_tensor(plan.bounds[:, plan.active])[:, index]
    least, largest = _range(x, move, low, high)
    wide_index, lowest, highest = index[:, None], low[:, None], high[:, None]

    def score(steps: Tensor) -> Tensor:
        values = (x[:, None] + steps[..., None] * move[:, None]).clamp(lowest, highest)
        inside = (steps >= least) & (steps <= largest)
        return weights.at(wide_index, values).sum(-1).masked_fill(~inside, -torch.inf)

    start, end = least, largest
    for _ in range(plan.num_refinements):
        # Log weights of counts are concave along a line: their mass is where a grid finds it.
        stride = (end - start) // GRID + 1
        on_grid = score(start + stride * torch.arange(GRID))
        heavy = (on_grid >= on_grid.amax(-1, keepdim=True) - WINDOW_DROP).byte()
        first = heavy.argmax(-1, keepdim=True)
        last = GRID - 1 - heavy.flip(-1).argmax(-1, keepdim=True)
        start, end = (
            torch.maximum(start, start + stride * (first - 1)),
            torch.minimum(end, start + stride * (last + 1)),
        )
    if plan.num_refinements:
        # Mass wider than the window: a block of the line, placed at random around the point.
        block = -_integer(uniform[:, :1], plan.window)
        start = torch.where(end - start < plan.window, start, block)
    steps = start + torch.arange(plan.window)
    return steps.gather(-1, _choice(uniform[:, 1], score(steps))[:, None])


def _range(x: Tensor, move: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest t with ``low <= x + t move <= high``, ``(chains, 1)`` each."""
    size = move.abs().clamp(min=1)
    up = torch.where(move > 0, high - x, x - low) // size
    down = torch.where(move > 0, x - low, high - x) // size
    most = torch.iinfo(x.dtype).max
    least = -down.masked_fill(move == 0, most).amin(-1, keepdim=True)
    return least, up.masked_fill(move == 0, most).amin(-1, keepdim=True)


def _exchanged(
    plan: WalkPlan, directions: Directions, column: Tensor, uniform: Tensor
) -> Directions:
    """Column ``others[column]`` enters the basis, one of its circuit leaves: rarely a large one.

    The walk on bases does not look at x, so that every step keeps the law of x as it is.
    """
    basis, others, entries = directions
    chain, rank = torch.arange(len(basis)), basis.shape[-1]
    stay = torch.as_tensor(plan.stay_weight, dtype=uniform.dtype)
    entering, lowered = others[chain, column], entries[chain, :, column]
    scores = (-stay[basis]).masked_fill(lowered == 0, -torch.inf)
    row = _choice(uniform, torch.cat([scores, -stay[entering][:, None]], -1))
    stays, row = row == rank, row.clamp(max=rank - 1)
    pivot = entries[chain, row, column]
    pivot_row = pivot[:, None] * entries[chain, row]
    pivot_row[chain, column] = pivot
    changed = entries.clone()
    changed[chain, :, column] = 0
    changed -= lowered[:, :, None] * pivot_row[:, None]
    changed[chain, row] = pivot_row
    new_basis, new_others = basis.clone(), others.clone()
    new_basis[chain, row], new_others[chain, column] = entering, basis[chain, row]
    return Directions(
        torch.where(stays[:, None], basis, new_basis),
        torch.where(stays[:, None], others, new_others),
        torch.where(stays[:, None, None], entries, changed),
    )
