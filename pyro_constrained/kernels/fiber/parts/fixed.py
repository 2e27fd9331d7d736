"""Variables that the parameters give one value only."""

import numpy as np
import torch
from torch import Tensor

from constrained_core.fiber.plan import FixedVariables
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.fiber.parts.part import FinitePart, Part, RatePart
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["Fixed", "FixedCounts"]


class _OneValue(Part):
    """Variables of which one value has probability 1.

    Args:
        fixed: the plan.
        like: ``(*batch, ...)`` a tensor of the law.
        batch_shape: of the law.
    """

    def __init__(self, fixed: FixedVariables, like: Tensor, batch_shape: torch.Size) -> None:
        self.variables: np.ndarray = fixed.variables
        self._batch_shape, self._values = batch_shape, plan_tensor(fixed, "values", like)

    def log_partition(self) -> Tensor:
        return self._values.new_zeros(self._batch_shape)

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return expanded(self._values, (*sample_shape, *self._batch_shape, len(self._values)))

    @property
    def mean(self) -> Tensor:
        return self.draw(())

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def log_marginals(self, num_values: int) -> Tensor:
        value = torch.arange(num_values, device=self._values.device)
        is_other = value != self._values[:, None]
        table = self._values.new_zeros(is_other.shape).masked_fill(is_other, -torch.inf)
        return expanded(table, self._batch_shape + table.shape)


class Fixed(_OneValue, FinitePart):
    """Variables with finitely many values, of which one has probability 1.

    Args:
        fixed, like, batch_shape: as above.
        num_values: of the base law.
    """

    def __init__(
        self, fixed: FixedVariables, like: Tensor, batch_shape: torch.Size, num_values: int
    ) -> None:
        super().__init__(fixed, like, batch_shape)
        self._num_values = num_values

    @property
    def probabilities(self) -> Tensor:
        return self.log_marginals(self._num_values).exp()


class FixedCounts(_OneValue, RatePart):
    """Poisson variables of rate 0.

    Args:
        fixed: the plan.
        rate: ``(*batch, f)`` zeros.
        mass: that of the other parts.
    """

    def __init__(self, fixed: FixedVariables, rate: Tensor, mass: PoissonMass) -> None:
        super().__init__(fixed, rate, rate.shape[:-1])
        self.rate, self.mass = rate, mass

    def log_partition(self) -> Tensor:
        return -self.rate.sum(-1)
