"""The graph network that all methods share."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.charges.batches import Batch

__all__ = ["ChargeNetwork"]

SMALLEST_SCALE = 1e-4
"""In e."""


class ChargeNetwork(nn.Module):
    """Location and scale of the charge of every class, from its element and its surroundings.

    Rounds of message passing with a residual: a class hears the sums of its neighbours' states,
    weighted by a filter of the bond length for each channel, and the mean state of the crystal, and
    passes them with its own state through two layers. The last layer before the heads hears the
    mean state once more.

    Args:
        usual_charge: ``(E,)`` mean charge of each element in the training crystals, the start.
        num_features: F, features of a bond, of which the first is 1.
        width: of a state.
        num_rounds: of message passing.
    """

    def __init__(
        self, usual_charge: Tensor, num_features: int, width: int, num_rounds: int
    ) -> None:
        super().__init__()
        self.register_buffer("usual_charge", usual_charge)
        self.embedding = nn.Embedding(len(usual_charge), width)
        self.rounds = nn.ModuleList(Round(num_features, width) for _ in range(num_rounds))
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.context = nn.Linear(width, width, bias=False)
        self.heads = nn.Linear(width, 2)
        self.log_df = nn.Parameter(torch.tensor(2.0))  # of Student-t laws, the same for all
        with torch.no_grad():
            self.heads.weight.mul_(0.1)
            self.heads.bias.copy_(torch.tensor([0.0, -3.0]))

    def features(self, batch: Batch) -> Tensor:
        """``(m, width)`` what the heads are linear in."""
        state = self.embedding(batch.element)
        for each in self.rounds:
            state = state + each(state, batch)
        state = self.norm(state)
        return functional.silu(self.hidden(state) + _of_crystal(self.context, state, batch))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(m,)`` location and scale in e."""
        location, scale = self.heads(self.features(batch)).unbind(-1)
        location = self.usual_charge[batch.element] + location
        return location, functional.softplus(scale) + SMALLEST_SCALE


class Round(nn.Module):
    """One round of message passing."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.filter = nn.Parameter(0.3 * torch.randn(num_features - 1, width))
        self.hidden = nn.Linear(2 * width, width)
        self.context = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, state: Tensor, batch: Batch) -> Tensor:
        """What to add to the state ``(m, width)``."""
        state = self.norm(state)
        heard = _Heard.apply(state, self.filter, batch)
        hidden = self.hidden(torch.cat([state, heard], -1))
        return self.out(functional.silu(hidden + _of_crystal(self.context, state, batch)))


def _of_crystal(layer: nn.Linear, state: Tensor, batch: Batch) -> Tensor:
    """``(m, width)`` a layer's view of the mean state of the atoms of a class's crystal."""
    empty = state.new_zeros(batch.neutral.num_groups, state.shape[-1])
    mean = empty.index_add(0, batch.owner, state * batch.share)
    return layer(mean).index_select(0, batch.owner)


class _Heard(torch.autograd.Function):
    """Filtered sums over neighbours: ``(adjacency[0] + sum_f filter[f] adjacency[f]) state``.

    Bonds between two classes are as many seen from either side, so that ``size * adjacency[f]`` is
    symmetric: the product in the backward pass has the same sparse matrix.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, filters: Tensor, batch: Batch) -> Tensor:
        sums = (batch.adjacency @ state).view(-1, *state.shape)
        ctx.save_for_backward(sums, filters)
        ctx.batch = batch
        return _filtered(sums, filters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (gradient,) = gradients
        sums, filters = ctx.saved_tensors
        size = ctx.batch.size
        back = (ctx.batch.adjacency @ (gradient / size)).view(sums.shape)
        to_filters = torch.stack([(each * gradient).sum(0) for each in sums[1:]])
        return _filtered(back, filters).mul_(size), to_filters, None


def _filtered(sums: Tensor, filters: Tensor) -> Tensor:
    total = sums[0].clone()
    for each, weight in zip(sums[1:], filters, strict=True):
        total.addcmul_(each, weight)
    return total
