"""Variables that the parameters give one value only."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from constrained_core.fiber.plan import FixedVariables
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.fiber.parts.part import FinitePart, Part, RatePart
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["Fixed", "FixedCounts"]


class _OneValue(Part):
    """Variables of which one value has probability 1.

    Args:
        fixed: the plan.
        parameter: of the law; NaN where it is another than the plan was made for.
        event_dims: its event dimensions.
        batch_shape: that of the answers.
    """

    def __init__(
        self,
        fixed: FixedVariables,
        parameter: Array,
        event_dims: int,
        batch_shape: tuple[int, ...],
    ) -> None:
        self.variables: np.ndarray = fixed.variables
        self._batch_shape, self._values, self._dtype = batch_shape, fixed.values, parameter.dtype
        is_unknown = jnp.isnan(parameter).any(tuple(range(-event_dims, 0)))
        is_unknown = lift(is_unknown, len(batch_shape))[..., None]
        self._is_unknown = jnp.broadcast_to(is_unknown, (*batch_shape, 1))

    def log_partition(self) -> Array:
        return jnp.zeros(self._batch_shape, self._dtype)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        values = self._full(tuple(sample_shape)).astype(jnp.result_type(int))
        return jnp.where(self._is_unknown, -1, values)

    def _full(self, sample_shape: tuple[int, ...]) -> Array:
        shape = sample_shape + self._batch_shape
        values = self._values.reshape((1,) * len(shape) + (-1,)).astype(self._dtype)
        return jnp.broadcast_to(values, shape + values.shape[-1:])

    @property
    def mean(self) -> Array:
        return jnp.where(self._is_unknown, jnp.nan, self._full(()))

    @property
    def variance(self) -> Array:
        return 0.0 * self.mean

    def log_marginals(self, num_values: int) -> Array:
        is_own = np.arange(num_values) == self._values[:, None]
        table = np.where(is_own, 0.0, -np.inf).astype(self._dtype)
        table = table.reshape((1,) * len(self._batch_shape) + table.shape)
        return jnp.where(self._is_unknown[..., None], jnp.nan, table)


class Fixed(_OneValue, FinitePart):
    """Variables with finitely many values, of which one has probability 1.

    Args:
        fixed, batch_shape: as above.
        table: ``(*batch, n, v)`` of the law, for every value.
    """

    def __init__(self, fixed: FixedVariables, table: Array, batch_shape: tuple[int, ...]) -> None:
        super().__init__(fixed, table, 2, batch_shape)
        self._num_values = table.shape[-1]

    @property
    def probabilities(self) -> Array:
        return jnp.exp(self.log_marginals(self._num_values))


class FixedCounts(_OneValue, RatePart):
    """Poisson variables of rate 0.

    A law that was made with rates of 0 does not know their derivatives: they are NaN.

    Args:
        fixed: the plan.
        rate: ``(*batch, f)`` zeros.
        mass: that of the other parts.
    """

    def __init__(self, fixed: FixedVariables, rate: Array, mass: PoissonMass) -> None:
        super().__init__(fixed, rate, 1, rate.shape[:-1])
        self.rate, self.mass = _without_derivative(rate), mass

    def log_partition(self) -> Array:
        return -self.rate.sum(-1)


@jax.custom_jvp
def _without_derivative(value: Array) -> Array:
    return value


@_without_derivative.defjvp
def _unknown(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return primals[0], jnp.nan * tangents[0]
