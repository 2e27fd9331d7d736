"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.trellis import Trellis
from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.log_space import is_there
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.value_tables import (
    exact_zeros,
    mean_of,
    padded,
    values_of,
    variance_of,
)
from pyro_constrained.kernels.fiber import groups as fiber_groups
from pyro_constrained.kernels.fiber import trellis as trellis_sums
from pyro_constrained.kernels.fiber import trellis_edges, trellis_marginals
from pyro_constrained.kernels.fiber.covariance import derivative_of_means, settled

__all__ = ["BernoulliGroups", "BernoulliTrellis", "FinitePart", "Free", "Part", "TrellisPart"]


class Part(ABC):
    """Variables that are independent of all others given ``A x = k``.

    Where the parameters leave no point, moments and tables are NaN.
    """

    variables: np.ndarray

    @abstractmethod
    def log_partition(self) -> Tensor:
        """``(*batch,)`` log probability of this part of the constraint."""

    def log_weight_sum(self) -> Tensor:
        """``(*batch,)`` log sum of the weights by which ``log_prob`` scores this part's values;
        probabilities unless said."""
        return self.log_partition()

    @abstractmethod
    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        """Exact draws, ``(*sample_shape, *batch, p)``."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``(*batch, p)``."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``(*batch, p)``."""

    @property
    def covariance(self) -> Tensor:
        """``(*batch, p, p)``; no variable depends on another unless said."""
        return settled(self.variance.new_zeros((1, 1)), self.variance)

    @abstractmethod
    def log_marginals(self, num_values: int) -> Tensor:
        """``(*batch, p, U)`` log probability of 0..U-1, of however small ones."""


class FinitePart(Part):
    """Variables with finitely many values by their base law."""

    @property
    @abstractmethod
    def probabilities(self) -> Tensor:
        """``(*batch, p, U)`` of 0..U-1, zero exactly where a value is impossible."""


class Free(FinitePart):
    """Variables in no row, with finitely many values: they follow their base law.

    Args:
        variables: their indices.
        table: ``(*batch, p, U)`` log probabilities.
        edge: ``(*batch, p, U)`` those of zero, as zeros with a derivative, or None.
    """

    def __init__(self, variables: np.ndarray, table: Tensor, edge: Tensor | None = None) -> None:
        self.variables, self.table, self._edge = variables, table, edge

    def log_partition(self) -> Tensor:
        return self.table.new_zeros(self.table.shape[:-2])

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        table = self.table.detach().exp()
        weights = table.expand(tuple(sample_shape) + table.shape).movedim(-1, 0)
        return choose(weights).to(table.dtype)

    @property
    def probabilities(self) -> Tensor:
        found = self.table.exp()
        found = found if self._edge is None else found + self._edge
        return exact_zeros(found, self.table > -torch.inf)

    @property
    def mean(self) -> Tensor:
        return mean_of(self.probabilities)

    @property
    def variance(self) -> Tensor:
        return variance_of(self.probabilities)

    def log_marginals(self, num_values: int) -> Tensor:
        return padded(self.table, num_values)


class BernoulliGroups(FinitePart):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(
        self, groups: DisjointGroups, logits: Tensor, counts: Tensor, capacity: int
    ) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, counts, capacity

    def _ask(self, function: Callable[..., Tensor], logits: Tensor) -> Tensor:
        return function(self.groups, logits, self.counts, self.capacity)

    def log_partition(self) -> Tensor:
        return self._ask(fiber_groups.bernoulli_log_partition, self.logits)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        logits = self.logits.detach()
        return fiber_groups.bernoulli_draw(
            self.groups, logits, self.counts, self.capacity, sample_shape
        )

    @cached_property
    def probabilities(self) -> Tensor:
        return self._ask(fiber_groups.bernoulli_marginals, self.logits)

    @property
    def mean(self) -> Tensor:
        return self.probabilities[..., 1]

    @property
    def variance(self) -> Tensor:
        return variance_of(self.probabilities)

    @property
    def covariance(self) -> Tensor:
        def tables(logits: Tensor, t: Tensor) -> Tensor:
            return self._ask(fiber_groups.bernoulli_marginals, logits + t)

        # One member of every group at a time: groups do not depend on each other.
        index, members = self.groups.index, self.groups.members
        slot = np.nonzero(members < len(index))[1][np.argsort(members[members < len(index)])]
        directions = torch.as_tensor(slot == np.arange(members.shape[1])[:, None]).to(self.logits)
        size = self.probabilities.numel() * (1 + self.capacity)
        found = derivative_of_means(tables, self.logits, directions, size)
        found = found.index_select(-1, torch.as_tensor(slot, device=found.device))
        is_other = torch.as_tensor(index != index[:, None], device=found.device)
        return settled(found.masked_fill(is_other, 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Tensor:
        table = self._ask(fiber_groups.bernoulli_log_marginals, self.logits)
        return padded(table, num_values)


class TrellisPart(FinitePart):
    """Variables whose rows overlap, by the dynamic programme over the columns.

    Args:
        trellis: the plan.
        theta: ``(*batch, q, U)`` log weights of the values of every column.
        start: ``(*batch,)``.
        edge: ``(*batch, q, U)`` weights where these are -inf, zeros with a derivative; None where
            no derivative in them is asked for.
    """

    def __init__(
        self, trellis: Trellis, theta: Tensor, start: Tensor, edge: Tensor | None = None
    ) -> None:
        self.variables, self.trellis = trellis.variables, trellis
        self.theta, self.start, self.edge = theta, start, edge

    def _of_variables(self, figures: Tensor, dim: int = -2) -> Tensor:
        column = plan_tensor(self.trellis, "column", self.theta, torch.int64)
        return figures.index_select(dim, column)

    def log_partition(self) -> Tensor:
        return self._log_sum()

    def _log_sum(self) -> Tensor:
        if self.edge is None:
            return trellis_sums.log_partition(self.trellis, self.theta, self.start)
        return trellis_edges.log_partition(self.trellis, self.theta, self.edge, self.start)

    @cached_property
    def _stages(self) -> Tensor:
        """``(*batch, q, U)`` probabilities of the values of the stages."""
        if self.edge is None:
            return trellis_sums.marginals(self.trellis, self.theta, self.start)
        return trellis_edges.marginals(self.trellis, self.theta, self.edge, self.start)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return self._of_variables(self._draw_columns(sample_shape), -1)

    def _draw_columns(self, sample_shape: tuple[int, ...]) -> Tensor:
        theta = self.theta.detach()
        return trellis_sums.draw(self.trellis, theta, self.start, sample_shape).to(theta.dtype)

    @property
    def _marginals(self) -> Tensor:
        """``(*batch, q, U)`` of the columns."""
        return self._stages

    @cached_property
    def _possible(self) -> Tensor:
        """``(*batch, q, U)`` whether a column can have a value."""
        return trellis_marginals.possible_values(self.trellis, self.theta, self.start)

    def _may_underflow(self) -> bool:
        """Whether a point may have a probability below the least number of the dtype."""
        least = self.theta.masked_fill(self.theta == -torch.inf, torch.inf).amin(-1)
        reach = (self.theta.amax(-1) - least).sum(-1) + np.log(self.trellis.num_values).sum()
        return is_there(~(reach < -np.log(torch.finfo(reach.dtype).tiny)))

    @cached_property
    def _exact(self) -> Tensor:
        """``_marginals`` with zeros exactly where a value is impossible."""
        found = self._marginals
        if not is_there(~((found > 0) & (found < 1))):
            return found
        return exact_zeros(found, self._possible if self._may_underflow() else found > 0)

    @property
    def probabilities(self) -> Tensor:
        return self._of_variables(self._exact)

    @property
    def _column_mean(self) -> Tensor:
        """``(*batch, q)`` of the columns."""
        return mean_of(self._marginals)

    def _column_log_marginals(self) -> Tensor:
        """``(*batch, q, U)`` of the columns."""
        found = trellis_marginals.log_marginals(self.trellis, self.theta, self.start)
        return found if self.edge is None else found + self._log_change()

    def _log_change(self) -> Tensor:
        """Zeros, with the derivatives of log probabilities in weights that are zero."""
        theta, edge = self.theta.detach(), self.edge
        assert edge is not None
        found = trellis_edges.marginals(self.trellis, theta, edge, self.start)
        plain = found.detach()
        return (found - plain) / plain.masked_fill(~(plain > 0), 1.0)

    @property
    def mean(self) -> Tensor:
        return self._of_variables(self._column_mean, -1)

    @property
    def variance(self) -> Tensor:
        return self._of_variables(variance_of(self._marginals), -1)

    @property
    def covariance(self) -> Tensor:
        return self._of_variables(self._of_variables(self._column_covariance), -1)

    @property
    def _column_covariance(self) -> Tensor:
        """``(*batch, q, q)`` of the values of the columns."""

        def tables(theta: Tensor, t: Tensor) -> Tensor:
            added = t[..., None] * values_of(theta.shape[-1], theta)
            if self.edge is None:
                return trellis_sums.marginals(self.trellis, theta + added, self.start)
            edge = self.edge * added.exp()
            return trellis_edges.marginals(self.trellis, theta + added, edge, self.start)

        variance = variance_of(self._marginals)
        directions = torch.eye(self.trellis.num_columns, device=variance.device).to(variance)
        size = self.trellis.num_transitions * variance[..., 0].numel()
        return settled(derivative_of_means(tables, self.theta, directions, size), variance)

    def log_marginals(self, num_values: int) -> Tensor:
        return padded(self._of_variables(self._column_log_marginals()), num_values)


class BernoulliTrellis(TrellisPart):
    """A trellis of Bernoulli variables."""

    @property
    def mean(self) -> Tensor:
        return self.probabilities[..., 1]

    @property
    def variance(self) -> Tensor:
        return variance_of(self.probabilities)
