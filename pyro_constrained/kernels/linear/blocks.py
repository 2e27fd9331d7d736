"""Blocks of variables that share a factor of their scale, and what the law says of each.

Figures of B blocks are ``(*batch, B)``, of one block ``(*batch,)``: their ``shape`` follows that of
the batch.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from pyro_constrained.kernels.linear.conditional import Conditional
from pyro_constrained.kernels.linear.partition import Partition
from pyro_constrained.kernels.linear.root_conditional import DiagonalConditional

__all__ = ["Blocks", "GroupBlocks", "OneBlock"]


class Blocks(ABC):
    """Blocks that are independent but for what they share in their parameters.

    Attributes:
        shape: of the blocks.
        rank: of the rows of each.
        free_size: dimension of the subspace of each.
        half_log_det: 1/2 log pdet of the conditional covariance.
        constraint_half_log_det: 1/2 log(det A Sigma A' / det A A').
        log_range_volume: 1/2 log pdet A A'.
        surprise: (k - A loc)' (A Sigma A')^-1 (k - A loc).
    """

    shape: tuple[int, ...]
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

    @abstractmethod
    def each(self, figure: Tensor) -> Tensor:
        """A figure ``(*batch,)`` of the law as one of every block."""

    @abstractmethod
    def total(self, figures: Tensor) -> Tensor:
        """``(*batch,)`` sum over the blocks."""


class OneBlock(Blocks):
    """All variables."""

    def __init__(self, law: Conditional) -> None:
        self._law, constraint = law, law.constraint
        self.shape, self.rank, self.free_size = (), constraint.real_rank, constraint.free_size
        self.log_range_volume = constraint.matrix.log_range_volume

    @property
    def half_log_det(self) -> Tensor:  # type: ignore[override]
        return self._law.half_log_det

    @property
    def constraint_half_log_det(self) -> Tensor:  # type: ignore[override]
        return self._law.constraint_half_log_det

    @property
    def surprise(self) -> Tensor:  # type: ignore[override]
        return self._law.surprise

    def distance(self, value: Tensor) -> Tensor:
        return self._law.distance(value)

    def members(self, figures: Tensor) -> Tensor:
        return figures.unsqueeze(-1)

    def each(self, figure: Tensor) -> Tensor:
        return figure

    def total(self, figures: Tensor) -> Tensor:
        return figures


class GroupBlocks(Blocks):
    """Each group of a ``GroupSum``, of which the law is diagonal."""

    def __init__(self, law: DiagonalConditional, partition: Partition) -> None:
        self._law, self._groups = law, partition.groups
        self.shape = partition.rank.shape
        self.rank, self.free_size = partition.rank, partition.free_size
        self.log_range_volume = partition.log_norms
        white = self._groups.totals((partition.unit_weights * law.scale).square())
        self.constraint_half_log_det = 0.5 * white.masked_fill(partition.rank == 0, 1.0).log()
        self._is_point = partition.free_size == 0
        left = self._groups.totals(law.scale.log()) - self.constraint_half_log_det
        self.half_log_det = left.masked_fill(self._is_point, 0.0)
        self.surprise = self._groups.totals(law.white_gap.square())

    def distance(self, value: Tensor) -> Tensor:
        distance = self._groups.totals(self._law.white_deviation(value).square())
        return distance.masked_fill(self._is_point, 0.0)

    def members(self, figures: Tensor) -> Tensor:
        return self._groups.members(figures)

    def each(self, figure: Tensor) -> Tensor:
        return figure.unsqueeze(-1)

    def total(self, figures: Tensor) -> Tensor:
        return figures.sum(-1)
