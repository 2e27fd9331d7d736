"""Variables in no row of A: they follow their base law."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.inversion import choose
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.value_tables import exact_zeros, padded
from numpyro_constrained.kernels.fiber.parts.part import FinitePart, RatePart
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["Free", "FreePoisson"]


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

    def log_marginals(self, num_values: int) -> Array:
        return padded(self.table, num_values)


class FreePoisson(RatePart):
    """Poisson variables in no row.

    Args:
        variables: their indices.
        rate: ``(*batch, p)``.
        mass: by which values are scored.
    """

    def __init__(self, variables: np.ndarray, rate: Array, mass: PoissonMass) -> None:
        self.variables, self.rate, self.mass = variables, rate, mass

    def log_partition(self) -> Array:
        return jnp.zeros(self.rate.shape[:-1], self.rate.dtype)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        shape = tuple(sample_shape) + self.rate.shape
        rate = jnp.broadcast_to(lift(stop_gradient(self.rate), len(shape)), shape)
        return jax.random.poisson(key, rate)

    @property
    def mean(self) -> Array:
        return self.rate

    @property
    def variance(self) -> Array:
        return self.rate

    def log_marginals(self, num_values: int) -> Array:
        table = self.mass.table(self.rate, self.log_weight, num_values)
        return table - self.mass.log_sum(self.rate)[..., None]
