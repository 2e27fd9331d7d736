"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.trellis import Trellis
from numpyro_constrained.kernels.arrays.inversion import choose
from numpyro_constrained.kernels.arrays.leaves import where_needed
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.arrays.value_tables import (
    exact_zeros,
    mean_of,
    padded,
    values_of,
    variance_of,
)
from numpyro_constrained.kernels.fiber import groups as fiber_groups
from numpyro_constrained.kernels.fiber import trellis as trellis_sums
from numpyro_constrained.kernels.fiber import trellis_edges, trellis_marginals
from numpyro_constrained.kernels.fiber.covariance import derivative_of_means, settled

__all__ = ["BernoulliGroups", "BernoulliTrellis", "FinitePart", "Free", "Part", "TrellisPart"]


class Part(ABC):
    """Variables that are independent of all others given ``A x = k``.

    Where the parameters leave no point, moments and tables are NaN.
    """

    variables: np.ndarray

    @abstractmethod
    def log_partition(self) -> Array:
        """``(*batch,)`` log probability of this part of the constraint."""

    def log_weight_sum(self) -> Array:
        """``(*batch,)`` log sum of the weights by which ``log_prob`` scores this part's values;
        probabilities unless said."""
        return self.log_partition()

    @abstractmethod
    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        """Exact draws, ``(*sample_shape, *batch, p)``."""

    @property
    @abstractmethod
    def mean(self) -> Array:
        """``(*batch, p)``."""

    @property
    @abstractmethod
    def variance(self) -> Array:
        """``(*batch, p)``."""

    @property
    def covariance(self) -> Array:
        """``(*batch, p, p)``; no variable depends on another unless said."""
        variance = self.variance
        return settled(jnp.zeros((1,) * (variance.ndim + 1), variance.dtype), variance)

    @abstractmethod
    def log_marginals(self, num_values: int) -> Array:
        """``(*batch, p, U)`` log probability of 0..U-1, of however small ones."""


class FinitePart(Part):
    """Variables with finitely many values by their base law."""

    @property
    @abstractmethod
    def probabilities(self) -> Array:
        """``(*batch, p, U)`` of 0..U-1, zero exactly where a value is impossible."""


class Free(FinitePart):
    """Variables in no row, with finitely many values: they follow their base law.

    Args:
        variables: their indices.
        table: ``(*batch, p, U)`` log probabilities.
        edge: ``(*batch, p, U)`` those of zero, as zeros with a derivative, or None.
    """

    def __init__(self, variables: np.ndarray, table: Array, edge: Array | None = None) -> None:
        self.variables, self.table, self._edge = variables, table, edge

    def log_partition(self) -> Array:
        return jnp.zeros(self.table.shape[:-2], self.table.dtype)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        weights = jnp.moveaxis(jnp.exp(stop_gradient(self.table)), -1, 0)
        shape = weights.shape[:1] + tuple(sample_shape) + weights.shape[1:]
        weights = weights.reshape(
            weights.shape[:1] + (1,) * len(tuple(sample_shape)) + weights.shape[1:]
        )
        return choose(key, jnp.broadcast_to(weights, shape))

    @property
    def probabilities(self) -> Array:
        found = jnp.exp(self.table)
        if self._edge is not None:
            found = found + lift(self._edge, found.ndim)
        return exact_zeros(found, self.table > -jnp.inf)

    @property
    def mean(self) -> Array:
        return mean_of(self.probabilities)

    @property
    def variance(self) -> Array:
        return variance_of(self.probabilities)

    def log_marginals(self, num_values: int) -> Array:
        return padded(self.table, num_values)


class BernoulliGroups(FinitePart):
    """Bernoulli variables whose sums are given: exactly k of each group.

    Args:
        groups: the plan.
        logits: ``(*batch, p)``.
        counts: ``(*batch, g)``.
        capacity: at least the number of ones, or of zeros if they are fewer, of every group.
    """

    def __init__(self, groups: DisjointGroups, logits: Array, counts: Any, capacity: int) -> None:
        self.variables, self.groups = groups.variables, groups
        self.logits, self.counts, self.capacity = logits, jnp.asarray(counts), capacity

    def _ask(self, function: Callable[..., Array], logits: Array) -> Array:
        return function(self.groups, logits, self.counts, self.capacity)

    def log_partition(self) -> Array:
        return self._ask(fiber_groups.bernoulli_log_partition, self.logits)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape)
        return fiber_groups.bernoulli_draw(
            key, self.groups, self.logits, self.counts, self.capacity, shape
        )

    @property
    def probabilities(self) -> Array:
        return self._ask(fiber_groups.bernoulli_marginals, self.logits)

    @property
    def mean(self) -> Array:
        return self.probabilities[..., 1]

    @property
    def variance(self) -> Array:
        return variance_of(self.probabilities)

    @property
    def covariance(self) -> Array:
        def tables(t: Array) -> Array:
            logits = self.logits + lift(t, self.logits.ndim)
            return self._ask(fiber_groups.bernoulli_marginals, logits)

        # One member of every group at a time: groups do not depend on each other.
        index, members = self.groups.index, self.groups.members
        slot = np.nonzero(members < len(index))[1][np.argsort(members[members < len(index)])]
        directions = slot == np.arange(members.shape[1])[:, None]
        found = derivative_of_means(tables, self.logits, directions)[..., slot]
        is_same = (index == index[:, None]).reshape((1,) * (found.ndim - 2) + (index.size,) * 2)
        return settled(jnp.where(is_same, found, 0.0), self.variance)

    def log_marginals(self, num_values: int) -> Array:
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
        self, trellis: Trellis, theta: Array, start: Any, edge: Array | None = None
    ) -> None:
        self.variables, self.trellis = trellis.variables, trellis
        self.theta, self.start, self.edge = theta, jnp.asarray(start), edge

    def log_partition(self) -> Array:
        return self._log_sum()

    def _log_sum(self) -> Array:
        if self.edge is None:
            return trellis_sums.log_partition(self.trellis, self.theta, self.start)
        return trellis_edges.log_partition(self.trellis, self.theta, self.edge, self.start)

    def _stages(self) -> Array:
        """``(*batch, q, U)`` probabilities of the values of the stages."""
        if self.edge is None:
            return trellis_sums.marginals(self.trellis, self.theta, self.start)
        return trellis_edges.marginals(self.trellis, self.theta, self.edge, self.start)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._draw_columns(key, sample_shape)[..., plan_index(self.trellis, "column")]

    def _draw_columns(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return trellis_sums.draw(key, self.trellis, self.theta, self.start, sample_shape)

    def _of_variables(self, figures: Array, axis: int = -2) -> Array:
        return jnp.take(figures, plan_index(self.trellis, "column"), axis=axis)

    def _marginals(self) -> Array:
        """``(*batch, q, U)`` of the columns."""
        return self._stages()

    @property
    def _possible(self) -> Array:
        """``(*batch, q, U)`` whether a column can have a value."""
        return trellis_marginals.possible_values(self.trellis, self.theta, self.start)

    @property
    def _may_underflow(self) -> Array:
        """Whether a point may have a probability below the least number of the dtype."""
        theta = stop_gradient(self.theta)
        least = jnp.where(theta == -jnp.inf, jnp.inf, theta).min(-1)
        log_walks = float(np.log(self.trellis.num_values).sum())
        reach = (theta.max(-1) - least).sum(-1) + log_walks
        return ~(reach < -jnp.log(jnp.finfo(reach.dtype).tiny)).all()

    @property
    def _exact(self) -> Array:
        """``_marginals`` with zeros exactly where a value is impossible."""
        found = self._marginals()
        is_unsure = (found <= 0).any() & self._may_underflow
        possible = where_needed(is_unsure, lambda: self._possible, lambda: found > 0)
        return exact_zeros(found, possible)

    @property
    def probabilities(self) -> Array:
        return self._of_variables(self._exact)

    @property
    def _column_mean(self) -> Array:
        """``(*batch, q)`` of the columns."""
        return mean_of(self._marginals())

    def _column_log_marginals(self) -> Array:
        """``(*batch, q, U)`` of the columns."""
        found = trellis_marginals.log_marginals(self.trellis, self.theta, self.start)
        if self.edge is None:
            return found
        return found + trellis_edges.log_change(self.trellis, self.theta, self.edge, self.start)

    @property
    def mean(self) -> Array:
        return self._of_variables(self._column_mean, -1)

    @property
    def variance(self) -> Array:
        return self._of_variables(variance_of(self._marginals()), -1)

    @property
    def covariance(self) -> Array:
        return self._of_variables(self._of_variables(self._column_covariance), -1)

    @property
    def _column_covariance(self) -> Array:
        """``(*batch, q, q)`` of the values of the columns."""

        def tables(t: Array) -> Array:
            t = lift(t[:, None], self.theta.ndim)
            added = t * values_of(self.theta.shape[-1], t, t.ndim)
            if self.edge is None:
                return trellis_sums.marginals(self.trellis, self.theta + added, self.start)
            edge = self.edge * jnp.exp(added)
            return trellis_edges.marginals(self.trellis, self.theta + added, edge, self.start)

        found = derivative_of_means(tables, self.theta, np.eye(self.trellis.num_columns))
        return settled(found, variance_of(self._marginals()))

    def log_marginals(self, num_values: int) -> Array:
        return padded(self._of_variables(self._column_log_marginals()), num_values)


class BernoulliTrellis(TrellisPart):
    """A trellis of Bernoulli variables."""

    @property
    def mean(self) -> Array:
        return self.probabilities[..., 1]

    @property
    def variance(self) -> Array:
        return variance_of(self.probabilities)
