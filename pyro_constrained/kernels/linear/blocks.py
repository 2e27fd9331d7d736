"""Blocks of variables that share a factor of their scale, and what the law says of each.

A figure of the B blocks is ``(*batch, B)``.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.distributions.utils import lazy_property

from constrained_core import GroupSum
from pyro_constrained.kernels.arrays.groups import plan_groups
from pyro_constrained.kernels.linear.conditional import Conditional, DiagonalConditional

__all__ = ["Blocks", "GroupBlocks", "OneBlock"]


class Blocks(ABC):
    """Blocks that are independent but for what they share in their parameters.

    Attributes:
        rank: of the rows of each.
        free_size: dimension of the subspace of each.
        half_log_det: 1/2 log pdet of the conditional covariance.
        constraint_half_log_det: 1/2 log(det A Sigma A' / det A A').
        log_range_volume: 1/2 log pdet A A'.
        surprise: (k - A loc)' (A Sigma A')^-1 (k - A loc).
    """

    rank: int | Tensor
    free_size: int | Tensor
    half_log_det: Tensor
    constraint_half_log_det: Tensor
    log_range_volume: Tensor | float
    surprise: Tensor

    @abstractmethod
    def distance(self, value: Tensor) -> Tensor:
        """Squared length of ``value - mean`` in the metric of the conditional covariance."""

    @abstractmethod
    def members(self, figures: Tensor) -> Tensor:
        """``(*batch, n)``, or ``(*batch, 1)``: the figure of every variable's block."""


class OneBlock(Blocks):
    """All variables."""

    def __init__(self, law: Conditional) -> None:
        self._law, constraint = law, law.constraint
        self.rank, self.free_size = _last(constraint.rank), _last(constraint.free_size)
        self.half_log_det = law.half_log_det[..., None]
        self.constraint_half_log_det = law.constraint_half_log_det[..., None]
        self.log_range_volume = _last(constraint.matrix.log_range_volume)

    @property
    def surprise(self) -> Tensor:  # type: ignore[override]
        return self._law.surprise[..., None]

    def distance(self, value: Tensor) -> Tensor:
        return self._law.distance(value)[..., None]

    def members(self, figures: Tensor) -> Tensor:
        return figures


def _last(figure):
    return figure[..., None] if isinstance(figure, Tensor) else figure


class GroupBlocks(Blocks):
    """Each group of a ``GroupSum``, of which the law is diagonal."""

    rank: Tensor
    free_size: Tensor

    def __init__(self, law: DiagonalConditional, groups: GroupSum) -> None:
        self._law, like = law, law.loc
        self._groups = plan_groups(groups, "index", groups.num_groups, like)
        given = np.ones(len(groups.index)) if groups.weights is None else groups.weights
        norms = np.sqrt(np.bincount(groups.index, given**2, minlength=groups.num_groups))
        size = np.bincount(groups.index, minlength=groups.num_groups)
        has_row = norms > 0
        self.rank = torch.as_tensor(has_row).to(like)
        self.free_size = torch.as_tensor(size - has_row).to(like)
        self.log_range_volume = torch.as_tensor(np.log(np.where(has_row, norms, 1.0))).to(like)
        weights = given / np.where(has_row, norms, 1.0)[groups.index]  # of length one in each group
        white = self._groups.totals((torch.as_tensor(weights).to(like) * law.scale).square())
        self.constraint_half_log_det = 0.5 * white.masked_fill(self.rank == 0, 1.0).log()
        left = self._groups.totals(law.scale.log()) - self.constraint_half_log_det
        self.half_log_det = left.masked_fill(self.free_size == 0, 0.0)

    @lazy_property
    def surprise(self) -> Tensor:
        return self._groups.totals(self._law.white_gap.square())

    def distance(self, value: Tensor) -> Tensor:
        distance = self._groups.totals(self._law.white_deviation(value).square())
        return distance.masked_fill(self.free_size == 0, 0.0)

    def members(self, figures: Tensor) -> Tensor:
        return self._groups.members(figures)
