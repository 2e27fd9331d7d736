"""Laws of variables with finitely many values given ``A x = k``."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from jax import Array

from numpyro_constrained.distributions.discrete import ConstrainedDiscrete
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import expected
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

    def _expected_log_weight(self, other: Any) -> Array:
        table = other._joined([part.probabilities for part in other._parts], 2)
        ndim = max(table.ndim, self._log_table.ndim)
        return expected(lift(table, ndim), lift(self._log_table, ndim)).sum((-2, -1))
