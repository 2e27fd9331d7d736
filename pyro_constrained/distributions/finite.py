"""Laws of variables with finitely many values given ``A x = k``."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_constrained.distributions.discrete import ConstrainedDiscrete
from pyro_constrained.kernels.fibre_parts import FinitePart
from pyro_constrained.kernels.logarithms import expected

__all__ = ["ConstrainedFinite"]


class ConstrainedFinite(ConstrainedDiscrete):
    """Independent variables with values 0..C-1 given A x = k."""

    _parts: Sequence[FinitePart]

    @property
    @abstractmethod
    def _log_table(self) -> Tensor:
        """``(*batch, n, C)`` log weights of all values."""

    def _expected_log_weight(self, other: Any) -> Tensor:
        table = other._joined([part.probabilities for part in other._parts], -2)
        return expected(table, self._log_table).sum((-2, -1))
