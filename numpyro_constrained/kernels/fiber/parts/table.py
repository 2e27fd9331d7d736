"""Tables of Poisson counts with independent rows and columns, given all row and column sums.

The law is the generalised hypergeometric one, prod R_i! prod C_j! / (N! prod x_ij!), whatever the
rates: everything has a closed form, at any size. For derivatives, ``rate_ij = r_i c_j exp(t_ij)``:
what is said here holds at t = 0 together with its derivatives in t, of first order, and of second
order for probabilities: x has covariances S in closed form, and the law of a cell moves as if it
were tilted by ``(S t)_ij / S_ij,ij``.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

from constrained_core.fiber.known import PRODUCT_EPS
from constrained_core.fiber.tables import TwoWayTable
from numpyro_constrained.kernels.arrays.hypergeometric import log_hypergeometric, table_draw
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.arrays.poisson_pmf import log_poisson
from numpyro_constrained.kernels.arrays.value_tables import values_of
from numpyro_constrained.kernels.fiber.covariance import settled
from numpyro_constrained.kernels.fiber.parts.part import PoissonPart
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["IndependentTable", "is_product"]


class IndependentTable(PoissonPart):
    """The cells of a table.

    Args:
        table: the plan.
        rate: ``(*batch, p)``, products of one factor for each row and one for each column.
        margins: ``(*batch, R + C)`` row sums, then column sums.
        largest: ``(R + C,)`` bounds of them.
        mass: by which values are scored.
    """

    def __init__(
        self, table: TwoWayTable, rate: Array, margins: Any, largest: np.ndarray, mass: PoissonMass
    ) -> None:
        self.variables, self.table, self.mass = table.variables, table, mass
        ndim = max(rate.ndim, margins.ndim)
        self.rate, self._largest = lift(rate, ndim), largest
        margins = jnp.asarray(lift(margins, ndim)).astype(rate.dtype)
        self._rows, self._columns = margins[..., : table.shape[0]], margins[..., table.shape[0] :]

    @property
    def _total(self) -> Array:
        """``(*batch, 1)`` sum of all cells."""
        return self._rows.sum(-1, keepdims=True)

    @property
    def _sums(self) -> tuple[Array, Array]:
        """``(*batch, p)`` the row sum and the column sum of every cell."""
        row, column = plan_index(self.table, "row"), plan_index(self.table, "column")
        return self._rows[..., row], self._columns[..., column]

    @property
    def _expected(self) -> Array:
        """``(*batch, p)`` the means at t = 0."""
        in_row, in_column = self._sums
        return in_row * (in_column / jnp.maximum(self._total, 1))

    @property
    def _log_change(self) -> Array:
        """``(*batch, p)`` t: zero, with a derivative."""
        return jnp.log(self.rate) - stop_gradient(jnp.log(self.rate))

    def _grid(self, figures: Array) -> Array:
        """``(*batch, p)`` to ``(*batch, R, C)``."""
        return figures[..., plan_index(self.table, "cells")].reshape(
            figures.shape[:-1] + self.table.shape
        )

    @property
    def _moved(self) -> Array:
        """``(*batch, p)`` S t, the change of the means."""
        change, total = self._log_change, self._total
        grid = self._grid(change)
        by_row = (grid * self._columns[..., None, :]).sum(-1)
        by_column = (grid * self._rows[..., :, None]).sum(-2)
        all_of_it = (by_row * self._rows).sum(-1, keepdims=True) / jnp.maximum(total, 1)
        in_row = by_row[..., plan_index(self.table, "row")]
        in_column = by_column[..., plan_index(self.table, "column")]
        # S is a covariance of rows times one of columns: each takes a mean away.
        rest = total * change - in_row - in_column + all_of_it
        return self._expected * rest / jnp.maximum(total - 1, 1)

    @property
    def _log_change_of_sum(self) -> Array:
        """``(*batch,)`` log of the sum of the weights exp(x t) under the law."""
        return (self._log_change * (self._expected + self._moved / 2)).sum(-1)

    def log_partition(self) -> Array:
        rate = self._grid(stop_gradient(self.rate))
        rows = log_poisson(self._rows, rate.sum(-1)).sum(-1)
        columns = log_poisson(self._columns, rate.sum(-2)).sum(-1)
        total = rate.sum((-2, -1))
        # Rows and columns are independent given the total, which both of them tell.
        fixed = rows + columns - log_poisson(self._total, total[..., None])[..., 0]
        return fixed + total - self.rate.sum(-1) + self._log_change_of_sum

    @property
    def weight(self) -> Array:
        # The law does not depend on the rates, but through t.
        return self.mass.weight(jnp.exp(self._log_change), self._expected)

    @property
    def log_weight(self) -> Array:
        return self.mass.log_weight(self._log_change, self._expected)

    @property
    def is_positive(self) -> Array:
        return self._expected > 0

    def log_weight_sum(self) -> Array:
        sizes = self._rows, self._columns, self._total
        rows, columns, total = (self.mass.log_mass_of_all(size).sum(-1) for size in sizes)
        found = rows + columns - total + self._log_change_of_sum
        moved = self.weight - self._expected
        return found + (self.mass.log_sum(moved) - moved).sum(-1)

    def draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        batch = jnp.broadcast_shapes(self.rate.shape[:-1], self._rows.shape[:-1])
        shape = tuple(sample_shape) + batch
        cell = plan_index(self.table, "cell")
        return _draw(key, self.table.shape, self._rows, self._columns, self._bounds, shape)[
            ..., cell
        ]

    @property
    def _bounds(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        sizes = tuple(self._largest.tolist())
        return sizes[: self.table.shape[0]], sizes[self.table.shape[0] :]

    @property
    def mean(self) -> Array:
        return self._expected + self._moved

    @property
    def _spread(self) -> Array:
        """``(*batch, p)`` the variances at t = 0."""
        (in_row, in_column), total = self._sums, self._total
        rest = (total - in_row) * (total - in_column)
        return self._expected * rest / jnp.maximum(total * (total - 1), 1)

    @property
    def variance(self) -> Array:
        (in_row, in_column), total = self._sums, self._total
        # The variance moves by the third central moment times the tilt of the cell.
        skewness = (total - 2 * in_row) * (total - 2 * in_column)
        return self._spread + self._moved * skewness / jnp.maximum(total * (total - 2), 1)

    @property
    def covariance(self) -> Array:
        total = self._total[..., None, None, None]
        rows, columns = (_moments(size, self._total) for size in (self._rows, self._columns))
        scale = jnp.square(total) / jnp.maximum(total - 1, 1)
        found = scale * jnp.einsum("...ik,...jl->...ijkl", rows[0], columns[0])
        change = self._grid(self._log_change)
        third = jnp.einsum("...ikm,...mn,...jln->...ijkl", rows[1], change, columns[1])
        found = found + scale * total / jnp.maximum(total - 2, 1) * third
        size = self.table.shape[0] * self.table.shape[1]
        found = found.reshape(found.shape[:-4] + (size, size))
        cell = plan_index(self.table, "cell")
        return settled(found[..., cell, :][..., cell], self.variance)

    def log_marginals(self, num_values: int) -> Array:
        sizes = (size[..., None] for size in (*self._sums, self._total))
        value = values_of(num_values, self.rate, self.rate.ndim + 1)
        table = log_hypergeometric(value, *sizes)
        tilt = self._moved / jnp.where(self._spread == 0, 1.0, self._spread)
        return table + tilt[..., None] * (value - self._expected[..., None])


def is_product(table: TwoWayTable, rate: Array) -> Array:
    """``(*batch,)`` whether rates ``(*batch, n)`` are such products, up to rounding.

    The plan was made for rates that are, in more digits; a law may have been given others.
    """
    cells = rate[..., table.variables[table.cells].astype(np.int32)]
    cells = cells.reshape(cells.shape[:-1] + table.shape)
    rows, columns = cells.sum(-1, keepdims=True), cells.sum(-2, keepdims=True)
    product = rows / cells.sum((-2, -1), keepdims=True) * columns
    tolerance = (PRODUCT_EPS + sum(table.shape)) * jnp.finfo(rate.dtype).eps
    return ((cells > 0) & (jnp.abs(cells - product) <= tolerance * product)).all((-2, -1))


@partial(jax.jit, static_argnums=(1, 4, 5))
def _draw(
    key: Array,
    table_shape: tuple[int, int],
    rows: Array,
    columns: Array,
    largest: tuple[tuple[int, ...], tuple[int, ...]],
    shape: tuple[int, ...],
) -> Array:
    """``(*shape, R C)`` integer cells."""

    def flat(sizes: Array) -> Array:
        sizes = jnp.broadcast_to(lift(sizes, len(shape) + 1), shape + sizes.shape[-1:])
        return jnp.moveaxis(sizes.reshape(-1, sizes.shape[-1]), -1, 0)

    bounds = np.array(largest[0]), np.array(largest[1])
    drawn = table_draw(key, flat(rows), flat(columns), bounds)
    drawn = jnp.moveaxis(drawn.reshape(table_shape[0] * table_shape[1], -1), 0, -1)
    return drawn.reshape(*shape, drawn.shape[-1]).astype(jnp.result_type(int))


def _moments(sizes: Array, total: Array) -> tuple[Array, Array]:
    """Second and third central moments, ``(*batch, R, R)`` and ``(*batch, R, R, R)``, of which of
    some parts one unit of a total falls in."""
    share = sizes / jnp.maximum(total, 1)
    one = lift(jnp.eye(sizes.shape[-1], dtype=sizes.dtype), sizes.ndim + 1)
    deviation = one - share[..., None]  # of part i, where the unit falls in part u
    second = jnp.einsum("...u,...iu,...ku->...ik", share, deviation, deviation)
    third = jnp.einsum("...u,...iu,...ku,...mu->...ikm", share, *[deviation] * 3)
    return second, third
