"""Independent Bernoulli variables under integer linear constraints: subsets."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient
from jax.nn import log_sigmoid, sigmoid
from numpyro.distributions import constraints

from constrained_core.checks.arguments import exactly_one
from constrained_core.fiber.known import known_logits, known_probs
from numpyro_constrained.distributions.finite import ConstrainedFinite
from numpyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_logits,
    check_probs,
    require_event,
)
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.leaves import derived_property
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.arrays.log_space import safe_log
from numpyro_constrained.kernels.arrays.plans import plan_index
from numpyro_constrained.kernels.fiber.constraint import bind_fiber
from numpyro_constrained.kernels.fiber.parts.bernoulli_edges import BernoulliEdges
from numpyro_constrained.kernels.fiber.parts.bernoulli_groups import BernoulliGroups
from numpyro_constrained.kernels.fiber.parts.fixed import Fixed
from numpyro_constrained.kernels.fiber.parts.free import Free
from numpyro_constrained.kernels.fiber.parts.part import FinitePart
from numpyro_constrained.kernels.fiber.parts.trellis import BernoulliTrellis

__all__ = ["ConstrainedBernoulli"]


class ConstrainedBernoulli(ConstrainedFinite):
    """Independent x_i ~ Bernoulli(p_i) given A x = k.

    With A a row of ones it is the law of a subset of exactly k elements (conditional Bernoulli).
    P(x | A x = k) = prod_i p_i^x_i (1 - p_i)^(1 - x_i) / P(A x = k). Rows that share no variables
    and have one coefficient each go by a balanced tree of products of polynomials, all else by a
    dynamic programme over the columns.

    Args:
        probs: ``(*batch, n)`` in [0, 1], exact zeros and ones included; a number stands for all n.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers, not traced.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        logits: ``(*batch, n)`` log odds instead of ``probs``.
        gradient_estimator: ``score_function`` or ``marginal_expectation``.
        validate_args: whether parameters and values are checked.
        k_max: ``(m,)`` plan once for all k with 0 <= k <= k_max.
        max_transitions: the budget of the dynamic programme, 10^7 unless given.

    Raises:
        InfeasibleConstraintError: no x of zeros and ones satisfies A x = k.
        IntractableConstraintError: the dynamic programme would be too large.
        ConstraintError: shapes that do not fit, numbers that are not whole, probabilities outside
            [0, 1], NaN, a traced A, a value off the support.

    References:
        Chen, Dempster, Liu (1994), *Weighted finite population sampling to maximize entropy*.
        Ahmed, Zeng, Niepert, Van den Broeck (2023), *SIMPLE: A gradient estimator for k-subset
        sampling*.

    Example:
        >>> import jax.numpy as jnp
        >>> law = ConstrainedBernoulli(jnp.array([0.5, 0.5, 0.2]), jnp.ones(3), 2)
        >>> print(law.mean)
        [0.8333 0.8333 0.3333]
    """

    arg_constraints = {
        "probs": constraints.independent(constraints.unit_interval, 1),
        "logits": constraints.real_vector,
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    pytree_data_fields = ("probs", "logits")
    _event_dims = {"probs": 1, "logits": 1}

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
        options = {"k_max": k_max, "max_transitions": max_transitions}
        known = known_logits if name == "logits" else known_probs
        constraint = bind_fiber(A, k, given, upper=1, known=known, **options)
        given = require_event(name, given, (constraint.num_variables,))
        if self._validates(validate_args):
            check_probs(name, given) if name == "probs" else check_logits(name, given)
        batch_shape = batch_shape_of(constraint, **{name: given.shape[:-1]})
        self.__dict__[name] = lifted(given, batch_shape, 1)
        super().__init__(constraint, batch_shape, gradient_estimator, validate_args)

    @derived_property
    def logits(self) -> Array:
        """``(*batch, n)`` log odds of the base law; infinite, with a gradient of zero, at
        probabilities of exactly 0 and 1."""
        return safe_log(self.probs) - safe_log(1 - self.probs)

    @derived_property
    def probs(self) -> Array:
        """``(*batch, n)`` probabilities of the base law."""
        return sigmoid(self.logits)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent Bernoulli law without the constraint."""
        if self.__dict__.get("probs") is not None:
            return dist.Bernoulli(probs=self._expanded(self.probs, 1)).to_event(1)
        return dist.Bernoulli(logits=self._expanded(self.logits, 1)).to_event(1)

    @property
    def _parameter(self) -> Array:
        return self._agreeing(self.logits)

    def _makes_law(self) -> Array:
        probs = self.__dict__.get("probs")
        return ~jnp.isnan(self.logits) if probs is None else (probs >= 0) & (probs <= 1)

    def _agrees(self, parameter: Array) -> Array:
        fixed = self._plan.fixed
        assert fixed is not None
        certain = np.where(fixed.values > 0, np.inf, -np.inf).astype(parameter.dtype)
        given = parameter[..., fixed.variables.astype(np.int32)]
        return (given == lift(certain, given.ndim)).all(-1)

    @property
    def _edge(self) -> Array | None:
        probs = self.__dict__.get("probs")
        if not isinstance(probs, Tracer):
            return None
        sides = jnp.where(probs == 1, 1 - probs, 0.0), jnp.where(probs == 0, probs, 0.0)
        return jnp.stack(sides, -1)

    def _make_parts(self, parameter: Array, edge: Array | None = None) -> list[FinitePart]:
        fiber, plan, parts = self._constraint, self._plan, list[FinitePart]()
        for groups, counts in fiber.groups:
            index = plan_index(groups, "variables")
            given = groups, parameter[..., index], counts, fiber.capacity
            parts.append(
                BernoulliGroups(*given)
                if edge is None
                else BernoulliEdges(*given, edge[..., index, :])
            )
        if fiber.trellis is not None:
            trellis, start = fiber.trellis
            order = trellis.variables[np.argsort(trellis.column)]
            own = None if edge is None else edge[..., order, :]
            parts.append(BernoulliTrellis(trellis, _table(parameter[..., order], own), start, own))
        if plan.free.size:
            own = None if edge is None else edge[..., plan.free.astype(np.int32), :]
            logits = self._full_parameter(parameter, plan.free)
            table = _table(logits, None if own is None else lift(own, logits.ndim + 1))
            parts.append(Free(plan.free, table, own))
        if plan.fixed is not None:
            batch_shape = self._common_batch(parameter)
            parts.append(Fixed(plan.fixed, _table(parameter), batch_shape))
        return parts

    def _log_weight(self, value: Array, parts: Sequence[Any]) -> Array:
        # Linear in the value, so that the gradient of a draw passes.
        logits, shift = lift(self._parameter, value.ndim), self._shift(parts)
        is_finite = jnp.isfinite(logits)
        finite = jnp.where(is_finite, logits, 0.0)
        weight, tilted = value * finite, finite
        if shift is not None:
            tilted = finite + lift(shift, value.ndim)
            moved = stop_gradient(tilted - finite)  # of log odds of 1e9, less than the shift
            weight = weight + stop_gradient(value) * moved
        weight = jnp.where(is_finite, weight + log_sigmoid(-tilted), 0.0)
        if self._edge is not None:  # the certain value has a derivative too
            other = lift(jnp.log1p(-self._edge), value.ndim + 1)
            weight = weight + (1 - value) * other[..., 1] + value * other[..., 0]
        return jnp.where(~is_finite & ((logits > 0) != (value > 0)), -jnp.inf, weight)

    def _log_table(self, parts: Sequence[Any]) -> Array:
        logits, shift = self._parameter, self._shift(parts)
        if shift is None:
            return _table(logits)
        ndim = max(logits.ndim, shift.ndim)
        return _table(lift(logits, ndim) + lift(shift, ndim))

    def _shift(self, parts: Sequence[Any]) -> Array | None:
        """``(*batch, n)`` constants by which values are scored as by log odds near those given the
        sums, which changes no probability given these; None where there are no sums of groups."""
        if not any(isinstance(part, BernoulliGroups) for part in parts):
            return None
        none = jnp.zeros
        return self._joined(
            [
                part.shift if isinstance(part, BernoulliGroups) else none(len(part.variables))
                for part in parts
            ]
        )


def _table(logits: Array, edge: Array | None = None) -> Array:
    table = jnp.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)
    return table if edge is None else table + jnp.log1p(-edge[..., ::-1])
