"""Log probabilities of single values of a trellis, however small, and which of them are possible.

With V as in ``trellis_sums`` and F_j(s) the log of the sum over all paths from the start to state s
of stage j, log P(x_j = u) is log sum_s exp(F_j(s) + theta_j(u) + V_{j+1}(next_j(s, u))) - V_0. All
of it stays in log space, where the derivative of V_0 in theta, which is the same probability,
loses what is below the least number of the dtype.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.groups import Groups
from pyro_constrained.kernels.arrays.log_space import log_sum_exp
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.fiber.trellis import Table, entries, messages, one_step, tables_of

__all__ = ["log_marginals", "possible_values", "reduced_by_value"]


@outside_graphs
def log_marginals(trellis: Trellis, theta: Tensor, start: Tensor) -> Tensor:
    """``(*batch, q, U)`` log probability of every value of every column, differentiable; NaN where
    there is no point.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        start: ``(*batch,)`` states of stage 0.
    """
    largest = theta.detach().amax(-1, keepdim=True)
    theta = theta - largest.masked_fill(largest.isinf(), 0.0)  # small sums keep their digits
    found = _by_values(trellis, theta, start, log_sum_exp)
    return found - log_sum_exp(found)[..., None]


@outside_graphs
@torch.no_grad()
def possible_values(trellis: Trellis, theta: Tensor, start: Tensor) -> Tensor:
    """``(*batch, q, U)`` whether a value of a column is on a path without weights of zero."""
    weights = torch.where(theta > -torch.inf, 0.0, -torch.inf).to(theta.dtype)
    return _by_values(trellis, weights, start, torch.amax) > -torch.inf


def _by_values(
    trellis: Trellis, theta: Tensor, start: Tensor, reduce: Callable[..., Tensor]
) -> Tensor:
    """``(*batch, q, U)`` what is reduced over all paths by a value of a column."""
    batch_shape = broadcast_shapes(theta.shape[:-2], start.shape)
    theta = expanded(theta, batch_shape + theta.shape[-2:])
    first, *later = messages(trellis, theta, reduce)
    origin = expanded(start, batch_shape)[..., None]
    stage = torch.full_like(first, -torch.inf).scatter(-1, origin, 0.0)
    tables = (tables_of(trellis, theta.device, is_back) for is_back in (False, True))
    rows = []
    for table, back, weights, after in zip(*tables, theta.unbind(-2), later, strict=True):
        terms = stage[..., :-1, None] + entries(after, table[0])
        rows.append(reduced_by_value(terms, table, weights.shape[-1], reduce) + weights)
        stage = one_step(stage, back, weights, reduce)
    return torch.stack(rows, -2)


def reduced_by_value(
    terms: Tensor, table: Table, num_values: int, reduce: Callable[..., Tensor]
) -> Tensor:
    """``(*batch, S, W)`` terms of a table reduced over those of one value: ``(*batch, U)``."""
    _, values = table
    if values is None:
        found = reduce(terms, -2)
        return pad(found, (0, num_values - found.shape[-1]), value=-torch.inf)
    terms, index = terms.flatten(-2), values.reshape(-1)
    nothing = terms.new_full(terms.shape[:-1] + (num_values,), -torch.inf)
    where = index.expand(terms.shape)
    largest = nothing.scatter_reduce(-1, where, terms.detach(), "amax")
    if reduce is torch.amax:
        return largest
    shift = largest.masked_fill(largest == -torch.inf, 0.0)
    groups = Groups(index, num_values)
    total = groups.totals((terms - groups.members(shift)).exp())
    is_zero = total == 0
    return (total.masked_fill(is_zero, 1.0).log() + shift).masked_fill(is_zero, -torch.inf)
