"""Laws of variables with finitely many values given ``A x = k``."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_constrained.distributions.discrete import ConstrainedDiscrete
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.log_space import expected, is_there, log_change
from pyro_constrained.kernels.fiber.parts.part import FinitePart

__all__ = ["ConstrainedFinite"]


@in_full_precision
class ConstrainedFinite(ConstrainedDiscrete):
    """Independent variables with values 0..C-1 given A x = k."""

    _parts: Sequence[FinitePart]

    @property
    @abstractmethod
    def _edge(self) -> Tensor | None:
        """``(*batch, n, C)`` probabilities that are zero, as zeros with a derivative; None where no
        derivative in them is asked for."""

    def _edges_of(self, variables: np.ndarray) -> Tensor | None:
        """Those of some variables."""
        if self._edge is None:
            return None
        return self._edge.index_select(-2, torch.as_tensor(variables, device=self._edge.device))

    @property
    @abstractmethod
    def _log_table(self) -> Tensor:
        """``(*batch, n, C)`` log weights of all values."""

    @property
    def _probabilities(self) -> Tensor:
        """``(*batch, n, C)`` of all values."""
        return self._joined([part.probabilities for part in self._parts], -2)

    def _expected_log_weight(self) -> Tensor:
        return _average(self._probabilities, self._log_table)

    def _expected_log_ratio(self, other: Any) -> Tensor:
        return -_average(self._probabilities, log_change(self._log_table, other._log_table))


def _average(table: Tensor, figures: Tensor) -> Tensor:
    """``(*batch,)`` expected sum of figures ``(*batch, n, C)`` of all values.

    Without finite figures of the least of probabilities, which may stand for none: of log odds that
    are the least number of the dtype it would be a part.
    """
    is_least = table == torch.finfo(table.dtype).tiny
    if is_there(is_least):
        figures = figures.masked_fill(is_least & figures.isfinite(), 0.0)
    return expected(table, figures).sum((-2, -1))
