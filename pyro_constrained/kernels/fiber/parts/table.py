"""Tables of Poisson counts with independent rows and columns, given all row and column sums.

The law is the generalised hypergeometric one, prod R_i! prod C_j! / (N! prod x_ij!), whatever the
rates: everything has a closed form, at any size. With rates that require a gradient,
``rate_ij = r_i c_j exp(t_ij)``, what is said here holds at t = 0 together with its derivatives in
t, of first order, and of second order for probabilities: x has covariances S in closed form, and
the law of a cell moves as if it were tilted by ``(S t)_ij / S_ij,ij``.
"""

import torch
from torch import Tensor

from constrained_core.fiber.tables import TwoWayTable
from pyro_constrained.kernels.arrays.groups import plan_groups
from pyro_constrained.kernels.arrays.hypergeometric import log_hypergeometric, table_draw
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import is_there
from pyro_constrained.kernels.arrays.plans import plan_tensor
from pyro_constrained.kernels.arrays.poisson_pmf import log_poisson
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.fiber.covariance import settled
from pyro_constrained.kernels.fiber.parts.part import PoissonPart
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass

__all__ = ["IndependentTable"]


class IndependentTable(PoissonPart):
    """The cells of a table.

    Args:
        table: the plan.
        rate: ``(*batch, p)``, products of one factor for each row and one for each column.
        margins: ``(*batch, R + C)`` row sums, then column sums.
        mass: by which values are scored.
    """

    def __init__(
        self, table: TwoWayTable, rate: Tensor, margins: Tensor, mass: PoissonMass
    ) -> None:
        self.variables, self.table, self.mass = table.variables, table, mass
        self.rate, self._rows = rate, margins[..., : table.shape[0]]
        self._columns = margins[..., table.shape[0] :]

    def _along(self, name: str) -> Tensor:
        return plan_tensor(self.table, name, self.rate, torch.int64)

    @lazy_property
    def _total(self) -> Tensor:
        """``(*batch, 1)`` sum of all cells."""
        return self._rows.sum(-1, keepdim=True)

    @lazy_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        """``(*batch, p)`` the row sum and the column sum of every cell."""
        row, column = self._along("row"), self._along("column")
        return self._rows.index_select(-1, row), self._columns.index_select(-1, column)

    @lazy_property
    def _expected(self) -> Tensor:
        """``(*batch, p)`` the means at t = 0."""
        in_row, in_column = self._sums
        return in_row * (in_column / self._total.clamp(min=1))

    @lazy_property
    def _log_change(self) -> Tensor | None:
        """``(*batch, p)`` t; None where no derivative is asked for."""
        if not is_differentiated(self.rate):
            return None
        return self.rate.log() - self.rate.detach().log()

    @lazy_property
    def _moved(self) -> Tensor:
        """``(*batch, p)`` S t, the change of the means."""
        if self._log_change is None:
            return self._zero
        change, total = self._log_change, self._total
        grid = change.index_select(-1, self._along("cells")).unflatten(-1, self.table.shape)
        by_row = (grid @ self._columns[..., None])[..., 0]
        by_column = (self._rows[..., None, :] @ grid)[..., 0, :]
        all_of_it = (by_row * self._rows).sum(-1, keepdim=True) / total.clamp(min=1)
        in_row = by_row.index_select(-1, self._along("row"))
        in_column = by_column.index_select(-1, self._along("column"))
        # S is a covariance of rows times one of columns: each takes a mean away.
        rest = total * change - in_row - in_column + all_of_it
        return self._expected * rest / (total - 1).clamp(min=1)

    def _log_change_of_sum(self) -> Tensor | float:
        """``(*batch,)`` log of the sum of the weights exp(x t) under the law."""
        if self._log_change is None:
            return 0.0
        return (self._log_change * (self._expected + self._moved / 2)).sum(-1)

    def log_partition(self) -> Tensor:
        sides = (self._rows, self._of_rows("row", 0)), (self._columns, self._of_rows("column", 1))
        total = self.rate.detach().sum(-1, keepdim=True)
        margins = sum(log_poisson(size, rate).sum(-1) for size, rate in sides)
        # Rows and columns are independent given the total, which both of them tell.
        fixed = margins - log_poisson(self._total, total)[..., 0]
        return fixed + total[..., 0] - self.rate.sum(-1) + self._log_change_of_sum()

    def _of_rows(self, name: str, side: int) -> Tensor:
        """``(*batch, R)`` or ``(*batch, C)`` sums of rates."""
        rate = self.rate.detach()
        return plan_groups(self.table, name, self.table.shape[side], rate).totals(rate)

    @property
    def weight(self) -> Tensor:
        # The law does not depend on the rates, but through t.
        return self.mass.weight(self._change.exp(), self._expected)

    @property
    def log_weight(self) -> Tensor:
        return self.mass.log_weight(self._change, self._expected)

    @property
    def has_tiny(self) -> bool:
        return is_there(self.weight == 0)

    @property
    def _zero(self) -> Tensor:
        return torch.zeros_like(self._expected)

    @property
    def _change(self) -> Tensor:
        return self._zero if self._log_change is None else self._log_change

    @property
    def is_positive(self) -> Tensor:
        return self._expected > 0

    def log_weight_sum(self) -> Tensor:
        sizes = self._rows, self._columns, self._total
        rows, columns, total = (self.mass.log_mass_of_all(size).sum(-1) for size in sizes)
        found = rows + columns - total
        if self._log_change is None:
            return found
        moved = self.weight - self._expected
        return found + self._log_change_of_sum() + (self.mass.log_sum(moved) - moved).sum(-1)

    @property
    def _margins(self) -> tuple[Tensor, Tensor]:
        return self._rows, self._columns

    def draw(self, sample_shape: tuple[int, ...]) -> Tensor:
        batch = broadcast_shapes(self.rate.shape[:-1], self._rows.shape[:-1])
        shape = tuple(sample_shape) + batch
        margins = (expanded(size, shape + size.shape[-1:]) for size in self._margins)
        return table_draw(*margins).flatten(-2).index_select(-1, self._along("cell"))

    @property
    def mean(self) -> Tensor:
        return self._expected + self._moved

    @lazy_property
    def _spread(self) -> Tensor:
        """``(*batch, p)`` the variances at t = 0."""
        (in_row, in_column), total = self._sums, self._total
        rest = (total - in_row) * (total - in_column)
        return self._expected * rest / (total * (total - 1)).clamp(min=1)

    @property
    def variance(self) -> Tensor:
        (in_row, in_column), total = self._sums, self._total
        # The variance moves by the third central moment times the tilt of the cell.
        skewness = (total - 2 * in_row) * (total - 2 * in_column)
        return self._spread + self._moved * skewness / (total * (total - 2)).clamp(min=1)

    @property
    def covariance(self) -> Tensor:
        total = self._total[..., None, None, None]
        rows, columns = (_moments(size, self._total) for size in self._margins)
        scale = total.square() / (total - 1).clamp(min=1)
        found = scale * torch.einsum("...ik,...jl->...ijkl", rows[0], columns[0])
        if self._log_change is not None:
            change = self._log_change.index_select(-1, self._along("cells"))
            change = change.unflatten(-1, self.table.shape)
            third = torch.einsum("...ikm,...mn,...jln->...ijkl", rows[1], change, columns[1])
            found = found + scale * total / (total - 2).clamp(min=1) * third
        found = found.flatten(-4, -3).flatten(-2)
        cell = self._along("cell")
        found = found.index_select(-1, cell).index_select(-2, cell)
        return settled(found, self.variance)

    def log_marginals(self, num_values: int) -> Tensor:
        value = torch.arange(num_values, device=self.rate.device).to(self.rate.dtype)
        (in_row, in_column), total = self._sums, self._total
        sizes = (size[..., None] for size in (in_row, in_column, total))
        table = log_hypergeometric(value, *sizes)
        if self._log_change is None:
            return table
        tilt = self._moved / self._spread.masked_fill(self._spread == 0, 1.0)
        return table + tilt[..., None] * (value - self._expected[..., None])


def _moments(sizes: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Second and third central moments, ``(*batch, R, R)`` and ``(*batch, R, R, R)``, of which of
    some parts one unit of a total falls in."""
    share, one = sizes / total.clamp(min=1), torch.eye(sizes.shape[-1], device=sizes.device)
    deviation = one.to(sizes) - share[..., None]  # of part i, where the unit falls in part u
    second = torch.einsum("...u,...iu,...ku->...ik", share, deviation, deviation)
    third = torch.einsum("...u,...iu,...ku,...mu->...ikm", share, *[deviation] * 3)
    return second, third
