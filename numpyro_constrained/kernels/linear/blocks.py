"""Blocks of variables that share a factor of their scale, and what the law says of each.

A figure of the B blocks is ``(*batch, B)``.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.linear.conditional import Conditional
from numpyro_constrained.kernels.linear.partition import Partition
from numpyro_constrained.kernels.linear.root_conditional import DiagonalConditional

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

    rank: Any
    free_size: Any
    half_log_det: Array
    constraint_half_log_det: Array
    log_range_volume: Any
    surprise: Array

    _law: Conditional

    @property
    def is_traced(self) -> bool:
        """Whether anything here belongs to a trace."""
        return self._law.is_traced

    @abstractmethod
    def distance(self, value: Array) -> Array:
        """Squared length of ``value - mean`` in the metric of the conditional covariance."""

    @abstractmethod
    def members(self, figures: Array) -> Array:
        """``(*batch, n)``, or ``(*batch, 1)``: the figure of every variable's block."""


class OneBlock(Blocks):
    """All variables."""

    def __init__(self, law: Conditional) -> None:
        self._law, constraint = law, law.constraint
        self.rank, self.free_size = _last(constraint.rank), _last(constraint.free_size)
        self.half_log_det = law.half_log_det[..., None]
        self.constraint_half_log_det = law.constraint_half_log_det[..., None]
        self.log_range_volume = _last(constraint.matrix.log_range_volume)
        self.surprise = law.surprise[..., None]

    def distance(self, value: Array) -> Array:
        return self._law.distance(value)[..., None]

    def members(self, figures: Array) -> Array:
        return figures


def _last(figure: Any) -> Any:
    return figure if isinstance(figure, int) else figure[..., None]


class GroupBlocks(Blocks):
    """Each group of a ``GroupSum``, of which the law is diagonal."""

    _law: DiagonalConditional

    def __init__(self, law: DiagonalConditional, partition: Partition) -> None:
        self._law, self._groups = law, partition.groups
        self.rank, self.free_size = partition.rank, partition.free_size
        self.log_range_volume = partition.log_norms
        weights = lift(partition.unit_weights, law.scale.ndim)
        white = self._groups.totals(jnp.square(weights * law.scale))
        white = jnp.where(lift(partition.rank > 0, white.ndim), white, 1.0)
        self.constraint_half_log_det = 0.5 * jnp.log(white)
        left = self._groups.totals(jnp.log(law.scale)) - self.constraint_half_log_det
        self._is_point = partition.free_size == 0
        self.half_log_det = jnp.where(lift(self._is_point, left.ndim), 0.0, left)
        self.surprise = self._groups.totals(jnp.square(law.white_gap))

    def distance(self, value: Array) -> Array:
        distance = self._groups.totals(jnp.square(self._law.white_deviation(value)))
        return jnp.where(lift(self._is_point, distance.ndim), 0.0, distance)

    def members(self, figures: Array) -> Array:
        return self._groups.members(figures)
