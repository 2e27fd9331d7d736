"""Independent categorical variables under integer linear constraints."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from constrained_core.checks.arguments import exactly_one
from constrained_core.fiber.known import Reader, known_categories, known_log_categories
from pyro_constrained.distributions.finite import ConstrainedFinite
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_category_logits,
    check_category_probs,
    require_categories,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.inspection import are_known, is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import is_there, safe_log
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.fiber.constraint import bind_fiber
from pyro_constrained.kernels.fiber.parts.fixed import Fixed
from pyro_constrained.kernels.fiber.parts.free import Free
from pyro_constrained.kernels.fiber.parts.part import FinitePart
from pyro_constrained.kernels.fiber.parts.trellis import TrellisPart

__all__ = ["ConstrainedCategorical"]


@in_full_precision
class ConstrainedCategorical(ConstrainedFinite):
    """Independent x_i in 0..C-1 with P(x_i = c) = p_ic, given A x = k.

    The values enter A x as numbers: levels, sizes, ranks. By a dynamic programme over the columns.

    Args:
        probs: ``(*batch, n, C)`` nonnegative; divided by their sums over the last dimension, as
            PyTorch does.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
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
            probabilities, a value off the support.

    Example:
        >>> import torch
        >>> law = ConstrainedCategorical(torch.ones(2, 3) / 3, torch.ones(2), 1)
        >>> law.enumerate_support()
        tensor([[0., 1.],
                [1., 0.]])
    """

    arg_constraints = {
        "probs": constraints.independent(constraints.simplex, 1),
        "logits": constraints.independent(constraints.real, 2),
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    _event_dims = {"probs": 2, "logits": 2}
    _parameter_event_dim = 2

    @quiet_under_trace
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
        given = require_categories(name, given)
        upper = given.shape[-1] - 1
        options = {"k_max": k_max, "max_transitions": max_transitions, "grouped": False}
        known: Reader | None = known_log_categories
        if name == "probs":  # of which derivatives at 0 and 1 need values that are impossible
            known = None if is_differentiated(given) else known_categories
        constraint = bind_fiber(A, k, given, upper=upper, known=known, **options)
        n = constraint.num_variables
        given = require_event(name, given, (n, given.shape[-1]))
        if self._validates(validate_args):
            check = check_category_probs if name == "probs" else check_category_logits
            check(name, given)
        if name == "probs" and not (self._validates(validate_args) and are_known(given)):
            given = given.masked_fill(given < 0, torch.nan)  # a ratio of two would be positive
        given = given / given.sum(-1, keepdim=True) if name == "probs" else _log_probs(given)
        self._given_probs = given if name == "probs" else None
        parameter = safe_log(given) if name == "probs" else given
        batch_shape = batch_shape_of(constraint, **{name: given.shape[:-2]})
        self.__dict__[name] = expanded(given, batch_shape + given.shape[-2:])
        super().__init__(constraint, parameter, batch_shape, gradient_estimator, validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        """``(*batch, n, C)`` log probabilities of the base law."""
        return safe_log(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """``(*batch, n, C)`` probabilities of the base law."""
        return self.logits.exp()

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent categorical law without the constraint."""
        if "probs" in self.__dict__:
            return dist.Categorical(probs=self.probs).to_event(1)
        return dist.Categorical(logits=self.logits).to_event(1)

    @lazy_property
    def _edge(self) -> Tensor | None:
        probs = self._given_probs
        if probs is None or not is_differentiated(probs):
            return None
        is_never = probs == 0
        if not is_there(is_never):
            return None
        return probs.masked_fill(~is_never, 0.0)

    def _makes_law(self) -> Tensor:
        probs = self.__dict__.get("probs")
        return ~self.logits.isnan() if probs is None else (probs >= 0) & (probs < torch.inf)

    def _make_parts(self, parameter: Tensor) -> list[FinitePart]:
        fiber, free = self._constraint, self._constraint.plan.free
        parts: list[FinitePart] = []
        if fiber.sides.trellis is not None:
            trellis, start = fiber.sides.trellis
            order = trellis.variables[np.argsort(trellis.column)]
            theta, edge = self._select(parameter, order), self._edges_of(order)
            parts.append(TrellisPart(trellis, theta, start, edge))
        if free.size:
            parts.append(Free(free, self._full_parameter(free), self._edges_of(free)))
        if fiber.plan.fixed is not None:
            parts.append(
                Fixed(fiber.plan.fixed, parameter, self._own_batch_shape, parameter.shape[-1])
            )
        return parts

    def _log_weight(self, value: Tensor) -> Tensor:
        batch_shape = torch.broadcast_shapes(value.shape[:-1], self._parameter.shape[:-2])
        table = self._parameter.expand(batch_shape + self._parameter.shape[-2:])
        index = value.long().expand(batch_shape + value.shape[-1:])
        return table.gather(-1, index[..., None])[..., 0]

    @property
    def _log_table(self) -> Tensor:
        return self._parameter


def _log_probs(logits: Tensor) -> Tensor:
    """``log_softmax``, where infinite logits share all of the probability."""
    is_certain = logits == torch.inf
    if is_there(is_certain):
        shared = torch.zeros_like(logits).masked_fill(~is_certain, -torch.inf)
        logits = torch.where(is_certain.any(-1, keepdim=True), shared, logits)
    logits = logits - logits.detach().amax(-1, keepdim=True)  # beside which log(2) may be rounding
    return logits - logits.logsumexp(-1, keepdim=True)
