"""Laws of variables with finitely many values given ``A x = k``."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.distributions.discrete import ConstrainedDiscrete
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import expected, log_change
from numpyro_constrained.kernels.fiber.parts.part import FinitePart

__all__ = ["ConstrainedFinite"]


class ConstrainedFinite(ConstrainedDiscrete):
    """Independent variables with values 0..C-1 given A x = k."""

    @abstractmethod
    def _make_parts(self, parameter: Array, edge: Array | None = None) -> Sequence[FinitePart]: ...

    @abstractmethod
    def _log_table(self, parts: Sequence[Any]) -> Array:
        """``(*batch, n, C)`` log weights of all values."""

    def _probabilities(self, parts: Sequence[Any]) -> Array:
        """``(*batch, n, C)`` of all values."""
        return self._joined([part.probabilities for part in parts], 2)

    def _expected_log_weight(self, parts: Sequence[Any]) -> Array:
        return _average(self._probabilities(parts), self._log_table(parts))

    def _expected_log_ratio(self, parts: Sequence[Any], other: Any, others: Sequence[Any]) -> Array:
        tables = self._log_table(parts), other._log_table(others)
        ndim = max(table.ndim for table in tables)
        change = log_change(*(lift(table, ndim) for table in tables))
        return -_average(self._probabilities(parts), change)


def _average(table: Array, figures: Array) -> Array:
    """``(*batch,)`` expected sum of figures ``(*batch, n, C)`` of all values.

    Without finite figures of the least of probabilities, which may stand for none: of log odds that
    are the least number of the dtype it would be a part.
    """
    ndim = max(table.ndim, figures.ndim)
    table, figures = lift(table, ndim), lift(figures, ndim)
    is_least = table == jnp.finfo(table.dtype).tiny
    figures = jnp.where(is_least & jnp.isfinite(figures), 0.0, figures)
    return expected(table, figures).sum((-2, -1))
