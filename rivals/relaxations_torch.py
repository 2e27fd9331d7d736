"""PyTorch: other gradient estimators of exactly-k subsets, to compare with; not in the library.

Each function gives one draw per row of the logits, zeros and ones that sum to k (relaxed: positive
numbers that do), with a gradient of its own.
"""

from typing import Any

import torch
from torch import Tensor

from pyro_constrained import ConstrainedBernoulli

__all__ = ["gumbel_top_k", "implicit_mle", "relaxed_top_k", "straight_through"]


def _gumbel_like(logits: Tensor) -> Tensor:
    return -torch.log(torch.empty_like(logits).exponential_())


def _hard_top_k(scores: Tensor, k: int) -> Tensor:
    return torch.zeros_like(scores).scatter(-1, scores.topk(k, -1).indices, 1.0)


def gumbel_top_k(logits: Tensor, k: int) -> Tensor:
    """k items without replacement: the k largest perturbed logits. Not the law given the sum."""
    return _hard_top_k(logits.detach() + _gumbel_like(logits), k)


def relaxed_top_k(logits: Tensor, k: int, temperature: float) -> Tensor:
    """Relaxed subsets: k softmaxes in turn, each of what the ones before have left.

    Entries may exceed one: of two nearly equal scores each is taken by half, and again by half.

    References:
        Xie, Ermon (2019), *Reparameterizable subset sampling via continuous relaxations*.
    """
    scores, total = logits + _gumbel_like(logits), torch.zeros_like(logits)
    tiny = torch.finfo(logits.dtype).tiny
    for _ in range(k):
        share = torch.softmax(scores / temperature, -1)
        total = total + share
        scores = scores + torch.log((1 - share).clamp_min(tiny))
    return total


def straight_through(logits: Tensor, k: int) -> Tensor:
    """An exact draw forward, the identity backward, as if the draw were the logits.

    References:
        Bengio, Leonard, Courville (2013), *Estimating or propagating gradients through stochastic
        neurons for conditional computation*.
    """
    law = ConstrainedBernoulli(logits=logits.detach(), A=torch.ones(logits.shape[-1]), k=k)
    return law.sample() + (logits - logits.detach())


class _ImplicitMLE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, noise: Tensor, k: int, strength: float) -> Tensor:
        draw = _hard_top_k(logits + noise, k)
        ctx.save_for_backward(logits, noise, draw)
        ctx.k, ctx.strength = k, strength
        return draw

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]  # one output
        logits, noise, draw = ctx.saved_tensors
        improved = _hard_top_k(logits + noise - ctx.strength * gradient, ctx.k)
        return (draw - improved) / ctx.strength, None, None, None


def implicit_mle(logits: Tensor, k: int, strength: float, num_terms: int = 10) -> Tensor:
    """The most likely subset of perturbed logits; backward, how it would change downhill.

    The noise is a sum of Gammas, such that k of them sum to about a Gumbel variable.

    References:
        Niepert, Minervini, Franceschi (2021), *Implicit MLE: Backpropagating through discrete
        exponential family distributions*.
    """
    shape = torch.full(logits.shape + (num_terms,), 1 / k).to(logits)
    scale = k / torch.arange(1, num_terms + 1).to(logits)
    noise = (torch._standard_gamma(shape) * scale).sum(-1) - torch.tensor(float(num_terms)).log()
    return _ImplicitMLE.apply(logits, noise / k, k, strength)
