"""Independent Poisson counts under integer linear constraints."""

import copy
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from constrained_core.fiber.known import known_rates
from numpyro_constrained.distributions.discrete import ConstrainedDiscrete
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_nonnegative,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.fiber.constraint import bind_fiber
from numpyro_constrained.kernels.fiber.parts.dealt_trellis import DealtTrellis
from numpyro_constrained.kernels.fiber.parts.fixed import FixedCounts
from numpyro_constrained.kernels.fiber.parts.free import FreePoisson
from numpyro_constrained.kernels.fiber.parts.part import PoissonPart
from numpyro_constrained.kernels.fiber.parts.poisson_groups import PoissonGroups
from numpyro_constrained.kernels.fiber.parts.table import IndependentTable, is_product
from numpyro_constrained.kernels.fiber.parts.trellis import PoissonTrellis
from numpyro_constrained.kernels.fiber.poisson_mass import PoissonMass, mass_for, mass_of_averages

__all__ = ["ConstrainedPoisson"]


class ConstrainedPoisson(ConstrainedDiscrete):
    """Independent x_i ~ Poisson(lambda_i) given A x = k.

    P(x | A x = k) = prod_i lambda_i^x_i / x_i! / Z(k). One row of ones, and disjoint groups, are
    multinomial: closed forms at any size. All else goes by a dynamic programme over the columns,
    in which equal columns are one (a sum of Poissons is Poisson).

    Args:
        rate: ``(*batch, n)`` lambda, nonnegative; a number stands for all n.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers, not traced.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        gradient_estimator: ``score_function`` or ``marginal_expectation``.
        validate_args: whether parameters and values are checked.
        k_max: ``(m,)`` plan once for all k with 0 <= k <= k_max; needed where k is traced.
        max_transitions: the budget of the dynamic programme, 10^7 unless given.

    Raises:
        InfeasibleConstraintError: no x of nonnegative whole numbers satisfies A x = k.
        UnboundedSupportError: infinitely many do.
        IntractableConstraintError: the dynamic programme would be too large.
        ConstraintError: shapes that do not fit, numbers that are not whole, negative or NaN rates,
            a traced A, a value off the support.

    Example:
        >>> import jax.numpy as jnp
        >>> A = jnp.array([[1, 1, 0], [0, 1, 1]])
        >>> law = ConstrainedPoisson(jnp.array([1.0, 2.0, 3.0]), A, jnp.array([1, 1]))
        >>> print(jnp.exp(law.log_prob(law.enumerate_support())))
        [0.4 0.6]
    """

    arg_constraints = {
        "rate": constraints.independent(constraints.nonnegative, 1),
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    pytree_data_fields = ("rate",)
    _event_dims = {"rate": 1}

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
        rate = require_event("rate", rate, (constraint.num_variables,))
        if self._validates(validate_args):
            check_nonnegative("rate", rate)
        batch_shape = batch_shape_of(constraint, rate=rate.shape[:-1])
        self.rate: Array = lifted(rate, batch_shape, 1)
        super().__init__(constraint, batch_shape, gradient_estimator, validate_args)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent Poisson law without the constraint."""
        return dist.Poisson(self._expanded(self.rate, 1)).to_event(1)

    @property
    def _parameter(self) -> Array:
        return self._agreeing(self.rate)

    def _makes_law(self) -> Array:
        return (self.rate >= 0) & (self.rate < jnp.inf)

    def _agrees(self, parameter: Array) -> Array:
        fixed = self._plan.fixed
        zeros = () if fixed is None else fixed.variables.astype(np.int32)
        agrees = (parameter[..., np.asarray(zeros, np.int32)] == 0).all(-1)
        for table in self._plan.tables:
            agrees = agrees & is_product(table, parameter)
        return agrees

    def _make_parts(self, parameter: Array, edge: Array | None = None) -> list[PoissonPart]:
        fiber, plan, parts = self._constraint, self._plan, list[PoissonPart]()
        mass = self._mass
        for groups, counts in fiber.groups:
            largest = int(plan.upper[groups.variables].max(initial=0))
            rate = parameter[..., plan_index(groups, "variables")]
            parts.append(PoissonGroups(groups, rate, counts, largest, mass))
        if fiber.trellis is not None:
            trellis, start = fiber.trellis
            rate = parameter[..., plan_index(trellis, "variables")]
            kind = DealtTrellis if trellis.deals else PoissonTrellis
            parts.append(kind(trellis, rate, start, mass))
        for table, margins, largest in fiber.tables:
            rate = parameter[..., plan_index(table, "variables")]
            parts.append(IndependentTable(table, rate, margins, largest, mass))
        if plan.fixed is not None:
            rate = self._full_parameter(parameter, plan.fixed.variables)
            parts.append(FixedCounts(plan.fixed, rate, mass))
        if plan.free.size:
            rate = self._full_parameter(parameter, plan.free)
            parts.append(FreePoisson(plan.free, rate, mass))
        return parts

    @property
    def _mass(self) -> PoissonMass:
        """By which values are scored."""
        kept = self.__dict__.get("_mass_of_averages")
        return kept or mass_for(self._plan.largest_terms, self.rate.dtype)

    def _for_averages(self, *others: Any) -> "ConstrainedPoisson":
        new = copy.copy(self)
        new.__dict__.update(self.__dict__)
        largest = max(law._plan.largest for law in (self, *others))
        new.__dict__["_mass_of_averages"] = mass_of_averages(largest)
        return new

    def _figures(self, parts: Sequence[Any], *names: str) -> list[Array]:
        """``(*batch, n)`` figures of the parts."""
        return [self._joined([getattr(part, name) for part in parts]) for name in names]

    def _log_weight(self, value: Array, parts: Sequence[Any]) -> Array:
        figures = self._figures(parts, *self._mass.figures)
        return self._mass.log_mass(value, *(lift(figure, value.ndim) for figure in figures))

    def _expected_log_weight(self, parts: Sequence[Any]) -> Array:
        num_values = self._num_values("entropy")
        return self._joined([part.expected_log_mass(num_values) for part in parts]).sum(-1)

    def _expected_log_ratio(self, parts: Sequence[Any], other: Any, others: Sequence[Any]) -> Array:
        mass = self._mass
        is_positive, *own = self._figures(parts, "is_positive", *mass.figures)
        figures = [self.mean, ~is_positive, *own, *other._figures(others, *mass.figures)]
        ndim = max(figure.ndim for figure in figures)
        mean, is_zero, *both = (lift(figure, ndim) for figure in figures)
        own, others = both[: len(own)], both[len(own) :]
        return mass.expected_log_ratio(mean, is_zero, own, others).sum(-1)
