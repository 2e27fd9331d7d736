"""PyTorch: what others do for exactly-k subsets, to compare with; not in the library.

Each function gives one draw per row of the logits, zeros and ones that sum to k.
"""

import torch
from torch import Tensor

__all__ = ["gumbel_top_k"]


def _gumbel_like(logits: Tensor) -> Tensor:
    return -torch.log(torch.empty_like(logits).exponential_())


def _hard_top_k(scores: Tensor, k: int) -> Tensor:
    return torch.zeros_like(scores).scatter(-1, scores.topk(k, -1).indices, 1.0)


def gumbel_top_k(logits: Tensor, k: int) -> Tensor:
    """k items without replacement: the k largest perturbed logits. Not the law given the sum."""
    return _hard_top_k(logits.detach() + _gumbel_like(logits), k)
