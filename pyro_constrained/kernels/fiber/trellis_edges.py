"""Derivatives in weights that are zero: rates of 0, probabilities of exactly 0 and 1.

A weight w may grow from zero, and sums over paths are polynomials in it; in log space that is lost.
Here a sum is ``exp(M) f``, with M a constant and f a number: 1 with the derivative of the sum where
it is positive, 0 with a derivative where all paths have a weight of zero. Values are those of
``trellis_sums``; derivatives of any order are right, in all weights.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.compiled import outside_graphs
from pyro_constrained.kernels.arrays.derivatives import outside_inference, slopes_of
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.fiber.trellis import Table, entries, tables_of

__all__ = ["log_change", "log_partition", "marginals"]


@outside_graphs
def log_partition(trellis: Trellis, theta: Tensor, edge: Tensor, start: Tensor) -> Tensor:
    """As ``trellis_sums.log_partition``: log of the sum of the weights of all paths.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights.
        edge: ``(*batch, q, U)`` weights where these are -inf: zeros with a derivative.
        start: ``(*batch,)`` states of stage 0.
    """
    batch_shape = broadcast_shapes(theta.shape[:-2], edge.shape[:-2], start.shape)
    index = expanded(start, batch_shape)[..., None]
    scale, figure = (
        expanded(stage, batch_shape + stage.shape[-1:]).gather(-1, index)[..., 0]
        for stage in _first_stage(trellis, theta, edge)
    )
    is_zero = figure <= 0
    return (scale + figure.masked_fill(is_zero, 1.0).log()).masked_fill(is_zero, -torch.inf)


@outside_graphs
def marginals(trellis: Trellis, theta: Tensor, edge: Tensor, start: Tensor) -> Tensor:
    """As ``trellis_sums.marginals``: ``(*batch, q, U)`` probabilities of the values."""
    batch_shape = broadcast_shapes(theta.shape[:-2], edge.shape[:-2], start.shape)
    with outside_inference():
        # Copies: one may be made from the other, and derivatives here are in each alone.
        theta, edge = (expanded(w, batch_shape + w.shape[-2:]).clone() for w in (theta, edge))
        value = lambda theta, edge: log_partition(trellis, theta, edge, start)  # noqa: E731
        slope, at_zero = slopes_of(value, (theta, edge))
        found = torch.where(theta > -torch.inf, slope, edge * at_zero)
        total = found.sum(-1, keepdim=True)
        is_none = total == 0  # of which NaN spoils no derivative of others
        return (found / total.masked_fill(is_none, 1.0)).masked_fill(is_none, torch.nan)


def log_change(trellis: Trellis, theta: Tensor, edge: Tensor, start: Tensor) -> Tensor:
    """Zeros, with the derivatives of ``trellis_marginals.log_marginals`` in the edges."""
    found = marginals(trellis, theta.detach(), edge, start)
    plain = found.detach()
    return (found - plain) / plain.masked_fill(~(plain > 0), 1.0)


def _first_stage(trellis: Trellis, theta: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """``(*batch, S + 1)`` M and f of the states of the first stage, the last one dead."""
    is_zero = theta == -torch.inf
    finite = theta.masked_fill(is_zero, 0.0)
    figure = torch.where(is_zero, edge, (finite - finite.detach()).exp())
    one = torch.ones_like(figure[..., 0, :1])
    stage = _with_dead_state(torch.zeros_like(one), one)
    weights = zip(finite.detach().unbind(-2), figure.unbind(-2), strict=True)
    columns = list(zip(tables_of(trellis, theta.device), weights, strict=True))
    for table, own in reversed(columns):
        stage = _step(stage, table, own)
    return stage


def _step(
    later: tuple[Tensor, Tensor], table: Table, weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """From one stage to that of the states of a table."""
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
    # So that the product of two weights is finite still.
    most = math.log(torch.finfo(terms.dtype).max) / 2
    weight = (terms.detach() - finite[..., None]).clamp(max=most).exp()
    total = (weight * figures).sum(-1)
    size = total.detach().masked_fill(total <= 0, 1.0)
    return _with_dead_state(scale + size.log(), total / size)


def _with_dead_state(scale: Tensor, figure: Tensor) -> tuple[Tensor, Tensor]:
    return pad(scale, (0, 1), value=-torch.inf), pad(figure, (0, 1))
