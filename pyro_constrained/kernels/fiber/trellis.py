"""Sums, draws and marginals over the lattice points of a trellis, in log space.

With V = 0 at the last stage and V_j(s) = log sum_u exp(theta_j(u) + V_{j+1}(next_j(s, u))), the
log of the sum over all paths from a start is V_0(start). A weight of zero (theta = -inf) and a
state without a way on (V = -inf) are right in value and in gradient.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.derivatives import outside_inference, slope_of
from pyro_constrained.kernels.arrays.errors import require_possible
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.inspection import outside_transforms
from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.log_space import log_sum_exp
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace

__all__ = [
    "Table",
    "draw",
    "entries",
    "log_partition",
    "marginals",
    "messages",
    "one_step",
    "tables_of",
    "with_dead_state",
]

Table = tuple[Tensor, Tensor | None]
_TABLES: WeakKeyDictionary[Trellis, dict[tuple, list[Table]]] = WeakKeyDictionary()


@outside_graphs
def messages(
    trellis: Trellis, theta: Tensor, reduce: Callable[..., Tensor] = log_sum_exp
) -> list[Tensor]:
    """V of every stage; the last entry of a stage is the dead state, -inf.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weight of every value of every column; values that a column
            does not take are ignored.
        reduce: what is taken over the ways on.

    Returns:
        ``(*batch, S_j + 1)`` of every stage.
    """
    stage = with_dead_state(theta.new_zeros(theta.shape[:-2] + (1,)))
    stages = [stage]
    columns = zip(tables_of(trellis, theta.device), theta.unbind(-2), strict=True)
    for table, weights in reversed(list(columns)):
        stage = one_step(stage, table, weights, reduce)
        stages.append(stage)
    return stages[::-1]


def one_step(stage: Tensor, table: Table, weights: Tensor, reduce: Callable[..., Tensor]) -> Tensor:
    """From one stage ``(*batch, S' + 1)`` to that of the states of a table, ``(*batch, S + 1)``."""
    states, values = table
    own = weights[..., None, : states.shape[1]] if values is None else entries(weights, values)
    return with_dead_state(reduce(entries(stage, states) + own, -1))


def entries(stage: Tensor, table: Tensor) -> Tensor:
    """``(*batch, S')`` to ``(*batch, S, W)``: those at the indices of a table."""
    found = Groups(table.reshape(-1), stage.shape[-1]).members(stage)
    return found.unflatten(-1, table.shape)


def log_partition(trellis: Trellis, theta: Tensor, start: Tensor) -> Tensor:
    """Log of the sum of the weights of all paths.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of stage 0.

    Returns:
        ``(*batch,)``.
    """
    batch_shape = broadcast_shapes(theta.shape[:-2], start.shape)
    return _at(messages(trellis, theta)[0], start.expand(batch_shape)[..., None])[..., 0]


@outside_graphs
@torch.no_grad()
def draw(
    trellis: Trellis, theta: Tensor, start: Tensor, sample_shape: tuple[int, ...] = ()
) -> Tensor:
    """Exact draws of the values of all columns, ``(*sample_shape, *batch, q)``."""
    batch_shape = broadcast_shapes(theta.shape[:-2], start.shape)
    state = start.expand(tuple(sample_shape) + batch_shape)
    first, *stages = messages(trellis, theta)
    require_possible(_at(first, state[..., None]) > -torch.inf)
    drawn = []
    columns = zip(tables_of(trellis, theta.device), theta.unbind(-2), stages, strict=True)
    for (table, values), weights, stage in columns:
        after = _rows(table, state)
        its = None if values is None else _rows(values, state)
        own = weights[..., : table.shape[1]] if its is None else _at(weights, its)
        terms = _at(stage, after) + own
        # Forwards, P(value | state) is the term of the value over the sum of all of them.
        place = choose((terms - terms.amax(-1, keepdim=True)).exp().movedim(-1, 0))
        place = place[..., None]
        drawn.append((place if its is None else its.gather(-1, place))[..., 0])
        state = after.gather(-1, place)[..., 0]
    return torch.stack(drawn, -1)


@outside_graphs
def marginals(trellis: Trellis, theta: Tensor, start: Tensor) -> Tensor:
    """``(*batch, q, U)`` probability of every value of every column, differentiable again; NaN
    where there is no point.

    It is the derivative of the log partition function in the log weights. Those below the least
    number of the dtype are 0: ``trellis_marginals`` has them all, at a higher price.
    """
    batch_shape = broadcast_shapes(theta.shape[:-2], start.shape)
    with outside_inference():
        theta = expanded(theta, batch_shape + theta.shape[-2:])
        slope = slope_of(lambda weights: log_partition(trellis, weights, start), theta)
        total = slope.sum(-1, keepdim=True)  # one, but for rounding
        return slope / total.masked_fill(total == 0, torch.nan)


def _at(stage: Tensor, index: Tensor) -> Tensor:
    """Entries of ``stage`` ``(*batch, S + 1)`` at ``index`` ``(*shape, *batch, size)``."""
    return expanded(stage, index.shape[:-1] + stage.shape[-1:]).gather(-1, index)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]``; without a look at a single number, which ``vmap`` does not allow."""
    return table.index_select(0, index.reshape(-1)).reshape(index.shape + table.shape[1:])


def with_dead_state(stage: Tensor) -> Tensor:
    """With -inf as one more state."""
    return torch.nn.functional.pad(stage, (0, 1), value=-torch.inf)


@quiet_under_trace
def tables_of(trellis: Trellis, device: torch.device, is_back: bool = False) -> list[Table]:
    """The transitions ``(S_j, W_j)`` of every column, or the ways back, and their values, or None
    where every state begins with value 0; made once per plan and device."""
    tables = _TABLES.setdefault(trellis, {})
    key = device, is_back
    if key not in tables:
        firsts, states = trellis.before if is_back else (trellis.first, trellis.next)
        largest = (trellis.num_values - 1).tolist()
        with outside_transforms():
            tables[key] = [
                (
                    torch.as_tensor(table, dtype=torch.int64, device=device),
                    torch.as_tensor(
                        np.minimum(first[:, None] + np.arange(table.shape[1]), last),
                        dtype=torch.int64,
                        device=device,
                    )
                    if first.any()
                    else None,
                )
                for first, table, last in zip(firsts, states, largest, strict=True)
            ]
    return tables[key]
