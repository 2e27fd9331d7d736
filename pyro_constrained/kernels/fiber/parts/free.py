"""Variables in no row of A: they follow their base law."""

import numpy as np
import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inversion import choose
from pyro_constrained.kernels.arrays.value_tables import exact_zeros, padded
from pyro_constrained.kernels.fiber.parts.part import FinitePart, RatePart
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["Free", "FreePoisson"]


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

    def log_marginals(self, num_values: int) -> Tensor:
        return padded(self.table, num_values)


class FreePoisson(RatePart):
    """Poisson variables in no row.

    Args:
        variables: their indices.
        rate: ``(*batch, p)``.
        mass: by which values are scored.
    """

    def __init__(self, variables: np.ndarray, rate: Tensor, mass: PoissonMass) -> None:
        self.variables, self.rate, self.mass = variables, rate, mass

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate

    def log_partition(self) -> Tensor:
        return self.rate.new_zeros(self.rate.shape[:-1])

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        return torch.poisson(self.rate.detach().expand(tuple(sample_shape) + self.rate.shape))

    def log_marginals(self, num_values: int) -> Tensor:
        table = self.mass.table(self.rate, self.log_weight, num_values)
        return table - self.mass.log_sum(self.rate)[..., None]
