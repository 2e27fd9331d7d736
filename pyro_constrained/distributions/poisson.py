"""Independent Poisson counts under integer linear constraints."""

import copy
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from constrained_core.fiber.known import known_rates
from pyro_constrained.distributions.discrete import ConstrainedDiscrete
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_nonnegative,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.fiber.constraint import Sides, bind_fiber
from pyro_constrained.kernels.fiber.parts.dealt_trellis import DealtTrellis
from pyro_constrained.kernels.fiber.parts.fixed import FixedCounts
from pyro_constrained.kernels.fiber.parts.free import FreePoisson
from pyro_constrained.kernels.fiber.parts.growth import GrowingCounts
from pyro_constrained.kernels.fiber.parts.part import PoissonPart
from pyro_constrained.kernels.fiber.parts.poisson_groups import PoissonGroups
from pyro_constrained.kernels.fiber.parts.table import IndependentTable
from pyro_constrained.kernels.fiber.parts.trellis import PoissonTrellis
from pyro_constrained.kernels.fiber.poisson_mass import PoissonMass, mass_for, mass_of_averages

__all__ = ["ConstrainedPoisson"]


@in_full_precision
class ConstrainedPoisson(ConstrainedDiscrete):
    """Independent x_i ~ Poisson(lambda_i) given A x = k.

    P(x | A x = k) = prod_i lambda_i^x_i / x_i! / Z(k). One row of ones, and disjoint groups, are
    multinomial: closed forms at any size. All else goes by a dynamic programme over the columns,
    in which equal columns are one (a sum of Poissons is Poisson).

    Args:
        rate: ``(*batch, n)`` lambda, nonnegative; a number stands for all n.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        gradient_estimator: ``score_function`` or ``marginal_expectation``.
        validate_args: whether parameters and values are checked.
        k_max: ``(m,)`` plan once for all k with 0 <= k <= k_max.
        max_transitions: the budget of the dynamic programme, 10^7 unless given.

    Raises:
        InfeasibleConstraintError: no x of nonnegative whole numbers satisfies A x = k.
        UnboundedSupportError: infinitely many do.
        IntractableConstraintError: the dynamic programme would be too large.
        ConstraintError: shapes that do not fit, numbers that are not whole, negative or NaN rates,
            a value off the support.

    Example:
        >>> import torch
        >>> A = torch.tensor([[1, 1, 0], [0, 1, 1]])
        >>> law = ConstrainedPoisson(torch.tensor([1.0, 2.0, 3.0]), A, torch.tensor([1, 1]))
        >>> law.log_prob(law.enumerate_support()).exp()
        tensor([0.4000, 0.6000])
    """

    arg_constraints = {
        "rate": constraints.independent(constraints.nonnegative, 1),
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    _event_dims = {"rate": 1}
    _parts: Sequence[PoissonPart]

    @quiet_under_trace
    def __init__(
        self,
        rate: Any,
        A: Any,
        k: Any,
        *,
        gradient_estimator: str = "score_function",
        validate_args: bool | None = None,
        k_max: Any = None,
        max_transitions: int | None = None,
    ) -> None:
        (rate,) = floating(rate=rate)
        options = {"k_max": k_max, "max_transitions": max_transitions}
        constraint = bind_fiber(A, k, rate, merge=True, known=known_rates, **options)
        n = constraint.num_variables
        rate = require_event("rate", rate, (n,))
        if self._validates(validate_args):
            check_nonnegative("rate", rate)
        batch_shape = batch_shape_of(constraint, rate=rate.shape[:-1])
        self.rate = expanded(rate, batch_shape + (n,))
        super().__init__(constraint, rate, batch_shape, gradient_estimator, validate_args)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent Poisson law without the constraint."""
        return dist.Poisson(self.rate).to_event(1)

    def _makes_law(self) -> Tensor:
        return (self.rate >= 0) & (self.rate < torch.inf)

    def _make_parts(self, parameter: Tensor) -> list[PoissonPart]:
        fiber, plan = self._constraint, self._constraint.plan
        parts = self._parts_of(parameter, fiber.sides)
        if plan.fixed is not None:
            rate = self._full_parameter(plan.fixed.variables)
            zero = FixedCounts(plan.fixed, rate, self._mass)
            if is_differentiated(parameter) and parts:
                sides, possible = fiber.edges(self._own_batch_shape, parameter)
                grown = self._parts_of(parameter, sides)
                parts = [GrowingCounts(plan.fixed, parts, grown, zero, possible)]
            else:
                parts.append(zero)
        if plan.free.size:
            parts.append(FreePoisson(plan.free, self._full_parameter(plan.free), self._mass))
        return parts

    def _parts_of(self, parameter: Tensor, sides: Sides) -> list[PoissonPart]:
        """Those whose variables are in rows of A."""
        plan, mass, parts = self._constraint.plan, self._mass, list[PoissonPart]()
        for groups, counts in sides.groups:
            rate = self._select(parameter, groups.variables)
            largest = int(plan.upper[groups.variables].max(initial=0))
            parts.append(PoissonGroups(groups, rate, counts, largest, mass))
        if sides.trellis is not None:
            trellis, start = sides.trellis
            rate = self._select(parameter, trellis.variables)
            kind = DealtTrellis if trellis.deals else PoissonTrellis
            parts.append(kind(trellis, rate, start, mass))
        for table, margins in sides.tables:
            rate = self._select(parameter, table.variables)
            parts.append(IndependentTable(table, rate, margins, mass))
        return parts

    @lazy_property
    def _mass(self) -> PoissonMass:
        """By which values are scored."""
        return mass_for(self._constraint.plan.largest_terms, self.rate.dtype)

    @lazy_property
    def _figures(self) -> tuple[Tensor, ...]:
        """``(*batch, n)`` what the mass takes of all variables."""
        return tuple(
            self._joined([getattr(part, name) for part in self._parts])
            for name in self._mass.figures
        )

    def _log_weight(self, value: Tensor) -> Tensor:
        has_tiny = any(part.has_tiny for part in self._parts)
        return self._mass.log_mass(value, *self._figures, has_tiny=has_tiny)

    def _for_averages(self, *others: Any) -> "ConstrainedPoisson":
        mass = mass_of_averages(max(law._constraint.plan.largest for law in (self, *others)))
        if type(mass) is type(self._mass):
            return self
        new = copy.copy(self)
        for name in ("_made_parts", "_log_weight_sum", "_figures"):
            new.__dict__.pop(name, None)
        new._mass = mass
        return new

    def _expected_log_weight(self) -> Tensor:
        num_values = self._num_values("entropy")
        parts = [part.expected_log_mass(num_values) for part in self._parts]
        return self._joined(parts).sum(-1)

    def _expected_log_ratio(self, other: Any) -> Tensor:
        is_zero = None
        if any(part.has_tiny for part in (*self._parts, *other._parts)):
            # A mean may be below the least number where the weight is zero: mass is forbidden.
            is_zero = ~self._joined([part.is_positive for part in self._parts])
        figures = self._figures, other._figures
        return self._mass.expected_log_ratio(self.mean, is_zero, *figures).sum(-1)
