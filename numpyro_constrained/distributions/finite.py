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

    @property
    @abstractmethod
    def _log_table(self) -> Array:
        """``(*batch, n, C)`` log weights of all values."""

    @property
    def _probabilities(self) -> Array:
        """``(*batch, n, C)`` of all values."""
        parts: Sequence[Any] = self._parts
        return self._joined([part.probabilities for part in parts], 2)

    def _expected_log_weight(self) -> Array:
        return _average(self._probabilities, self._log_table)

    def _expected_log_ratio(self, other: Any) -> Array:
        ndim = max(self._log_table.ndim, other._log_table.ndim)
        tables = (lift(law._log_table, ndim) for law in (self, other))
        return -_average(self._probabilities, log_change(*tables))


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
