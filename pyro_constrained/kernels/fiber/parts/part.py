"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import expected, is_there, safe_log
from pyro_constrained.kernels.arrays.value_tables import mean_of, variance_of
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["FinitePart", "Part", "PoissonPart", "RatePart"]


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
        """``(*batch, p)`` of every variable."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``(*batch, p)`` of every variable."""

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

    @property
    def mean(self) -> Tensor:
        return mean_of(self.probabilities)

    @property
    def variance(self) -> Tensor:
        return variance_of(self.probabilities)


class PoissonPart(Part):
    """Poisson variables, of which values are scored by their masses."""

    mass: PoissonMass

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """``(*batch, p)`` w."""

    @property
    @abstractmethod
    def log_weight(self) -> Tensor:
        """``(*batch, p)`` log w, also where w is below the least number of the dtype."""

    @property
    @abstractmethod
    def has_tiny(self) -> bool:
        """Whether a weight may be zero, or below the least number."""

    @property
    @abstractmethod
    def is_positive(self) -> Tensor:
        """``(*batch, p)`` whether a variable can be more than 0."""

    def expected_log_mass(self, num_values: int) -> Tensor:
        """``(*batch, p)`` expected log mass of values 0..U-1."""
        table = self.mass.table(self.weight, self.log_weight, num_values)
        return expected(self.log_marginals(num_values).exp(), table).sum(-1)


class RatePart(PoissonPart):
    """Poisson variables of which weights are rates, unless said."""

    rate: Tensor

    @property
    def weight(self) -> Tensor:
        return self.rate

    @lazy_property
    def has_tiny(self) -> bool:
        return is_there(self.rate == 0)

    @property
    def log_weight(self) -> Tensor:
        return safe_log(self.rate) if self.has_tiny else self.rate.log()

    @property
    def is_positive(self) -> Tensor:
        return self.rate > 0

    def log_weight_sum(self) -> Tensor:
        return self.log_partition() + self.mass.log_sum(self.rate).sum(-1)
