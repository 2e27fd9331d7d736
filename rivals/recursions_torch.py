"""PyTorch: exactly-k by the plain recursion over items in log space, to compare with.

With a(i, j) the log probability that j of the first i items are in,
a(i, j) = log(e^(a(i-1, j) + log(1 - p_i)) + e^(a(i-1, j-1) + log p_i)): n steps of k operations,
whatever the batch.

References:
    Ahmed, Zeng, Niepert, Van den Broeck (2023), *SIMPLE: A gradient estimator for k-subset
    sampling*.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

__all__ = ["draw", "log_normaliser"]


def _table(logits: Tensor, k: int) -> list[Tensor]:
    """a(i, 0..k), ``(*batch, k + 1)``, for i = 0..n."""
    start = torch.zeros(logits.shape[:-1] + (1,)).to(logits)
    rows = [pad(start, (0, k), value=-1e30)]  # -inf twice has no gradient
    outs, ins = logsigmoid(-logits).unbind(-1), logsigmoid(logits).unbind(-1)
    for is_out, is_in in zip(outs, ins, strict=True):
        taken = pad(rows[-1][..., :-1], (1, 0), value=-1e30)
        rows.append(torch.logaddexp(rows[-1] + is_out[..., None], taken + is_in[..., None]))
    return rows


def log_normaliser(logits: Tensor, k: int) -> Tensor:
    """``(*batch,)`` log probability of exactly k."""
    return _table(logits, k)[-1][..., k]


@torch.no_grad()
def draw(logits: Tensor, k: int) -> Tensor:
    """``(*batch, n)`` exact draws, from the last item to the first."""
    rows, log_in = _table(logits, k), logsigmoid(logits)
    left = torch.full(logits.shape[:-1] + (1,), k, device=logits.device)
    found = torch.zeros_like(logits)
    for i in reversed(range(logits.shape[-1])):
        taken = rows[i].gather(-1, (left - 1).clamp_min(0)) + log_in[..., i, None]
        share = torch.exp(taken - rows[i + 1].gather(-1, left)).masked_fill(left == 0, 0.0)
        is_in = torch.rand_like(share) < share
        left = left - is_in.long()
        found[..., i] = is_in[..., 0].to(found.dtype)
    return found
