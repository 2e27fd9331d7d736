"""The independent parts of a discrete law given ``A x = k``, each with its own exact method.

A part has ``variables``, their indices in x, and answers for them alone: values and moments are
``(*batch, p)``, tables of log probabilities ``(*batch, p, U)``.
"""

from abc import ABC, abstractmethod

import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.log_space import expected, safe_log
from numpyro_constrained.kernels.arrays.value_tables import mean_of, variance_of
from numpyro_constrained.kernels.fiber.covariance import settled
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["FinitePart", "Part", "PoissonPart", "RatePart"]


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
        """``(*batch, p)`` of every variable."""

    @property
    @abstractmethod
    def variance(self) -> Array:
        """``(*batch, p)`` of every variable."""

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

    @property
    def mean(self) -> Array:
        return mean_of(self.probabilities)

    @property
    def variance(self) -> Array:
        return variance_of(self.probabilities)


class PoissonPart(Part):
    """Poisson variables, of which values are scored by their masses."""

    mass: PoissonMass

    @property
    @abstractmethod
    def weight(self) -> Array:
        """``(*batch, p)`` w."""

    @property
    @abstractmethod
    def log_weight(self) -> Array:
        """``(*batch, p)`` log w, also where w is below the least number of the dtype."""

    @property
    @abstractmethod
    def is_positive(self) -> Array:
        """``(*batch, p)`` whether a variable can be more than 0."""

    def expected_log_mass(self, num_values: int) -> Array:
        """``(*batch, p)`` expected log mass of values 0..U-1."""
        table = self.mass.table(self.weight, self.log_weight, num_values)
        found = self.log_marginals(num_values)
        return expected(jnp.exp(found), lift(table, found.ndim)).sum(-1)


class RatePart(PoissonPart):
    """Poisson variables of which weights are rates, unless said."""

    rate: Array

    @property
    def weight(self) -> Array:
        return self.rate

    @property
    def log_weight(self) -> Array:
        return safe_log(self.rate)

    @property
    def is_positive(self) -> Array:
        return self.rate > 0

    def log_weight_sum(self) -> Array:
        return self.log_partition() + self.mass.log_sum(self.rate).sum(-1)
