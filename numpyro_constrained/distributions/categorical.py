"""Independent categorical variables under integer linear constraints."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.core import Tracer
from jax.nn import log_softmax
from numpyro.distributions import constraints

from constrained_core.checks.arguments import exactly_one
from constrained_core.fiber.known import known_categories, known_log_categories
from numpyro_constrained.distributions.finite import ConstrainedFinite
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_category_logits,
    check_category_probs,
    require_categories,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.leaves import derived_property
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.arrays.log_space import safe_log
from numpyro_constrained.kernels.fiber.constraint import bind_fiber
from numpyro_constrained.kernels.fiber.parts.fixed import Fixed
from numpyro_constrained.kernels.fiber.parts.free import Free
from numpyro_constrained.kernels.fiber.parts.part import FinitePart
from numpyro_constrained.kernels.fiber.parts.trellis import TrellisPart

__all__ = ["ConstrainedCategorical"]


class ConstrainedCategorical(ConstrainedFinite):
    """Independent x_i in 0..C-1 with P(x_i = c) = p_ic, given A x = k.

    The values enter A x as numbers: levels, sizes, ranks. By a dynamic programme over the columns.

    Args:
        probs: ``(*batch, n, C)`` nonnegative, with sums of one over the last dimension; sums that
            are not are refused under ``validate_args``, as NumPyro does, and else normalised.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers, not traced.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        logits: ``(*batch, n, C)`` log probabilities up to a constant, instead of ``probs``.
        gradient_estimator: ``score_function`` or ``marginal_expectation``.
        validate_args: whether parameters and values are checked.
        k_max: ``(m,)`` plan once for all k with 0 <= k <= k_max.
        max_transitions: the budget of the dynamic programme, 10^7 unless given.

    Raises:
        InfeasibleConstraintError: no x in 0..C-1 satisfies A x = k.
        IntractableConstraintError: the dynamic programme would be too large.
        ConstraintError: shapes that do not fit, numbers that are not whole, negative or NaN
            probabilities or ones that do not sum to one, a traced A, a value off the support.

    Example:
        >>> import jax.numpy as jnp
        >>> law = ConstrainedCategorical(jnp.ones((2, 3)) / 3, jnp.ones(2), 1)
        >>> law.enumerate_support().tolist()
        [[0, 1], [1, 0]]
    """

    arg_constraints = {
        "probs": constraints.independent(constraints.simplex, 1),
        "logits": constraints.independent(constraints.real, 2),
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    pytree_data_fields = ("probs", "logits")
    _event_dims = {"probs": 2, "logits": 2}
    _parameter_event_dim = 2

    def __init__(
        self,
        probs: Any = None,
        A: Any = None,
        k: Any = None,
        *,
        logits: Any = None,
        gradient_estimator: str = "score_function",
        validate_args: bool | None = None,
        k_max: Any = None,
        max_transitions: int | None = None,
    ) -> None:
        name, given = exactly_one(probs=probs, logits=logits)
        (given,) = floating(**{name: given})
        upper = require_categories(name, given).shape[-1] - 1
        options = {"k_max": k_max, "max_transitions": max_transitions, "grouped": False}
        known = known_log_categories if name == "logits" else known_categories
        constraint = bind_fiber(A, k, given, upper=upper, known=known, **options)
        given = require_event(name, given, (constraint.num_variables, upper + 1))
        if self._validates(validate_args):
            check = check_category_probs if name == "probs" else check_category_logits
            check(name, given)
        batch_shape = batch_shape_of(constraint, **{name: given.shape[:-2]})
        self.__dict__[name] = lifted(_normalised(name, given), batch_shape, 2)
        super().__init__(constraint, batch_shape, gradient_estimator, validate_args)

    @derived_property
    def logits(self) -> Array:
        """``(*batch, n, C)`` log probabilities of the base law."""
        return safe_log(self.probs)

    @derived_property
    def probs(self) -> Array:
        """``(*batch, n, C)`` probabilities of the base law."""
        return jnp.exp(self.logits)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent categorical law without the constraint."""
        if self.__dict__.get("probs") is not None:
            return dist.Categorical(probs=self._expanded(self.probs, 2)).to_event(1)
        return dist.Categorical(logits=self._expanded(self.logits, 2)).to_event(1)

    @property
    def _parameter(self) -> Array:
        return self._agreeing(self.logits)

    def _makes_law(self) -> Array:
        probs = self.__dict__.get("probs")
        return ~jnp.isnan(self.logits) if probs is None else (probs >= 0) & (probs < jnp.inf)

    def _agrees(self, parameter: Array) -> Array:
        possible = self._plan.possible
        return (lift(possible, parameter.ndim) | (parameter == -jnp.inf)).all((-2, -1))

    @property
    def _edge(self) -> Array | None:
        probs = self.__dict__.get("probs")
        if not isinstance(probs, Tracer):
            return None
        return jnp.where(probs == 0, probs, 0.0)

    def _make_parts(self, parameter: Array, edge: Array | None = None) -> list[FinitePart]:
        plan, parts = self._plan, list[FinitePart]()
        if self._constraint.trellis is not None:
            trellis, start = self._constraint.trellis
            order = trellis.variables[np.argsort(trellis.column)]
            own = None if edge is None else edge[..., order, :]
            parts.append(TrellisPart(trellis, parameter[..., order, :], start, own))
        if plan.free.size:
            own = None if edge is None else edge[..., plan.free.astype(np.int32), :]
            parts.append(Free(plan.free, self._full_parameter(parameter, plan.free), own))
        if plan.fixed is not None:
            batch_shape = self._common_batch(parameter)
            parts.append(Fixed(plan.fixed, parameter, batch_shape))
        return parts

    def _log_weight(self, value: Array, parts: Sequence[Any]) -> Array:
        table = lift(self._parameter, value.ndim + 1)
        batch_shape = jnp.broadcast_shapes(value.shape[:-1], table.shape[:-2])
        index = jnp.broadcast_to(value, batch_shape + value.shape[-1:]).astype(np.int32)
        table = jnp.broadcast_to(table, batch_shape + table.shape[-2:])
        return jnp.take_along_axis(table, index[..., None], -1)[..., 0]

    def _log_table(self, parts: Sequence[Any]) -> Array:
        return self._parameter


def _normalised(name: str, given: Array) -> Array:
    if name == "logits":
        return _log_probs(given)
    given = jnp.where(given < 0, jnp.nan, given)  # a ratio of two would be positive
    return given / given.sum(-1, keepdims=True)


def _log_probs(logits: Array) -> Array:
    """``log_softmax``, where infinite logits share all of the probability."""
    is_certain = logits == jnp.inf
    shared = jnp.where(is_certain, 0.0, -jnp.inf).astype(logits.dtype)
    return log_softmax(jnp.where(is_certain.any(-1, keepdims=True), shared, logits), -1)
