"""Derivatives in weights that are zero: rates of 0, probabilities of exactly 0 and 1.

A weight w may grow from zero, and sums over walks are polynomials in it; in log space that is lost.
Here a sum is ``exp(M) f``, with M a constant and f a number: 1 with the derivative of the sum where
it is positive, 0 with a derivative where all walks have a weight of zero. Values are those of
``fibre_chain``; derivatives of any order are right, in all weights.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fibre import FibreChain
from pyro_constrained.kernels.fibre_chain import Table, entries, tables_of
from pyro_constrained.kernels.shapes import broadcast_shapes, expanded

__all__ = ["log_partition", "marginals"]


@torch.compiler.disable
def log_partition(chain: FibreChain, theta: Tensor, edge: Tensor, start: Tensor) -> Tensor:
    """``fibre_chain.log_partition``.

    Args:
        chain: the plan.
        theta: ``(*batch, q, U)`` log weights.
        edge: ``(*batch, q, U)`` weights where these are -inf: zeros with a derivative.
        start: ``(*batch,)`` states of level 0.
    """
    batch_shape = broadcast_shapes(theta.shape[:-2], edge.shape[:-2], start.shape)
    index = expanded(start, batch_shape)[..., None]
    scale, figure = (
        expanded(level, batch_shape + level.shape[-1:]).gather(-1, index)[..., 0]
        for level in _first_level(chain, theta, edge)
    )
    is_zero = figure <= 0
    return (scale + figure.masked_fill(is_zero, 1.0).log()).masked_fill(is_zero, -torch.inf)


@torch.compiler.disable
def marginals(chain: FibreChain, theta: Tensor, edge: Tensor, start: Tensor) -> Tensor:
    """``fibre_chain.marginals``."""
    batch_shape = broadcast_shapes(theta.shape[:-2], edge.shape[:-2], start.shape)
    with torch.enable_grad():
        # Copies: one may be made from the other, and derivatives here are in each alone.
        theta, edge = (expanded(w, batch_shape + w.shape[-2:]).clone() for w in (theta, edge))
        total = log_partition(chain, theta, edge, start).sum()
        slope, at_zero = torch.autograd.grad(
            total, (theta, edge), create_graph=True, materialize_grads=True
        )
        found = torch.where(theta > -torch.inf, slope, edge * at_zero)
        total = found.sum(-1, keepdim=True)
        is_none = total == 0  # of which NaN spoils no derivative of others
        return (found / total.masked_fill(is_none, 1.0)).masked_fill(is_none, torch.nan)


def _first_level(chain: FibreChain, theta: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """``(*batch, S + 1)`` M and f of the states of the first level, the last one dead."""
    is_zero = theta == -torch.inf
    finite = theta.masked_fill(is_zero, 0.0)
    figure = torch.where(is_zero, edge, (finite - finite.detach()).exp())
    one = torch.ones_like(figure[..., 0, :1])
    level = _with_dead_state(torch.zeros_like(one), one)
    weights = zip(finite.detach().unbind(-2), figure.unbind(-2), strict=True)
    columns = list(zip(tables_of(chain, theta.device), weights, strict=True))
    for table, own in reversed(columns):
        level = _step(level, table, own)
    return level


def _step(
    later: tuple[Tensor, Tensor], table: Table, weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """From one level to that of the states of a table."""
    states, values = table
    own = (
        weight[..., None, : states.shape[1]] if values is None else entries(weight, values)
        for weight in weights
    )
    (scale, figure), (log_weight, change) = later, own
    terms = entries(scale, states) + log_weight
    figures = entries(figure, states) * change
    heaviest = terms.masked_fill(figures <= 0, -torch.inf).amax(-1)
    # Where all are zero: the scale of what may grow.
    scale = torch.where(heaviest > -torch.inf, heaviest, terms.amax(-1)).detach()
    finite = scale.masked_fill(scale == -torch.inf, 0.0)
    most = math.log(torch.finfo(terms.dtype).max) / 2
    weight = (terms.detach() - finite[..., None]).clamp(max=most).exp()
    total = (weight * figures).sum(-1)
    size = total.detach().masked_fill(total <= 0, 1.0)
    return _with_dead_state(scale + size.log(), total / size)


def _with_dead_state(scale: Tensor, figure: Tensor) -> tuple[Tensor, Tensor]:
    return pad(scale, (0, 1), value=-torch.inf), pad(figure, (0, 1))
